//! A virtual machine of the live tests: its command line, and how tests save and load it.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cpreg_qemu::ErrorKind;
use cpreg_qemu::process::{QemuProcess, unix_address};
use cpreg_qemu::qmp::WaitOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Result;
use crate::guest::{Guest, Guests};
use crate::qemu::Qemu;
use crate::serial::{Findings, Serial};

/// Timeout for one command to QEMU, or one migration.
const QEMU_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(120));

/// Additional time in which guests must finish after the delay of their timers.
const TIMER_TIMEOUT: Duration = Duration::from_secs(60);

/// Error if a guest's timers fired, or nearly fired, before the guest was moved. This machine is
/// too busy for the delay.
#[derive(Clone, Copy, Debug)]
pub struct TimersExpired;

impl fmt::Display for TimersExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest's timers fire before the move is over: this machine is too busy")
    }
}

impl std::error::Error for TimersExpired {}

/// Version of the interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gic {
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

/// Virtio devices of a machine in addition to the board's own: a disk, a network card and a random
/// number generator.
///
/// The guest does not use these devices. Their state is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Devices {
    /// No additional devices.
    None,
    /// Devices on the virtio slots of the board.
    Mmio,
    /// Devices on PCI Express.
    Pci,
}

/// Format in which QEMU writes the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Whole pages, as a live migration sends them.
    Plain,
    /// Pages as differences, with the capability `xbzrle`.
    Xbzrle,
    /// RAM at fixed offsets of a file, with the capability `mapped-ram`.
    MappedRam,
}

/// Configuration of a machine, on which both sides must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    /// Versioned machine type of QEMU.
    pub machine_type: &'static str,
    /// CPU model of QEMU.
    pub cpu: &'static str,
    /// Number of vCPUs: 1 to 8.
    pub vcpus: u32,
    /// Interrupt controller.
    pub gic: Gic,
    /// Additional devices.
    pub devices: Devices,
    /// Format of the stream.
    pub format: Format,
    /// Delay of the guest's timers in seconds: one of
    /// [`TIMER_SECONDS`](crate::guest::TIMER_SECONDS).
    pub timer_seconds: u32,
}

impl Machine {
    fn guest(&self) -> Guest {
        if self.cpu == "cortex-a15" {
            Guest::Aarch32
        } else {
            Guest::Aarch64
        }
    }

    /// Returns the command line, without the serial port and the options of a source or a
    /// destination.
    pub fn command(&self, qemu: &Qemu, guests: &Guests) -> Vec<OsString> {
        self.command_with_image(qemu, guests.image(self.guest(), self.timer_seconds))
    }

    /// Returns the command line with another guest.
    pub fn command_with_image(&self, qemu: &Qemu, guest: &Path) -> Vec<OsString> {
        let gic = match self.gic {
            Gic::V2 => 2,
            Gic::V3 => 3,
        };
        let mut command = vec![qemu.program().into_os_string()];
        let text = format!(
            "-nodefaults -display none -machine {},gic-version={gic} -cpu {} -smp {} -m 64 -accel tcg",
            self.machine_type, self.cpu, self.vcpus
        );
        command.extend(text.split(' ').map(OsString::from));
        command.push("-kernel".into());
        command.push(guest.into());
        // Nothing reads from or writes to the disk.
        let text = match self.devices {
            Devices::None => "",
            Devices::Mmio => {
                "-blockdev driver=null-co,node-name=disk,size=8388608,read-zeroes=on -netdev user,id=net \
                 -device virtio-blk-device,drive=disk -device virtio-rng-device \
                 -device virtio-net-device,netdev=net,mac=52:54:00:12:34:56"
            }
            Devices::Pci => {
                "-blockdev driver=null-co,node-name=disk,size=8388608,read-zeroes=on -netdev user,id=net \
                 -device virtio-blk-pci,drive=disk -device virtio-rng-pci \
                 -device virtio-net-pci,netdev=net,mac=52:54:00:12:34:56,romfile="
            }
        };
        command.extend(text.split_whitespace().map(OsString::from));
        command
    }

    fn capabilities(&self) -> Value {
        let names: &[&str] = match self.format {
            Format::Plain => &[],
            Format::Xbzrle => &["xbzrle"],
            Format::MappedRam => &["mapped-ram"],
        };
        names
            .iter()
            .map(|name| json!({"capability": name, "state": true}))
            .collect()
    }

    /// Returns the URI of a stream, for QEMU. The folder's name needs no quoting.
    fn uri(&self, program: &str, stream: &Path) -> String {
        let path = stream.display();
        match self.format {
            Format::MappedRam => format!("file:{path}"),
            Format::Plain | Format::Xbzrle => format!("exec:{program} {path}"),
        }
    }

    /// Starts this machine on `qemu`, waits until the guest has written its registers, and saves it
    /// to `stream`.
    ///
    /// # Errors
    /// Returns an error if a step fails, with the output of QEMU and of the guest. The error is
    /// [`TimersExpired`] if the steps took too long.
    pub fn save(&self, qemu: &Qemu, guests: &Guests, stream: &Path) -> Result<()> {
        self.save_through(qemu, guests, "cat >", stream)?;
        Ok(())
    }

    /// Saves the machine through a filter: `program`, a shell command that ends with `>`. Returns
    /// the source machine, whose guest is stopped.
    ///
    /// # Errors
    /// Returns the errors of [`Self::save`].
    pub fn save_through(
        &self,
        qemu: &Qemu,
        guests: &Guests,
        program: &str,
        stream: &Path,
    ) -> Result<RunningMachine> {
        let start = Instant::now();
        let mut running = RunningMachine::start(&self.command(qemu, guests), &[])?;
        let result = running.save(self, program, stream);
        running.with_output(result)?;
        // The rest of the delay must suffice for the load, until the guest first reads its timers.
        if start.elapsed() > Duration::from_secs(u64::from(self.timer_seconds)) * 2 / 3 {
            return Err(TimersExpired.into());
        }
        Ok(running)
    }

    /// Starts this machine on `qemu`, with a monitor that listens at `monitor`, and waits until the
    /// guest has written its registers.
    ///
    /// # Errors
    /// Returns an error if QEMU does not start, with the output of QEMU and of the guest.
    pub fn run(&self, qemu: &Qemu, guests: &Guests, monitor: &Path) -> Result<RunningMachine> {
        let address = format!("unix:{},server=on,wait=off", monitor.display());
        let mut running = RunningMachine::start(&self.command(qemu, guests), &["-qmp", &address])?;
        let ready = running.serial.wait_until_ready(self.vcpus);
        running.with_output(ready)?;
        Ok(running)
    }

    /// Loads `stream` on `qemu`, where the machine then is paused.
    ///
    /// # Errors
    /// Returns an error if QEMU neither loads the stream nor refuses it: QEMU does not start, does
    /// not reply, or is in an unexpected state.
    pub fn load(&self, qemu: &Qemu, guests: &Guests, stream: &Path) -> Result<LoadResult> {
        self.load_through(qemu, guests, "cat", stream)
    }

    /// Loads the stream through a filter: `program`, a shell command to which the stream's path is
    /// appended.
    ///
    /// # Errors
    /// Returns the errors of [`Self::load`].
    pub fn load_through(
        &self,
        qemu: &Qemu,
        guests: &Guests,
        program: &str,
        stream: &Path,
    ) -> Result<LoadResult> {
        let incoming = ["-S", "-incoming", "defer"];
        let mut running = RunningMachine::start(&self.command(qemu, guests), &incoming)?;
        let result = running.load(self, program, stream);
        match running.with_output(result)? {
            None => Ok(LoadResult::Paused(Box::new(running))),
            Some(failed) => Ok(failed),
        }
    }
}

/// Outcome of a load.
#[derive(Debug)]
pub enum LoadResult {
    /// QEMU accepted the stream. The guest has not run yet.
    Paused(Box<RunningMachine>),
    /// QEMU did not accept the stream.
    Failed {
        /// Output of QEMU.
        stderr: String,
        /// Exit status of QEMU (`exit status: 1`, `signal: 6 (SIGABRT) (core dumped)`).
        exit_status: String,
    },
}

/// A machine in a running QEMU, with its serial port.
#[derive(Debug)]
pub struct RunningMachine {
    qemu: QemuProcess,
    serial: Serial,
    /// Folder of the serial port's socket.
    _folder: TempDir,
}

impl RunningMachine {
    /// Starts the command line of a machine with additional options.
    ///
    /// # Errors
    /// Returns an error if QEMU does not start, or has no serial port.
    pub fn start(command: &[OsString], options: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("serial");
        let listener = UnixListener::bind(&path)?;
        let mut additions = vec!["-serial".into(), unix_address(&path)];
        additions.extend(options.iter().map(OsString::from));
        let mut qemu = QemuProcess::start(command, &additions, &QEMU_TIMEOUT)?;
        let serial = Serial::new(qemu.accept(&listener, &QEMU_TIMEOUT)?)?;
        Ok(Self {
            qemu,
            serial,
            _folder: folder,
        })
    }

    /// Returns the output of QEMU.
    pub fn stderr(&self) -> String {
        self.qemu.stderr()
    }

    /// Returns the process and its monitor.
    pub fn qemu(&mut self) -> &mut QemuProcess {
        &mut self.qemu
    }

    /// Returns the guest's serial port.
    pub fn serial(&mut self) -> &mut Serial {
        &mut self.serial
    }

    /// Adds the output of QEMU and of the guest to an error.
    ///
    /// # Errors
    ///
    /// Returns the error of `result`, with that output.
    pub fn with_output<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let mut text = error.to_string();
            for (source, output) in [
                ("QEMU", self.qemu.stderr()),
                ("the guest", self.serial.transcript().to_owned()),
            ] {
                for line in output.lines() {
                    let _ = write!(text, "\n  {source}: {line}");
                }
            }
            text.into()
        })
    }

    fn set_capabilities(&mut self, machine: &Machine) -> Result<()> {
        let capabilities = machine.capabilities();
        if capabilities.as_array().is_some_and(|list| !list.is_empty()) {
            let arguments = json!({"capabilities": capabilities});
            self.qemu
                .execute("migrate-set-capabilities", arguments, &QEMU_TIMEOUT)?;
        }
        Ok(())
    }

    fn save(&mut self, machine: &Machine, program: &str, stream: &Path) -> Result<()> {
        self.serial.wait_until_ready(machine.vcpus)?;
        self.set_capabilities(machine)?;
        let unlimited = json!({"max-bandwidth": 1_u64 << 40});
        self.qemu
            .execute("migrate-set-parameters", unlimited, &QEMU_TIMEOUT)?;
        let arguments = json!({"uri": machine.uri(program, stream)});
        self.qemu.execute("migrate", arguments, &QEMU_TIMEOUT)?;
        let deadline = Instant::now() + QEMU_TIMEOUT.timeout;
        loop {
            let migration = self
                .qemu
                .execute("query-migrate", json!({}), &QEMU_TIMEOUT)?;
            match migration["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(format!("cannot save the machine: {migration}").into());
                }
                _ if Instant::now() >= deadline => {
                    return Err("timeout while saving the machine".into());
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Loads a stream. Returns `None` if QEMU accepted it, or the failure of the load.
    fn load(
        &mut self,
        machine: &Machine,
        program: &str,
        stream: &Path,
    ) -> Result<Option<LoadResult>> {
        self.set_capabilities(machine)?;
        let arguments = json!({"uri": machine.uri(program, stream)});
        let started = self
            .qemu
            .execute("migrate-incoming", arguments, &QEMU_TIMEOUT);
        let mut run_state = started.map(|_| "inmigrate".to_owned());
        let deadline = Instant::now() + QEMU_TIMEOUT.timeout;
        loop {
            match run_state {
                Ok(status) if status == "inmigrate" => {}
                Ok(status) if status == "paused" => return Ok(None),
                Ok(status) => return Err(format!("state {status} after loading").into()),
                Err(error) => match error.kind() {
                    // A QEMU that cannot load exits, or crashes.
                    ErrorKind::Exited(status) => {
                        return Ok(Some(LoadResult::Failed {
                            stderr: error.stderr().to_owned(),
                            exit_status: status.to_string(),
                        }));
                    }
                    _ => return Err(error.into()),
                },
            }
            if Instant::now() >= deadline {
                return Err("timeout while loading the stream".into());
            }
            thread::sleep(Duration::from_millis(10));
            let status = self.qemu.execute("query-status", json!({}), &QEMU_TIMEOUT);
            run_state =
                status.map(|status| status["status"].as_str().unwrap_or_default().to_owned());
        }
    }

    /// Runs a loaded guest, and returns its findings. With `values` the guest also reports the
    /// expected value of every register.
    ///
    /// # Errors
    /// Returns an error if the guest does not run, or prints an unexpected line, with the output of
    /// QEMU and of the guest.
    pub fn findings(&mut self, machine: &Machine, values: bool) -> Result<Findings> {
        let timers = Duration::from_secs(machine.timer_seconds.into());
        self.findings_with_timeout(timers + TIMER_TIMEOUT, values)
    }

    /// Returns the findings of a guest whose timers may never fire. Waits for them at most this
    /// long.
    ///
    /// # Errors
    /// Returns the errors of [`Self::findings`].
    pub fn findings_with_timeout(&mut self, timers: Duration, values: bool) -> Result<Findings> {
        let findings = self.resume_and_collect(timers, values);
        self.with_output(findings)
    }

    fn resume_and_collect(&mut self, timers: Duration, values: bool) -> Result<Findings> {
        // Send the byte while the guest is paused, so that the guest checks its timers before they
        // fire.
        self.serial.send(if values { b'L' } else { b'C' })?;
        self.qemu.execute("cont", json!({}), &QEMU_TIMEOUT)?;
        self.serial.findings(timers)
    }
}
