//! [`Journal`]: entries with fields in systemd's journal.
//!
//! A service's standard error leads to the journal, but lines there have no fields. The native
//! protocol is one datagram for each entry (`Native Journal Protocol` of systemd), so no library is
//! needed.

use std::io;
use std::os::unix::net::UnixDatagram;

use cpreg_report::printer::escape_control;
use rustix::fs::fstat;

/// Socket of the journal.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Variable with the device and inode of the stream that the journal reads.
const STREAM_VARIABLE: &str = "JOURNAL_STREAM";

/// Importance of an entry, in syslog's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    Warning = 4,
    Info = 6,
}

/// Field of an entry: its name, and its value.
pub(crate) type Field = (&'static str, String);

/// Connection to the journal.
#[derive(Debug)]
pub(crate) struct Journal(UnixDatagram);

impl Journal {
    /// Connects to the journal. Returns `None` if standard error does not lead to it.
    pub(crate) fn open() -> Option<Self> {
        let stream = std::env::var(STREAM_VARIABLE).ok()?;
        let stat = fstat(rustix::stdio::stderr()).ok()?;
        if stream != format!("{}:{}", stat.st_dev, stat.st_ino) {
            return None;
        }
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(SOCKET).ok()?;
        // A journal whose queue is full must not stop the caller.
        socket.set_nonblocking(true).ok()?;
        Some(Self(socket))
    }

    /// Sends an entry.
    ///
    /// # Errors
    /// Returns an error if the journal does not run, its queue is full, or the entry is too long
    /// for a datagram.
    pub(crate) fn send(
        &self,
        priority: Priority,
        message: &str,
        fields: &[Field],
    ) -> io::Result<()> {
        self.0.send(entry(priority, message, fields).as_bytes())?;
        Ok(())
    }
}

/// Returns an entry in the form of the protocol. Values have no line breaks.
fn entry(priority: Priority, message: &str, fields: &[Field]) -> String {
    let standard = [
        ("MESSAGE", message.to_owned()),
        ("PRIORITY", (priority as u8).to_string()),
        ("SYSLOG_IDENTIFIER", "cpreg".to_owned()),
    ];
    let all = standard.iter().chain(fields);
    let lines = all.map(|(name, value)| format!("{name}={}\n", escape_control(value, false)));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_forge_a_field() {
        let fields = [("CPREG_DOMAIN", "web\nCPREG_VERDICT=loads".to_owned())];
        let entry = entry(Priority::Warning, "refused", &fields);
        let lines: Vec<_> = entry.lines().collect();
        assert_eq!(
            lines[..3],
            ["MESSAGE=refused", "PRIORITY=4", "SYSLOG_IDENTIFIER=cpreg"]
        );
        assert_eq!(lines.len(), 4, "{entry}");
        assert!(lines[3].starts_with("CPREG_DOMAIN=web"), "{entry}");
    }

    #[test]
    fn an_entry_is_one_datagram() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let server = UnixDatagram::bind(&path).unwrap();
        let client = UnixDatagram::unbound().unwrap();
        client.connect(&path).unwrap();
        let reason = ("CPREG_REASON", "x".repeat(4000));
        let fields = vec![reason; 8];
        Journal(client)
            .send(Priority::Info, "served", &fields)
            .unwrap();
        let mut datagram = vec![0; 1 << 16];
        let length = server.recv(&mut datagram).unwrap();
        assert_eq!(
            datagram[..length],
            *entry(Priority::Info, "served", &fields).as_bytes()
        );
    }
}
