//! [`Log`]: log lines of the hook, for the system's log and for a file.
//!
//! libvirt discards standard error of a hook that succeeds. For this reason the lines go to
//! `/dev/log`, which journald and every syslog daemon read. One datagram needs no library.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use cpreg_report::printer::escape_control;

use crate::failure::Failure;

/// Socket of the system's log.
const SYSLOG_SOCKET: &str = "/dev/log";
/// Facility of system daemons, in a message's priority.
const FACILITY: u8 = 3 << 3;

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The hook left an image alone, or refused a migration.
    Warning,
    /// The hook did its work, or found nothing to do.
    Info,
}

impl Level {
    /// Returns the severity in syslog's numbers.
    const fn severity(self) -> u8 {
        match self {
            Self::Warning => 4,
            Self::Info => 6,
        }
    }
}

/// Log of one event of a domain.
#[derive(Debug)]
pub(super) struct Log {
    /// Domain and event, before each line.
    subject: String,
    /// `None` if the system has no log.
    system: Option<UnixDatagram>,
    file: Option<RefCell<File>>,
}

impl Log {
    /// Opens the system's log, and a file to which lines are appended.
    pub(super) fn open(path: Option<&Path>, domain: &str, event: &str) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = OpenOptions::new().append(true).create(true).open(path);
            file.map_err(|error| Failure::io("open", path, error))
        };
        let system = UnixDatagram::unbound().ok();
        let system = system.filter(|socket| socket.connect(SYSLOG_SOCKET).is_ok());
        Ok(Self {
            subject: format!("{domain}: {event}"),
            system,
            file: path.map(open).transpose()?.map(RefCell::new),
        })
    }

    /// Writes a line for a VM that the hook left alone.
    pub(super) fn left_alone(&self, reason: impl Display) {
        self.line(Level::Warning, format_args!("left alone: {reason}"));
    }

    /// Writes a line. Ignores failures: no place is left to report them, and they must not stop
    /// libvirt.
    pub(super) fn line(&self, level: Level, text: impl Display) {
        let line = escape_control(&format!("{}: {text}", self.subject), false);
        if let Some(socket) = &self.system {
            let _ = socket.send(syslog_message(level, std::process::id(), &line).as_bytes());
        }
        if let Some(file) = &self.file {
            let _ = file.borrow_mut().write_all(format!("{line}\n").as_bytes());
        }
    }
}

/// Returns a message in the form of RFC 3164 without a time. The log adds the time.
fn syslog_message(level: Level, process: u32, line: &str) -> String {
    format!("<{}>cpreg[{process}]: {line}", FACILITY | level.severity())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_its_priority() {
        let message = syslog_message(Level::Warning, 7, "web: restore begin: left alone");
        assert_eq!(message, "<28>cpreg[7]: web: restore begin: left alone");
        assert!(syslog_message(Level::Info, 7, "").starts_with("<30>"));
    }

    #[test]
    fn a_line_cannot_forge_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::open(Some(&path), "web\nother", "restore begin").unwrap();
        log.line(Level::Info, "a\nb");
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}
