//! [`QemuProcess`]: a QEMU that cpreg started, with its monitor and its standard error.
//!
//! The user gives the command. cpreg adds options of the caller and a QMP monitor. For the monitor,
//! QEMU connects to cpreg's listening socket, in a folder that only this user may enter. cpreg thus
//! does not poll for a socket path, and notices an early exit of QEMU at once.
//!
//! QEMU always ends. Dropping a [`QemuProcess`] sends `quit`, and kills QEMU if it does not exit in
//! time. On Linux, QEMU also ends with the thread that started it, so it does not survive a killed
//! cpreg. QEMU stays in the caller's process group on purpose, so that a Ctrl-C in the terminal
//! reaches both processes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, ErrorKind};
use crate::parent_death::end_with_parent;
use crate::qmp::{Qmp, Version, WaitOptions};

/// Maximum length in bytes of QEMU's standard error that is kept for messages, counted from its
/// end.
const STDERR_LIMIT: u64 = 64 << 10;

/// Timeout for QEMU to exit after `quit`, before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// Interval between two checks for a connection or the exit of the process.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Returns the hint for a message of QEMU, if one is known.
pub(crate) fn find_hint(message: &str) -> Option<&'static str> {
    let mut hints = HINTS.iter();
    hints
        .find(|(words, _)| message.contains(words))
        .map(|(_, hint)| *hint)
}

/// Pairs of a part of QEMU's message and the hint for that message.
const HINTS: &[(&str, &str)] = &[
    (
        // "Failed to get "write" lock / Is another process using the image [...]?"
        // (block/file-posix.c)
        "Is another process using the image",
        "the disk image is in use, probably by the VM: give the same devices an empty image of any \
         size (a guest's registers do not depend on its disks)",
    ),
    (
        // chardev/char-socket.c, for a `server` without `wait=off`
        "waiting for connection on",
        "a socket of the command line waits for a connection: give it `wait=off`",
    ),
    (
        "Address already in use",
        "another process, perhaps the VM, listens at that address: run this on a host without the VM, or leave the option out",
    ),
    (
        "Could not access KVM kernel module",
        "QEMU runs as the user of cpreg: give this user access to /dev/kvm, as for the VM",
    ),
];

/// Running QEMU with an open monitor.
#[derive(Debug)]
pub struct QemuProcess {
    child: ChildGuard,
    qmp: Qmp,
    command: Vec<OsString>,
    /// Folder of the sockets, which is removed after QEMU has ended.
    folder: TempDir,
}

impl QemuProcess {
    /// Starts `command` with `additions` and a monitor, and waits until the monitor replies.
    ///
    /// QEMU's standard input is empty, its standard output is discarded, and its standard error is
    /// kept for messages. On Linux, QEMU ends with the thread that calls this function.
    ///
    /// # Errors
    /// Returns an error if QEMU does not start, exits, or opens no monitor in time. All started
    /// processes have ended.
    pub fn start(
        command: &[OsString],
        additions: &[OsString],
        options: &WaitOptions<'_>,
    ) -> Result<Self, Error> {
        let io_error = |error| Error::io("", error);
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::new(ErrorKind::NoCommand));
        };
        // `tempfile` creates the folder with mode 0700.
        let folder = tempfile::Builder::new()
            .prefix("cpreg-")
            .tempdir()
            .map_err(io_error)?;
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).map_err(io_error)?;
        listener.set_nonblocking(true).map_err(io_error)?;
        let stderr = tempfile::tempfile().map_err(io_error)?;

        let mut words = arguments.to_vec();
        words.extend_from_slice(additions);
        words.push("-qmp".into());
        words.push(unix_address(&path));
        let mut qemu = Command::new(program);
        qemu.args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().map_err(io_error)?);
        end_with_parent(&mut qemu);
        let child = qemu.spawn().map_err(|error| {
            let program = program.clone();
            Error::new(ErrorKind::Start { program }).with_source(error)
        })?;
        let mut child = ChildGuard { child, stderr };
        words.insert(0, program.clone());

        let socket = child.accept(&listener, options)?;
        let qmp = Qmp::handshake(socket, options).map_err(|error| child.explain(error))?;
        Ok(Self {
            child,
            qmp,
            command: words,
            folder,
        })
    }

    /// Returns the whole command line of QEMU, with the program first.
    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    /// Returns a folder that exists as long as this QEMU; only this user may enter it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns QEMU's version.
    pub fn version(&self) -> &Version {
        self.qmp.version()
    }

    /// Returns the process id of the started program.
    pub fn id(&self) -> u32 {
        self.child.child.id()
    }

    /// Returns the monitor, for commands that [`Self::execute`] does not cover.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Executes one QMP command ([`Qmp::execute`]).
    ///
    /// # Errors
    /// Those of [`Qmp::execute`], or [`ErrorKind::Exited`] if QEMU exited. Each error includes
    /// QEMU's standard error.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.qmp
            .execute(command, arguments, options)
            .map_err(|error| self.child.explain(error))
    }

    /// Waits until QEMU connects to a listening socket of the caller.
    ///
    /// # Errors
    /// [`ErrorKind::NoMonitor`] if QEMU does not connect in time, [`ErrorKind::Exited`],
    /// [`ErrorKind::Interrupted`].
    pub fn accept(
        &mut self,
        listener: &UnixListener,
        options: &WaitOptions<'_>,
    ) -> Result<UnixStream, Error> {
        self.child.accept(listener, options)
    }

    /// Returns QEMU's standard error so far (at most the last 64 KiB).
    pub fn stderr(&self) -> String {
        self.child.stderr()
    }

    /// Returns an error of this kind with QEMU's standard error.
    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        self.child.error(kind)
    }

    /// Returns QEMU's exit status, if it has exited.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.child.try_wait()
    }

    /// Ends QEMU: sends `quit`, and kills QEMU after a timeout. Returns its status and standard
    /// error.
    ///
    /// # Errors
    /// Those of `waitpid` and `kill`.
    pub fn quit(mut self) -> io::Result<(ExitStatus, String)> {
        let status = self.end(QUIT_TIMEOUT)?;
        Ok((status, self.stderr()))
    }

    fn end(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.child.try_wait()? {
            return Ok(status);
        }
        // A failed `quit` does not matter: QEMU is killed if it does not exit.
        let short_wait = WaitOptions::with_timeout(grace.min(Duration::from_millis(500)));
        let _ = self.qmp.execute("quit", json!({}), &short_wait);
        let deadline = Instant::now() + grace;
        while Instant::now() < deadline {
            if let Some(status) = self.child.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.child.child.kill()?;
        self.child.child.wait()
    }
}

impl Drop for QemuProcess {
    fn drop(&mut self) {
        // Killing a launcher (sudo, a shell script) would orphan QEMU, so `quit` comes first.
        let _ = self.end(Duration::from_millis(500));
    }
}

/// Child process and its standard error; killed when dropped.
#[derive(Debug)]
struct ChildGuard {
    child: Child,
    stderr: File,
}

impl ChildGuard {
    fn accept(
        &mut self,
        listener: &UnixListener,
        options: &WaitOptions<'_>,
    ) -> Result<UnixStream, Error> {
        let deadline = Instant::now() + options.timeout;
        let failed = |guard: &Self, error| guard.add_stderr(Error::io("", error));
        listener
            .set_nonblocking(true)
            .map_err(|error| failed(self, error))?;
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    // On some systems, the connection inherits the listener's mode.
                    socket
                        .set_nonblocking(false)
                        .map_err(|error| failed(self, error))?;
                    return Ok(socket);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(self, error)),
            }
            if let Some(status) = self.child.try_wait().map_err(|error| failed(self, error))? {
                return Err(self.error(ErrorKind::Exited(status)));
            }
            if options.is_interrupted() {
                return Err(self.error(ErrorKind::Interrupted));
            }
            if Instant::now() >= deadline {
                return Err(self.error(ErrorKind::NoMonitor(options.timeout)));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn stderr(&self) -> String {
        // Read at an offset, because QEMU writes through the same open file and owns its position.
        let length = self.stderr.metadata().map_or(0, |metadata| metadata.len());
        let start = length.saturating_sub(STDERR_LIMIT);
        let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(0)];
        let mut filled = 0;
        while filled < bytes.len() {
            match self
                .stderr
                .read_at(&mut bytes[filled..], start + filled as u64)
            {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&bytes[..filled])
            .trim_end()
            .to_owned()
    }

    fn error(&self, kind: ErrorKind) -> Error {
        self.add_stderr(Error::new(kind))
    }

    /// Adds QEMU's standard error, and the hint for it, to `error`.
    fn add_stderr(&self, error: Error) -> Error {
        let stderr = self.stderr();
        let hint = if error.is_qmp_error() {
            find_hint(&format!("{error}\n{stderr}"))
        } else {
            find_hint(&stderr)
        };
        error.with_stderr(stderr).with_hint(hint)
    }

    /// Adds QEMU's standard error to a failed conversation. If the connection closed because QEMU
    /// exited, returns its exit instead.
    fn explain(&mut self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Interrupted => self.error(ErrorKind::Interrupted),
            ErrorKind::Closed => {
                // The socket closes shortly before the process can be waited for; a core dump takes
                // longer.
                let deadline = Instant::now() + Duration::from_secs(2);
                while Instant::now() < deadline {
                    if let Ok(Some(status)) = self.child.try_wait() {
                        return self.error(ErrorKind::Exited(status));
                    }
                    thread::sleep(POLL_INTERVAL);
                }
                self.add_stderr(error)
            }
            _ => self.add_stderr(error),
        }
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // Both calls have no effect on a process that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns `unix:PATH` as QEMU's options expect it, with commas doubled.
pub fn unix_address(path: &Path) -> OsString {
    let mut address = b"unix:".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        address.push(byte);
        if byte == b',' {
            address.push(byte);
        }
    }
    OsString::from_vec(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn wait_options() -> WaitOptions<'static> {
        WaitOptions::with_timeout(Duration::from_secs(10))
    }

    #[test]
    fn an_exit_is_reported_with_stderr() {
        let command = words(&["sh", "-c", "echo 'qemu: no such machine' >&2; exit 3", "sh"]);
        let error = QemuProcess::start(&command, &[], &wait_options()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Exited(status) if status.code() == Some(3)));
        assert_eq!(
            error.to_string(),
            "QEMU exited (exit status: 3); standard error:\n  qemu: no such machine"
        );
    }

    #[test]
    fn a_locked_image_has_a_hint() {
        let script = "echo 'Is another process using the image [a]?' >&2; exit 1";
        let command = words(&["sh", "-c", script, "sh"]);
        let error = QemuProcess::start(&command, &[], &wait_options()).unwrap_err();
        assert!(error.hint().unwrap().contains("empty image"), "{error}");
    }

    #[test]
    fn a_hanging_command_times_out_and_is_killed() {
        let command = words(&["sh", "-c", "echo $$ >&2; exec sleep 600", "sh"]);
        let limit = Duration::from_millis(300);
        let error =
            QemuProcess::start(&command, &[], &WaitOptions::with_timeout(limit)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoMonitor(timeout) if *timeout == limit));
        let process = Path::new("/proc").join(error.stderr().trim());
        assert!(
            !error.stderr().trim().is_empty() && !process.exists(),
            "{} still exists",
            process.display()
        );
    }

    #[test]
    fn missing_programs_and_empty_commands_are_errors() {
        let error = QemuProcess::start(&[], &[], &wait_options()).unwrap_err();
        assert_eq!(error.to_string(), "no QEMU command given");
        let command = words(&["/nonexistent/qemu-system-aarch64"]);
        let error = QemuProcess::start(&command, &[], &wait_options()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot start `/nonexistent/qemu-system-aarch64`: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn commas_are_doubled() {
        assert_eq!(unix_address(Path::new("/a,b/c")), "unix:/a,,b/c");
    }
}
