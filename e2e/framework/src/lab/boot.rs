//! One boot of an emulated host: QEMU 11.1 with an arm64 kernel that has EL2, so that its KVM is
//! real.
//!
//! A boot lasts until the host powers itself off, or until its timeout. `setpriv --pdeathsig`
//! starts the QEMU, so the QEMU ends together with this task, even if the task is killed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::cpu::Cpu;
use super::disk;
use super::folder::Lab;
use super::job::Job;
use super::kernels::Kernel;
use crate::Result;
use crate::tool::{self, Tool};

const SETPRIV: Tool = Tool {
    program: "setpriv",
    package: "util-linux",
};

/// Interval between two checks for the end of a boot.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Connection of two emulated hosts.
#[derive(Clone, Debug)]
pub enum Wire {
    /// A network of two hosts through a socket, on which one of the hosts listens.
    Network {
        /// Path of the socket.
        socket: PathBuf,
        /// `true` if this host listens.
        is_listener: bool,
    },
    /// A second serial line through a socket, on which one of the hosts listens.
    Serial {
        /// Path of the socket.
        socket: PathBuf,
        /// `true` if this host listens.
        is_listener: bool,
    },
}

/// An emulated host, ready to boot.
#[derive(Clone, Debug)]
pub struct EmulatedHost<'a> {
    /// Kernel of the host.
    pub kernel: &'a Kernel,
    /// Emulated CPU model.
    pub cpu: &'a Cpu,
    /// Connection to another host.
    pub wire: Option<Wire>,
    /// Memory of the host in MiB.
    pub memory_mib: u32,
    /// Timeout for one boot, including the job.
    pub timeout: Duration,
}

impl<'a> EmulatedHost<'a> {
    /// Returns a host with the default memory and timeout.
    pub fn new(kernel: &'a Kernel, cpu: &'a Cpu) -> Self {
        Self {
            kernel,
            cpu,
            wire: None,
            memory_mib: 1536,
            timeout: Duration::from_secs(900),
        }
    }

    /// Returns the name in messages and files: `6.12.107__neoverse-n1`.
    pub fn name(&self) -> String {
        format!("{}__{}", self.kernel.version, self.cpu)
    }

    /// Boots the host, runs the job, and unpacks its results into `results`. The console is in
    /// `results.console`.
    ///
    /// # Errors
    /// Returns an error if the host does not boot or shut down in time, or the job leaves no
    /// results, with the end of the console. A script that fails is no
    /// error here: the caller evaluates its status and output.
    pub fn run(&self, lab: &Lab, job: &Job, results: &Path) -> Result<()> {
        tool::ensure_installed(&[SETPRIV])?;
        let folder = tempfile::Builder::new()
            .prefix("boot-")
            .tempdir_in(&lab.folder)?;
        let result_disk = folder.path().join("outd");
        disk::create_result_disk(&result_disk)?;
        let job_disk = folder.path().join("job");
        job.write(self.kernel, folder.path(), &job_disk)?;
        // Remove the results of an earlier run, so that they are not mistaken for new ones.
        crate::debian::remove(results)?;
        let parent = results.parent().ok_or("results without a folder")?;
        fs::create_dir_all(parent)?;
        let console = PathBuf::from(format!("{}.console", results.display()));
        let arguments = self.arguments(lab, job, &job_disk, &result_disk)?;

        let mut command = Command::new(SETPRIV.program);
        command
            .args(["--pdeathsig", "KILL"])
            .arg(lab.emulator()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&console)?)
            .stderr(File::options().append(true).open(&console)?);
        let result = run_with_timeout(&mut command, self.timeout);
        let error_text = |problem: &str| {
            let text = fs::read(&console).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let lines: Vec<_> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(12)..].join("\n  ");
            format!(
                "{}: {problem}; {}:\n  {end}",
                self.name(),
                console.display()
            )
        };
        result.map_err(|error| error_text(&error.to_string()))?;
        disk::unpack_results(&result_disk, results)
            .map_err(|_| error_text("the host left no results"))?;
        if results.join("status").exists() {
            Ok(())
        } else {
            Err(error_text("the job did not end").into())
        }
    }

    fn arguments(
        &self,
        lab: &Lab,
        job: &Job,
        job_disk: &Path,
        result_disk: &Path,
    ) -> Result<Vec<OsString>> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| {
            arguments.push(name.into());
            arguments.push(value);
        };
        let machine = format!("virt,virtualization=on,gic-version=3{}", self.cpu.machine());
        add("-machine", machine.into());
        add("-cpu", self.cpu.option(&self.kernel.release).into());
        // Emulation has one thread, because several boots run at a time.
        add("-accel", "tcg,tb-size=256".into());
        add("-smp", "1".into());
        add("-m", self.memory_mib.to_string().into());
        add("-kernel", self.kernel.image.clone().into());
        add("-initrd", lab.initramfs()?.into());
        let roots = if job.needs_roots { " lab.roots" } else { "" };
        let line = format!(
            "console=ttyAMA0 panic=-1 loglevel=4{}{roots}",
            self.cpu.command_line()
        );
        add("-append", line.into());
        add("-display", "none".into());
        add("-monitor", "none".into());
        add("-serial", "stdio".into());
        let mut disk = |serial: &str, file: &Path, options: &str| {
            let mut drive =
                OsString::from(format!("if=none,id={serial},format=raw,{options},file="));
            // QEMU's escape for a comma in a value.
            drive.push(file.to_string_lossy().replace(',', ",,"));
            add("-drive", drive);
            add(
                "-device",
                format!("nvme,drive={serial},serial={serial}").into(),
            );
        };
        if job.needs_roots {
            disk("roots", &lab.roots()?, "readonly=on");
        }
        disk("job", job_disk, "readonly=on");
        disk("outd", result_disk, "cache=unsafe");
        match &self.wire {
            None => {}
            Some(Wire::Network {
                socket,
                is_listener,
            }) => {
                let path = socket.display().to_string().replace(',', ",,");
                let (server, last) = if *is_listener { ("on", 1) } else { ("off", 2) };
                let retry = if *is_listener {
                    ""
                } else {
                    ",reconnect-ms=200"
                };
                add(
                    "-netdev",
                    format!(
                        "stream,id=wire,server={server}{retry},addr.type=unix,addr.path={path}"
                    )
                    .into(),
                );
                let mac = format!("52:54:00:12:34:0{last}");
                add(
                    "-device",
                    format!("virtio-net-pci,netdev=wire,mac={mac},romfile=").into(),
                );
            }
            Some(Wire::Serial {
                socket,
                is_listener,
            }) => {
                let path = socket.display().to_string().replace(',', ",,");
                let role = if *is_listener {
                    "server=on,wait=off"
                } else {
                    "reconnect-ms=200"
                };
                add(
                    "-chardev",
                    format!("socket,id=wire,path={path},{role}").into(),
                );
                add("-serial", "chardev:wire".into());
            }
        }
        for word in ["-nodefaults", "-no-reboot"] {
            arguments.push(word.into());
        }
        Ok(arguments)
    }
}

/// Runs a command to its end, or kills it after `timeout`.
fn run_with_timeout(command: &mut Command, timeout: Duration) -> Result<()> {
    let start = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", tool::format_command(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return if status.success() {
                Ok(())
            } else {
                Err(format!("QEMU ended with {status}").into())
            };
        }
        if start.elapsed() > timeout {
            child.kill()?;
            child.wait()?;
            return Err(format!("timeout after {} s", timeout.as_secs()).into());
        }
        thread::sleep(EXIT_POLL_INTERVAL);
    }
}
