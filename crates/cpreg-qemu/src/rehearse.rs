//! Loading a VM without its RAM into a QEMU that is there, paused: does that very program take it, and what does the
//! guest's CPU hold then?
//!
//! 1. [`Rehearsal::start`] starts the command with `-S -incoming defer` and asks for its device state: the registers
//!    that it lists, at reset. Nothing has arrived yet.
//! 2. [`Rehearsal::load`] sends it a stream ([`Stream::without_ram`]) through a Unix socket, waits for the end,
//!    and asks for its device state again: what the guest would find.
//!
//! An emulating QEMU (TCG) that was asked is not the one that loads: saving fills the memory that registers which the stream
//! lacks are loaded from with their reset values, so that it takes what it would otherwise refuse (seen in 5.2, 7.2, 10.0 and 11.1).
//! A second one, started afresh, loads. Under KVM that memory is filled from the kernel either way.
//!
//! What lives here is the doing. What must not be touched is taken out of the command line in
//! `isolate`, which parts of the stream would be misjudged without RAM in `guest_memory`, and what
//! a result means is decided by the plan of the crate `cpreg`.
//!
//! A loader that fails ends (exit status 1; on SIGABRT for some failures); `exit-on-error` is left as it is.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::device_state::{self, DeviceState};
use crate::error::{Error, ErrorKind};
use crate::process::QemuProcess;
use crate::qmp::{Version, WaitOptions};
use cpreg_stream::{ReadAt, Stream};

/// Message of a socket that fails.
const SEND_ERROR: &str = "cannot send the stream";

/// How much of the stream is sent at once, in bytes.
const CHUNK_LEN: usize = 64 << 10;

/// How long one attempt to send waits.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// How often the end of the load is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A QEMU that waits for a VM.
#[derive(Debug)]
pub struct Rehearsal {
    qemu: QemuProcess,
    initial_state: Result<QueriedState, Error>,
    startup_time: Duration,
}

/// Device state that a QEMU was asked for, and the stream that it is.
#[derive(Debug)]
pub struct QueriedState {
    /// What it said of itself.
    pub state: DeviceState,
    /// What is in it.
    pub stream: Stream,
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// QEMU would run the VM.
    Loaded,
    /// QEMU refused it and ended.
    Failed(ExitStatus),
}

/// What happened.
#[derive(Debug)]
pub struct RehearsalResult {
    /// QEMU's version.
    pub version: Version,
    /// The command line that was run, the program first.
    pub command: Vec<OsString>,
    /// How it ended.
    pub outcome: LoadOutcome,
    /// What QEMU wrote to its standard error while it loaded (at most the last 64 KiB).
    pub stderr: String,
    /// What the VM's devices hold after the load; an error if QEMU could not say. `None` if it did not load.
    pub final_state: Option<Result<QueriedState, Error>>,
    /// From the start of the program to its first answer.
    pub startup_time: Duration,
    /// From the first byte sent to the end of the load.
    pub load_time: Duration,
}

impl QueriedState {
    fn query(qemu: &mut QemuProcess, patience: &WaitOptions<'_>) -> Result<Self, Error> {
        let state = device_state::query(qemu.qmp(), patience)?;
        let stream = Stream::open(&state.stream)?;
        // Whoever asked wants to know what the vCPUs hold.
        stream.vm()?;
        Ok(Self { state, stream })
    }
}

impl Rehearsal {
    /// Starts `command`, which touches nothing, and asks what it has.
    ///
    /// # Errors
    /// If it does not start, or does not wait for a VM; whatever was started has been ended by
    /// then.
    pub fn start(command: &[OsString], patience: &WaitOptions<'_>) -> Result<Self, Error> {
        // Both at once where a second one will be needed: starting is what takes the time.
        let is_emulated = !command.iter().any(|word| is_kvm_option(word));
        let (asked, fresh) = thread::scope(|scope| {
            let fresh = is_emulated.then(|| scope.spawn(|| start_incoming(command, patience)));
            let asked = start_incoming(command, patience);
            let died = || {
                Err(Error::io(
                    SEND_ERROR,
                    io::Error::other("a starting thread died"),
                ))
            };
            let fresh = fresh.map(|fresh| fresh.join().unwrap_or_else(|_| died()));
            (asked, fresh)
        });
        let (mut qemu, started_in) = asked?;
        let host = QueriedState::query(&mut qemu, patience);
        check_interrupted(&qemu, patience)?;
        if !host.as_ref().is_ok_and(|asked| asked.state.kvm) {
            // The one that was asked is ended only when the other is there.
            (qemu, _) = fresh.unwrap_or_else(|| start_incoming(command, patience))?;
        }
        Ok(Self {
            qemu,
            initial_state: host,
            startup_time: started_in,
        })
    }

    /// What this QEMU has before anything arrives: its registers, at reset.
    ///
    /// # Errors
    /// What kept it from saying so; it can load all the same.
    pub fn initial_state(&self) -> Result<&QueriedState, &Error> {
        self.initial_state.as_ref()
    }

    /// QEMU's version.
    pub fn version(&self) -> &Version {
        self.qemu.version()
    }

    /// Has it load this stream, which has no RAM; ends it.
    ///
    /// # Errors
    /// If it does not start, the stream cannot be read or sent, or the load comes to no end; a
    /// refused VM is none.
    pub fn load(
        self,
        stream: &dyn ReadAt,
        patience: &WaitOptions<'_>,
    ) -> Result<RehearsalResult, Error> {
        IncomingQemu(self.qemu).load(stream, self.startup_time, patience)
    }
}

/// Whether a word of the command line asks for KVM: `kvm`, `accel=kvm:tcg`, `-enable-kvm`.
fn is_kvm_option(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let parts = word.split([',', ':', '=', '-']);
    parts.into_iter().any(|part| part == "kvm")
}

/// Has `command` load this stream, without asking it anything before: for who knows already what it has.
///
/// # Errors
/// If it does not start, the stream cannot be read or sent, or the load comes to no end; a refused
/// VM is none.
pub fn load(
    command: &[OsString],
    stream: &dyn ReadAt,
    patience: &WaitOptions<'_>,
) -> Result<RehearsalResult, Error> {
    let (qemu, started_in) = start_incoming(command, patience)?;
    IncomingQemu(qemu).load(stream, started_in, patience)
}

/// Starts `command` as one that waits for a VM; with how long that took.
fn start_incoming(
    command: &[OsString],
    patience: &WaitOptions<'_>,
) -> Result<(QemuProcess, Duration), Error> {
    let begin = Instant::now();
    let additions = ["-S", "-incoming", "defer"].map(OsString::from);
    let qemu = QemuProcess::start(command, &additions, patience)?;
    Ok((qemu, begin.elapsed()))
}

/// An error if somebody asked to give up: that QEMU did not say what it was asked is no answer then.
fn check_interrupted(qemu: &QemuProcess, patience: &WaitOptions<'_>) -> Result<(), Error> {
    if patience.is_interrupted() {
        return Err(qemu.error(ErrorKind::Interrupted));
    }
    Ok(())
}

/// A QEMU into which nothing has been loaded.
struct IncomingQemu(QemuProcess);

impl IncomingQemu {
    fn load(
        mut self,
        stream: &dyn ReadAt,
        started_in: Duration,
        patience: &WaitOptions<'_>,
    ) -> Result<RehearsalResult, Error> {
        let version = self.0.qmp().version().clone();
        let command = self.0.command().to_vec();
        let said_before = self.0.stderr().len();
        let path = self.0.folder().join("stream");
        // The folder is ours: `migrate-incoming` takes the path as it is.
        let uri = path.to_str().map(|path| format!("unix:{path}"));
        let uri = uri.ok_or_else(|| {
            Error::io(
                SEND_ERROR,
                io::Error::other("the temporary folder's name is no UTF-8"),
            )
        })?;
        let arguments = json!({ "uri": uri });
        self.0.execute("migrate-incoming", arguments, patience)?;
        let begin = Instant::now();
        let socket = UnixStream::connect(&path).map_err(|error| Error::io(SEND_ERROR, error))?;
        send(socket, stream, patience)?;
        let ended = self.wait_until_loaded(patience)?;
        let loaded_in = begin.elapsed();
        let after = ended
            .is_none()
            .then(|| QueriedState::query(&mut self.0, patience));
        check_interrupted(&self.0, patience)?;
        let (_, said) = self
            .0
            .quit()
            .map_err(|error| Error::io(SEND_ERROR, error))?;
        // Only the end of a long text is kept.
        let said = said.get(said_before..).unwrap_or(&said).trim().to_owned();
        Ok(RehearsalResult {
            version,
            command,
            outcome: ended.map_or(LoadOutcome::Loaded, LoadOutcome::Failed),
            stderr: said,
            final_state: after,
            startup_time: started_in,
            load_time: loaded_in,
        })
    }

    /// Waits until the VM is loaded, or QEMU has ended: then with its status.
    fn wait_until_loaded(
        &mut self,
        patience: &WaitOptions<'_>,
    ) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + patience.timeout;
        loop {
            match self.is_loaded(patience) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(error) => {
                    return match *error.kind() {
                        // Ctrl-C reaches QEMU as well.
                        ErrorKind::Exited(_) if patience.is_interrupted() => {
                            Err(self.0.error(ErrorKind::Interrupted))
                        }
                        ErrorKind::Exited(status) if is_refusal(status) => Ok(Some(status)),
                        _ => Err(error),
                    };
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::LoadTimedOut(patience.timeout)));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn is_loaded(&mut self, patience: &WaitOptions<'_>) -> Result<bool, Error> {
        let status = self.0.execute("query-status", json!({}), patience)?;
        let status = status.get("status").and_then(Value::as_str);
        // It leaves this state when everything is loaded and the devices are ready to run.
        Ok(status.ok_or(Error::unexpected_reply("query-status"))? != "inmigrate")
    }
}

/// Whether a QEMU that ended so refused the VM, or died of it. Who is told to end exits with 0 or by that signal; who lacks memory is killed.
fn is_refusal(status: ExitStatus) -> bool {
    /// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV of Linux on arm64 and x86-64: what a program brings upon itself.
    const FATAL_SIGNALS: [i32; 6] = [4, 5, 6, 7, 8, 11];
    match status.signal() {
        Some(signal) => FATAL_SIGNALS.contains(&signal),
        None => !status.success(),
    }
}

/// Sends the whole stream and then its end. A loader that refuses reads no more: that is no failure here.
fn send(
    mut socket: UnixStream,
    stream: &dyn ReadAt,
    patience: &WaitOptions<'_>,
) -> Result<(), Error> {
    // In steps, so that Ctrl-C is noticed.
    socket
        .set_write_timeout(Some(WRITE_TIMEOUT))
        .map_err(|error| Error::io(SEND_ERROR, error))?;
    let length = stream
        .length()
        .map_err(|error| Error::io("cannot read the stream", error))?;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut at = 0;
    let mut deadline = Instant::now() + patience.timeout;
    while at < length {
        let count = usize::try_from(length - at)
            .unwrap_or(CHUNK_LEN)
            .min(CHUNK_LEN);
        let chunk = &mut chunk[..count];
        stream
            .read_exact_at(chunk, at)
            .map_err(|error| Error::io("cannot read the stream", error))?;
        match socket.write(chunk) {
            Ok(written) => {
                at += written as u64;
                deadline = Instant::now() + patience.timeout;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(()),
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    // Who asks next is told so.
                    if patience.is_interrupted() {
                        return Ok(());
                    }
                    if Instant::now() >= deadline {
                        return Err(Error::new(ErrorKind::LoadTimedOut(patience.timeout)));
                    }
                }
                _ => return Err(Error::io(SEND_ERROR, error)),
            },
        }
    }
    match socket.shutdown(std::net::Shutdown::Write) {
        // It has closed its end already.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
            Err(Error::io(SEND_ERROR, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As wait(2) gives it: the exit status in the second byte, a signal in the first.
    #[test]
    fn who_is_ended_refuses_nothing() {
        for (status, expected) in [
            (0x100, true),
            (6, true),
            (11, true),
            (0, false),
            (2, false),
            (9, false),
        ] {
            assert_eq!(
                is_refusal(ExitStatus::from_raw(status)),
                expected,
                "{status:#x}"
            );
        }
    }

    /// Nobody reads, and there is more than a socket takes.
    #[test]
    fn sending_is_given_up() {
        use std::sync::atomic::AtomicBool;

        let stream = vec![0; 4 << 20];
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let stuck = send(
            ours,
            &stream,
            &WaitOptions::with_timeout(Duration::from_millis(1)),
        );
        assert!(
            stuck
                .as_ref()
                .is_err_and(|error| matches!(error.kind(), ErrorKind::LoadTimedOut(_))),
            "{stuck:?}"
        );
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let flag = AtomicBool::new(true);
        let patience = WaitOptions {
            timeout: Duration::from_secs(600),
            interrupted: Some(&flag),
        };
        send(ours, &stream, &patience).unwrap();
    }

    #[test]
    fn kvm_is_found_in_every_spelling() {
        for word in [
            "kvm",
            "virt,accel=kvm",
            "accel=kvm:tcg",
            "-enable-kvm",
            "kvm,dirty-ring-size=1",
        ] {
            assert!(is_kvm_option(OsStr::new(word)), "{word}");
        }
        for word in ["tcg", "/usr/bin/qemu-system-aarch64", "kvmtool.img", ""] {
            assert!(!is_kvm_option(OsStr::new(word)), "{word}");
        }
    }
}
