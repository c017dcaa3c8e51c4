//! Rehearsal: the load of a VM without its RAM into a paused QEMU.
//!
//! A rehearsal shows if this very QEMU accepts the VM, and the state of the guest's CPU after the
//! load.
//!
//! 1. [`Rehearsal::start`] starts the command with `-S -incoming defer` and queries its device
//!    state: the registers that QEMU lists, at reset, before anything is loaded.
//! 2. [`Rehearsal::load`] sends a stream ([`Stream::without_ram`]) through a Unix socket, waits for
//!    the end of the load, and queries the device state that the guest would see.
//!
//! Under TCG, a second, newly started QEMU loads the VM. A query makes QEMU save its devices, and
//! QEMU keeps the saved register values in memory. A load into the same QEMU would take registers
//! that the stream lacks from that memory. QEMU would thus accept streams that it otherwise refuses
//! (observed in 5.2, 7.2, 10.0 and 11.1). Under KVM, the kernel fills that memory in both cases.
//! The queried QEMU then loads the VM.
//!
//! [`crate::isolate`] removes from the command line every part that accesses the host.
//! [`cpreg_stream`] knows the sections that cannot be verified without RAM, and the plan of the
//! crate `cpreg` interprets the result.
//!
//! A QEMU that fails to load exits (status 1, for some failures by SIGABRT). `exit-on-error` keeps
//! its default.

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

/// Message for a failed operation on the socket.
const SEND_ERROR: &str = "cannot send the stream";

/// Length in bytes of one write of the stream.
const CHUNK_LEN: usize = 64 << 10;

/// Timeout of one write. After it, the sender checks the interrupt flag.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);

/// Interval between two checks for the end of the load.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// QEMU that waits for a VM, with its queried initial state.
#[derive(Debug)]
pub struct Rehearsal {
    qemu: QemuProcess,
    initial_state: Result<QueriedState, Error>,
    startup_time: Duration,
}

/// Queried device state, with the parsed stream.
#[derive(Debug)]
#[non_exhaustive]
pub struct QueriedState {
    /// Device state that QEMU wrote.
    pub state: DeviceState,
    /// Parsed form of the stream in `state`.
    pub stream: Stream,
}

/// Outcome of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadOutcome {
    /// QEMU loaded the VM.
    Loaded,
    /// QEMU refused the VM and exited.
    Failed(ExitStatus),
}

/// Result of a rehearsal.
#[derive(Debug)]
#[non_exhaustive]
pub struct RehearsalResult {
    /// QEMU's version.
    pub version: Version,
    /// Command line that cpreg ran, with the program first.
    pub command: Vec<OsString>,
    /// Outcome of the load.
    pub outcome: LoadOutcome,
    /// QEMU's standard error during the load (at most the last 64 KiB).
    pub stderr: String,
    /// Device state after the load, or the error of the query. `None` if QEMU did not load the VM.
    pub final_state: Option<Result<QueriedState, Error>>,
    /// Time from the start of the program to its first reply.
    pub startup_time: Duration,
    /// Time from the first byte sent to the end of the load.
    pub load_time: Duration,
}

impl QueriedState {
    fn query(qemu: &mut QemuProcess, options: &WaitOptions<'_>) -> Result<Self, Error> {
        let state = device_state::query(qemu.qmp(), options)?;
        let stream = Stream::open(&state.stream)?;
        // The caller needs the vCPUs, so report their error here.
        stream.vm()?;
        Ok(Self { state, stream })
    }
}

/// A QEMU that waits for a VM, and its queried state.
struct QueriedQemu {
    qemu: QemuProcess,
    state: Result<QueriedState, Error>,
    startup_time: Duration,
}

/// Starts a QEMU and queries its device state.
fn start_and_query(command: &[OsString], options: &WaitOptions<'_>) -> Result<QueriedQemu, Error> {
    let (mut qemu, startup_time) = start_incoming(command, options)?;
    let state = QueriedState::query(&mut qemu, options);
    check_interrupted(&qemu, options)?;
    Ok(QueriedQemu {
        qemu,
        state,
        startup_time,
    })
}

impl Rehearsal {
    /// Starts `command`, which must be isolated, and queries its device state.
    ///
    /// # Errors
    /// Returns an error if QEMU does not start, or does not wait for a VM. All started processes
    /// have ended.
    pub fn start(command: &[OsString], options: &WaitOptions<'_>) -> Result<Self, Error> {
        if command.iter().any(|word| is_kvm_option(word)) {
            let mut queried = start_and_query(command, options)?;
            if !queried.state.as_ref().is_ok_and(|it| it.state.kvm) {
                // The assignment ends the queried QEMU, after the second one has started.
                (queried.qemu, _) = start_incoming(command, options)?;
            }
            return Ok(Self {
                qemu: queried.qemu,
                initial_state: queried.state,
                startup_time: queried.startup_time,
            });
        }
        // An emulator needs a second QEMU. Start two in parallel, because starting takes most of
        // the time. A QEMU ends with the thread that started it, so the queried one ends there.
        let (queried, fresh) = thread::scope(|scope| {
            let queried = scope
                .spawn(|| start_and_query(command, options).map(|it| (it.state, it.startup_time)));
            let fresh = start_incoming(command, options);
            let panicked = |_| {
                Err(Error::io(
                    SEND_ERROR,
                    io::Error::other("a starting thread panicked"),
                ))
            };
            (queried.join().unwrap_or_else(panicked), fresh)
        });
        let (initial_state, startup_time) = queried?;
        let (qemu, _) = fresh?;
        Ok(Self {
            qemu,
            initial_state,
            startup_time,
        })
    }

    /// Returns the state of this QEMU before the load: its registers at reset.
    ///
    /// # Errors
    /// The error of the query, after which QEMU can load nevertheless.
    pub fn initial_state(&self) -> Result<&QueriedState, &Error> {
        self.initial_state.as_ref()
    }

    /// Returns QEMU's version.
    pub fn version(&self) -> &Version {
        self.qemu.version()
    }

    /// Loads a stream without RAM, then ends QEMU.
    ///
    /// # Errors
    /// Returns an error if QEMU does not start, the stream cannot be read or sent, or the load does
    /// not finish. A refused VM is not an error.
    pub fn load(
        self,
        stream: &dyn ReadAt,
        options: &WaitOptions<'_>,
    ) -> Result<RehearsalResult, Error> {
        IncomingQemu(self.qemu).load(stream, self.startup_time, options)
    }
}

/// Returns `true` if a word of the command line requests KVM: `kvm`, `accel=kvm:tcg`,
/// `-enable-kvm`.
fn is_kvm_option(word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let parts = word.split([',', ':', '=', '-']);
    parts.into_iter().any(|part| part == "kvm")
}

/// Loads a stream into `command` without querying its device state first.
///
/// # Errors
/// Returns an error if QEMU does not start, the stream cannot be read or sent, or the load does not
/// finish. A refused VM is not an error.
pub fn load(
    command: &[OsString],
    stream: &dyn ReadAt,
    options: &WaitOptions<'_>,
) -> Result<RehearsalResult, Error> {
    let (qemu, startup_time) = start_incoming(command, options)?;
    IncomingQemu(qemu).load(stream, startup_time, options)
}

/// Starts `command` as a QEMU that waits for a VM, and returns QEMU and its startup time.
fn start_incoming(
    command: &[OsString],
    options: &WaitOptions<'_>,
) -> Result<(QemuProcess, Duration), Error> {
    let begin = Instant::now();
    let additions = ["-S", "-incoming", "defer"].map(OsString::from);
    let qemu = QemuProcess::start(command, &additions, options)?;
    Ok((qemu, begin.elapsed()))
}

/// Returns an error if the caller gave up, because a query that failed for this reason shows
/// nothing about QEMU.
fn check_interrupted(qemu: &QemuProcess, options: &WaitOptions<'_>) -> Result<(), Error> {
    if options.is_interrupted() {
        return Err(qemu.error(ErrorKind::Interrupted));
    }
    Ok(())
}

/// QEMU that waits for a VM.
struct IncomingQemu(QemuProcess);

impl IncomingQemu {
    fn load(
        mut self,
        stream: &dyn ReadAt,
        startup_time: Duration,
        options: &WaitOptions<'_>,
    ) -> Result<RehearsalResult, Error> {
        let version = self.0.qmp().version().clone();
        let command = self.0.command().to_vec();
        let initial_len = self.0.stderr().len();
        let path = self.0.folder().join("stream");
        // cpreg created the folder, so `migrate-incoming` needs no quoting of the path.
        let uri = path.to_str().map(|path| format!("unix:{path}"));
        let uri = uri.ok_or_else(|| {
            Error::io(
                SEND_ERROR,
                io::Error::other("the name of the temporary folder is not UTF-8"),
            )
        })?;
        let arguments = json!({ "uri": uri });
        self.0.execute("migrate-incoming", arguments, options)?;
        let begin = Instant::now();
        let socket = UnixStream::connect(&path).map_err(|error| Error::io(SEND_ERROR, error))?;
        send(socket, stream, options)?;
        let failure = self.wait_until_loaded(options)?;
        let load_time = begin.elapsed();
        let final_state = failure
            .is_none()
            .then(|| QueriedState::query(&mut self.0, options));
        check_interrupted(&self.0, options)?;
        let (_, stderr) = self
            .0
            .quit()
            .map_err(|error| Error::io(SEND_ERROR, error))?;
        // `quit` returns only the end of a long text, which may be shorter than `initial_len`.
        let stderr = stderr.get(initial_len..).unwrap_or(&stderr);
        Ok(RehearsalResult {
            version,
            command,
            outcome: failure.map_or(LoadOutcome::Loaded, LoadOutcome::Failed),
            stderr: stderr.trim().to_owned(),
            final_state,
            startup_time,
            load_time,
        })
    }

    /// Waits until the VM is loaded, or until QEMU exits; returns the exit status.
    fn wait_until_loaded(
        &mut self,
        options: &WaitOptions<'_>,
    ) -> Result<Option<ExitStatus>, Error> {
        let deadline = Instant::now() + options.timeout;
        loop {
            match self.is_loaded(options) {
                Ok(true) => return Ok(None),
                Ok(false) => {}
                Err(error) => {
                    return match *error.kind() {
                        // A Ctrl-C reaches QEMU too.
                        ErrorKind::Exited(_) if options.is_interrupted() => {
                            Err(self.0.error(ErrorKind::Interrupted))
                        }
                        ErrorKind::Exited(status) if is_refusal(status) => Ok(Some(status)),
                        _ => Err(error),
                    };
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::new(ErrorKind::LoadTimedOut(options.timeout)));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn is_loaded(&mut self, options: &WaitOptions<'_>) -> Result<bool, Error> {
        let status = self.0.execute("query-status", json!({}), options)?;
        let status = status.get("status").and_then(Value::as_str);
        // QEMU leaves `inmigrate` after all devices are loaded and ready to run.
        Ok(status.ok_or(Error::unexpected_reply("query-status"))? != "inmigrate")
    }
}

/// Returns `true` if this status means that QEMU refused the VM or crashed.
///
/// A QEMU that receives `quit` exits with 0 or by that signal; the OOM killer uses SIGKILL.
fn is_refusal(status: ExitStatus) -> bool {
    /// SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV of Linux on arm64 and x86-64: signals of a
    /// crash.
    const FATAL_SIGNALS: [i32; 6] = [4, 5, 6, 7, 8, 11];
    match status.signal() {
        Some(signal) => FATAL_SIGNALS.contains(&signal),
        None => !status.success(),
    }
}

/// Sends the whole stream and shuts the socket down. A QEMU that refuses the VM stops reading,
/// which is not an error.
fn send(
    mut socket: UnixStream,
    stream: &dyn ReadAt,
    options: &WaitOptions<'_>,
) -> Result<(), Error> {
    // With a timeout for each write, the sender notices a Ctrl-C.
    socket
        .set_write_timeout(Some(WRITE_TIMEOUT))
        .map_err(|error| Error::io(SEND_ERROR, error))?;
    let length = stream
        .length()
        .map_err(|error| Error::io("cannot read the stream", error))?;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut at = 0;
    let mut deadline = Instant::now() + options.timeout;
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
                deadline = Instant::now() + options.timeout;
            }
            Err(error) => match error.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => return Ok(()),
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    // The caller checks the flag and reports the interrupt.
                    if options.is_interrupted() {
                        return Ok(());
                    }
                    if Instant::now() >= deadline {
                        return Err(Error::new(ErrorKind::LoadTimedOut(options.timeout)));
                    }
                }
                _ => return Err(Error::io(SEND_ERROR, error)),
            },
        }
    }
    match socket.shutdown(std::net::Shutdown::Write) {
        // QEMU has already closed its end.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => {
            Err(Error::io(SEND_ERROR, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Status words as in wait(2): the exit status in the second byte, a signal in the first.
    #[test]
    fn only_failures_and_crashes_are_refusals() {
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

    /// The peer reads nothing, and the stream is longer than the socket's buffer.
    #[test]
    fn sending_times_out_and_is_interrupted() {
        use std::sync::atomic::AtomicBool;

        let stream = vec![0; 4 << 20];
        let (client, _server) = UnixStream::pair().unwrap();
        let result = send(
            client,
            &stream,
            &WaitOptions::with_timeout(Duration::from_millis(1)),
        );
        assert!(
            result
                .as_ref()
                .is_err_and(|error| matches!(error.kind(), ErrorKind::LoadTimedOut(_))),
            "{result:?}"
        );
        let (client, _server) = UnixStream::pair().unwrap();
        let flag = AtomicBool::new(true);
        let options = WaitOptions {
            timeout: Duration::from_secs(600),
            interrupted: Some(&flag),
        };
        send(client, &stream, &options).unwrap();
    }

    #[test]
    fn every_spelling_of_kvm_is_recognised() {
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
