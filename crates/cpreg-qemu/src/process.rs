//! [`QemuProcess`]: a QEMU that was started here, with its monitor, and what it says when it goes wrong.
//!
//! The command is the user's own. What is added is a QMP monitor, and whatever the caller adds. QEMU connects to
//! a socket that already listens (in a folder only this user may enter), so there is nothing to poll for, and a QEMU
//! that dies before that is noticed at once.
//!
//! However this ends, QEMU ends too: dropping a [`QemuProcess`] asks it to quit and, if it does not at once, kills it.
//! It stays in the caller's process group on purpose, so that a Ctrl-C on the terminal reaches both.

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
use crate::qmp::{Qmp, Version, WaitOptions};

/// How much of the end of QEMU's standard error is kept for messages, in bytes.
const STDERR_LIMIT: u64 = 64 << 10;

/// How long a QEMU that was told to quit gets before it is killed.
const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a connection or the end of the process is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// What to do about something that QEMU said, where that is known.
pub(crate) fn find_hint(said: &str) -> Option<&'static str> {
    let mut hints = HINTS.iter();
    hints
        .find(|(words, _)| said.contains(words))
        .map(|(_, hint)| *hint)
}

/// What QEMU says, and what to do about it.
const HINTS: &[(&str, &str)] = &[
    (
        // "Failed to get "write" lock / Is another process using the image [...]?" (block/file-posix.c)
        "Is another process using the image",
        "the disk image is in use, probably by the VM itself: give the same devices an empty image of any size \
         (what a guest's registers are does not depend on its disks)",
    ),
    (
        // chardev/char-socket.c, for a `server` without `wait=off`
        "waiting for connection on",
        "a socket of the command line waits for somebody to connect: give it `wait=off`",
    ),
    (
        "Address already in use",
        "something else, perhaps the VM itself, listens there already: do this where the VM does not run, or leave that option out",
    ),
    (
        "Could not access KVM kernel module",
        "QEMU runs as you do here: it needs the access to /dev/kvm that the VM will have",
    ),
];

/// A running QEMU with an open monitor.
#[derive(Debug)]
pub struct QemuProcess {
    child: ChildGuard,
    qmp: Qmp,
    command: Vec<OsString>,
    /// Removed, with the sockets in it, after QEMU has ended: fields are dropped in order.
    folder: TempDir,
}

impl QemuProcess {
    /// Starts `command` with `additions` and a monitor of ours behind it, and waits until the monitor answers.
    ///
    /// Standard input is empty, standard output is discarded, standard error is kept for messages.
    ///
    /// # Errors
    /// If it does not start, ends, or opens no monitor in time; whatever was started has been ended
    /// by then.
    pub fn start(
        command: &[OsString],
        additions: &[OsString],
        patience: &WaitOptions<'_>,
    ) -> Result<Self, Error> {
        let ours = |error| Error::io("", error);
        let Some((program, arguments)) = command.split_first() else {
            return Err(Error::new(ErrorKind::NoCommand));
        };
        // Mode 0700, like everything `tempfile` makes.
        let folder = tempfile::Builder::new()
            .prefix("cpreg-")
            .tempdir()
            .map_err(ours)?;
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).map_err(ours)?;
        listener.set_nonblocking(true).map_err(ours)?;
        let said = tempfile::tempfile().map_err(ours)?;

        let mut all = arguments.to_vec();
        all.extend_from_slice(additions);
        all.push("-qmp".into());
        all.push(unix_address(&path));
        let child = Command::new(program)
            .args(&all)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone().map_err(ours)?)
            .spawn()
            .map_err(|error| {
                let program = program.clone();
                Error::new(ErrorKind::Start { program }).with_source(error)
            })?;
        let mut child = ChildGuard {
            child,
            stderr: said,
        };
        all.insert(0, program.clone());

        let socket = child.accept(&listener, patience)?;
        let qmp = Qmp::handshake(socket, patience).map_err(|error| child.explain(error))?;
        Ok(Self {
            child,
            qmp,
            command: all,
            folder,
        })
    }

    /// The whole command that was started, the program first.
    pub fn command(&self) -> &[OsString] {
        &self.command
    }

    /// The folder, entered by this user only, that lives as long as this QEMU: a place for more sockets.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// QEMU's version.
    pub fn version(&self) -> &Version {
        self.qmp.version()
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.child.id()
    }

    /// The monitor, for what [`Self::execute`] does not cover.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Carries out one QMP command ([`Qmp::execute`]).
    ///
    /// # Errors
    /// Those of [`Qmp::execute`], or [`ErrorKind::Exited`] if QEMU died over it; with what it said
    /// either way.
    pub fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        patience: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.qmp
            .execute(command, arguments, patience)
            .map_err(|error| self.child.explain(error))
    }

    /// Waits for one connection from QEMU to a listening socket of the caller's.
    ///
    /// # Errors
    /// [`ErrorKind::NoMonitor`] if none comes in time, [`ErrorKind::Exited`],
    /// [`ErrorKind::Interrupted`].
    pub fn accept(
        &mut self,
        listener: &UnixListener,
        patience: &WaitOptions<'_>,
    ) -> Result<UnixStream, Error> {
        self.child.accept(listener, patience)
    }

    /// What QEMU has written to its standard error so far (the last 64 KiB of it).
    pub fn stderr(&self) -> String {
        self.child.stderr()
    }

    /// An error of this kind, with what QEMU said.
    pub(crate) fn error(&self, kind: ErrorKind) -> Error {
        self.child.error(kind)
    }

    /// How QEMU ended, if it has.
    ///
    /// # Errors
    /// Those of `waitpid`.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.child.try_wait()
    }

    /// Ends QEMU: asks first, kills it if it does not go. Gives how it ended and what it said.
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
        // Whether it hears this does not matter: it is waited for, and killed if it does not go.
        let quick = WaitOptions::with_timeout(grace.min(Duration::from_millis(500)));
        let _ = self.qmp.execute("quit", json!({}), &quick);
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
        // Asking first matters where the command is a launcher (sudo, a shell script): killing that would leave QEMU behind.
        let _ = self.end(Duration::from_millis(500));
    }
}

/// The child process and its standard error; killed when dropped.
#[derive(Debug)]
struct ChildGuard {
    child: Child,
    stderr: File,
}

impl ChildGuard {
    fn accept(
        &mut self,
        listener: &UnixListener,
        patience: &WaitOptions<'_>,
    ) -> Result<UnixStream, Error> {
        let deadline = Instant::now() + patience.timeout;
        let failed = |running: &Self, error| running.add_stderr(Error::io("", error));
        listener
            .set_nonblocking(true)
            .map_err(|error| failed(self, error))?;
        loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    // Some systems hand the listener's mode on.
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
            if patience.is_interrupted() {
                return Err(self.error(ErrorKind::Interrupted));
            }
            if Instant::now() >= deadline {
                return Err(self.error(ErrorKind::NoMonitor(patience.timeout)));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    fn stderr(&self) -> String {
        // Reads by position: the file's own offset belongs to QEMU, which writes through the same open file.
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

    /// The error with what QEMU said, and what to do about that.
    fn add_stderr(&self, error: Error) -> Error {
        let said = self.stderr();
        let hint = if error.is_qmp_error() {
            find_hint(&format!("{error}\n{said}"))
        } else {
            find_hint(&said)
        };
        error.with_stderr(said).with_hint(hint)
    }

    /// Makes a failed conversation into what it means: a closed connection is usually a QEMU that has died.
    fn explain(&mut self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Interrupted => self.error(ErrorKind::Interrupted),
            ErrorKind::Closed => {
                // The socket closes a moment before the process can be waited for; a core dump takes longer.
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
        // Both are without effect on a process that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `unix:PATH` as QEMU's options take it: a comma in the path is doubled.
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

    fn patience() -> WaitOptions<'static> {
        WaitOptions::with_timeout(Duration::from_secs(10))
    }

    #[test]
    fn a_command_that_dies_is_told_with_its_words() {
        let command = words(&["sh", "-c", "echo 'qemu: no such machine' >&2; exit 3", "sh"]);
        let error = QemuProcess::start(&command, &[], &patience()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Exited(status) if status.code() == Some(3)));
        assert_eq!(
            error.to_string(),
            "QEMU ended (exit status: 3); it said:\n  qemu: no such machine"
        );
    }

    #[test]
    fn a_locked_image_has_a_way_out() {
        let script = "echo 'Is another process using the image [a]?' >&2; exit 1";
        let command = words(&["sh", "-c", script, "sh"]);
        let error = QemuProcess::start(&command, &[], &patience()).unwrap_err();
        assert!(error.hint().unwrap().contains("empty image"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_given_up_and_killed() {
        let command = words(&["sh", "-c", "echo $$ >&2; exec sleep 600", "sh"]);
        let limit = Duration::from_millis(300);
        let error =
            QemuProcess::start(&command, &[], &WaitOptions::with_timeout(limit)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NoMonitor(of) if *of == limit));
        let process = Path::new("/proc").join(error.stderr().trim());
        assert!(
            !error.stderr().trim().is_empty() && !process.exists(),
            "{} is still there",
            process.display()
        );
    }

    #[test]
    fn missing_programs_and_empty_commands() {
        let error = QemuProcess::start(&[], &[], &patience()).unwrap_err();
        assert_eq!(error.to_string(), "no QEMU command was given");
        let command = words(&["/nonexistent/qemu-system-aarch64"]);
        let error = QemuProcess::start(&command, &[], &patience()).unwrap_err();
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
