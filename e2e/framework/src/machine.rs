//! A virtual machine of the live tests: its command line, saving it, loading it.

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

/// How long one command to QEMU, or one migration, may take.
const QEMU_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(120));

/// How long guests may take beyond the time that their timers are set to.
const TIMER_TIMEOUT: Duration = Duration::from_secs(60);

/// A guest's timers fired before it was moved, or nearly so: this machine is too busy for timers so few seconds ahead.
#[derive(Clone, Copy, Debug)]
pub struct TimersExpired;

impl fmt::Display for TimersExpired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the guest's timers fire before the move is over: this machine is too busy")
    }
}

impl std::error::Error for TimersExpired {}

/// The interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Gic {
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

/// Which devices a machine has besides those of the board: a disk, a network card and a random number generator, all virtio.
///
/// The guest leaves them alone; what counts is that their state is in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Devices {
    /// None besides those of the board.
    None,
    /// On the board's own virtio slots.
    Mmio,
    /// On PCI Express.
    Pci,
}

/// How the stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Pages in the stream, as a live migration sends them.
    Plain,
    /// With the capability `xbzrle`.
    Xbzrle,
    /// With the capability `mapped-ram`: a file, RAM at fixed places in it.
    MappedRam,
}

/// What both sides must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    /// QEMU's versioned machine type.
    pub machine_type: &'static str,
    /// QEMU's CPU model.
    pub cpu: &'static str,
    /// How many vCPUs: 1 to 8.
    pub vcpus: u32,
    /// The interrupt controller.
    pub gic: Gic,
    /// What else it has.
    pub devices: Devices,
    /// How its stream is written.
    pub format: Format,
    /// How many seconds ahead its guest sets its timers: one of [`TIMER_SECONDS`](crate::guest::TIMER_SECONDS).
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

    /// The command line, but for the serial port and what makes it a source or a destination.
    pub fn command(&self, qemu: &Qemu, guests: &Guests) -> Vec<OsString> {
        self.command_with_image(qemu, guests.image(self.guest(), self.timer_seconds))
    }

    /// The same with another guest.
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
        // Nothing is read from or written to the disk.
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

    /// Where a stream goes to or comes from, in QEMU's words. The folder's name is ours and needs no quoting.
    fn uri(&self, program: &str, stream: &Path) -> String {
        let path = stream.display();
        match self.format {
            Format::MappedRam => format!("file:{path}"),
            Format::Plain | Format::Xbzrle => format!("exec:{program} {path}"),
        }
    }

    /// Starts this machine on `qemu`, lets the guest write its registers, and saves it to `stream`.
    ///
    /// # Errors
    /// If any of that does not work; with what QEMU and the guest said. [`TimersExpired`] if it took too long.
    pub fn save(&self, qemu: &Qemu, guests: &Guests, stream: &Path) -> Result<()> {
        self.save_through(qemu, guests, "cat >", stream)?;
        Ok(())
    }

    /// The same through a program, given as words of a shell that end with `>`. Gives the source as it is then: the guest is
    /// stopped.
    ///
    /// # Errors
    /// Those of [`Self::save`].
    pub fn save_through(
        &self,
        qemu: &Qemu,
        guests: &Guests,
        program: &str,
        stream: &Path,
    ) -> Result<RunningMachine> {
        let start = Instant::now();
        let mut running = RunningMachine::start(&self.command(qemu, guests), &[])?;
        let saved = running.save(self, program, stream);
        running.with_output(saved)?;
        // The rest is for the way from the load to the guest's first look at them.
        if start.elapsed() > Duration::from_secs(u64::from(self.timer_seconds)) * 2 / 3 {
            return Err(TimersExpired.into());
        }
        Ok(running)
    }

    /// Starts this machine on `qemu`, with a monitor that listens at `monitor`, and lets the guest write its registers.
    ///
    /// # Errors
    /// If it does not start; with what QEMU and the guest said.
    pub fn run(&self, qemu: &Qemu, guests: &Guests, monitor: &Path) -> Result<RunningMachine> {
        let address = format!("unix:{},server=on,wait=off", monitor.display());
        let mut running = RunningMachine::start(&self.command(qemu, guests), &["-qmp", &address])?;
        let ready = running.serial.wait_until_ready(self.vcpus);
        running.with_output(ready)?;
        Ok(running)
    }

    /// Loads `stream` on `qemu`, where the machine then stands still.
    ///
    /// # Errors
    /// If it neither loads nor fails to: QEMU does not start, does not answer, or is in a state that makes no sense.
    pub fn load(&self, qemu: &Qemu, guests: &Guests, stream: &Path) -> Result<LoadResult> {
        self.load_through(qemu, guests, "cat", stream)
    }

    /// The same through a program, given as words of a shell behind which the stream's path can stand.
    ///
    /// # Errors
    /// Those of [`Self::load`].
    pub fn load_through(
        &self,
        qemu: &Qemu,
        guests: &Guests,
        program: &str,
        stream: &Path,
    ) -> Result<LoadResult> {
        let incoming = ["-S", "-incoming", "defer"];
        let mut running = RunningMachine::start(&self.command(qemu, guests), &incoming)?;
        let loaded = running.load(self, program, stream);
        match running.with_output(loaded)? {
            None => Ok(LoadResult::Paused(Box::new(running))),
            Some(failed) => Ok(failed),
        }
    }
}

/// What became of a load.
#[derive(Debug)]
pub enum LoadResult {
    /// QEMU has taken the stream; the guest has not run yet.
    Paused(Box<RunningMachine>),
    /// QEMU has not.
    Failed {
        /// What it said.
        stderr: String,
        /// How it ended (`exit status: 1`, `signal: 6 (SIGABRT) (core dumped)`).
        exit_status: String,
    },
}

/// A machine that a QEMU runs, and its serial port.
#[derive(Debug)]
pub struct RunningMachine {
    qemu: QemuProcess,
    serial: Serial,
    /// The folder of the serial port's socket.
    _folder: TempDir,
}

impl RunningMachine {
    /// Starts a machine's command line with more options.
    ///
    /// # Errors
    /// If it does not start, or has no serial port.
    pub fn start(command: &[OsString], more: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("serial");
        let listener = UnixListener::bind(&path)?;
        let mut additions = vec!["-serial".into(), unix_address(&path)];
        additions.extend(more.iter().map(OsString::from));
        let mut qemu = QemuProcess::start(command, &additions, &QEMU_TIMEOUT)?;
        let serial = Serial::new(qemu.accept(&listener, &QEMU_TIMEOUT)?)?;
        Ok(Self {
            qemu,
            serial,
            _folder: folder,
        })
    }

    /// What QEMU has said.
    pub fn stderr(&self) -> String {
        self.qemu.stderr()
    }

    /// The program and its monitor.
    pub fn qemu(&mut self) -> &mut QemuProcess {
        &mut self.qemu
    }

    /// The guest's serial port.
    pub fn serial(&mut self) -> &mut Serial {
        &mut self.serial
    }

    /// Adds to an error what QEMU and the guest have said.
    ///
    /// # Errors
    /// The same error, with that text.
    pub fn with_output<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let mut text = error.to_string();
            for (who, said) in [
                ("QEMU", self.qemu.stderr()),
                ("the guest", self.serial.transcript().to_owned()),
            ] {
                for line in said.lines() {
                    let _ = write!(text, "\n  {who}: {line}");
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
                    return Err(format!("cannot be saved: {migration}").into());
                }
                _ if Instant::now() >= deadline => return Err("not saved in time".into()),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Loads a stream; gives how that failed, if it did.
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
        let mut answer = started.map(|_| "inmigrate".to_owned());
        let deadline = Instant::now() + QEMU_TIMEOUT.timeout;
        loop {
            match answer {
                Ok(status) if status == "inmigrate" => {}
                Ok(status) if status == "paused" => return Ok(None),
                Ok(status) => return Err(format!("state {status} after loading").into()),
                Err(error) => match error.kind() {
                    // A QEMU that cannot load ends, or dies.
                    ErrorKind::Exited(how) => {
                        return Ok(Some(LoadResult::Failed {
                            stderr: error.stderr().to_owned(),
                            exit_status: how.to_string(),
                        }));
                    }
                    _ => return Err(error.into()),
                },
            }
            if Instant::now() >= deadline {
                return Err("neither loaded nor refused in time".into());
            }
            thread::sleep(Duration::from_millis(10));
            let status = self.qemu.execute("query-status", json!({}), &QEMU_TIMEOUT);
            answer = status.map(|status| status["status"].as_str().unwrap_or_default().to_owned());
        }
    }

    /// Lets a loaded guest run, and gives what it finds. With `values` it also tells what every register should hold.
    ///
    /// # Errors
    /// If it does not run, or says what makes no sense; with what QEMU and the guest said.
    pub fn findings(&mut self, machine: &Machine, values: bool) -> Result<Findings> {
        let timers = Duration::from_secs(machine.timer_seconds.into());
        self.findings_with_timeout(timers + TIMER_TIMEOUT, values)
    }

    /// The same, if a timer may never fire: it is waited for so long.
    ///
    /// # Errors
    /// Those of [`Self::findings`].
    pub fn findings_with_timeout(&mut self, timers: Duration, values: bool) -> Result<Findings> {
        let found = self.resume_and_collect(timers, values);
        self.with_output(found)
    }

    fn resume_and_collect(&mut self, timers: Duration, values: bool) -> Result<Findings> {
        // The byte is there before the guest runs, so that it looks at its timers before they fire.
        self.serial.send(if values { b'L' } else { b'C' })?;
        self.qemu.execute("cont", json!({}), &QEMU_TIMEOUT)?;
        self.serial.findings(timers)
    }
}
