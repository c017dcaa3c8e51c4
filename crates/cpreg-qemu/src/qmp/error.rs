//! [`QmpError`]: why a QMP exchange did not give an answer.

use std::fmt;
use std::io;
use std::time::Duration;

/// Why a QMP exchange did not give an answer.
#[derive(Debug)]
pub struct QmpError {
    /// What kind of failure.
    pub kind: QmpErrorKind,
    /// The command that was being carried out, if one was.
    pub command: Option<String>,
}

/// The kinds of [`QmpError`].
#[derive(Debug)]
#[non_exhaustive]
pub enum QmpErrorKind {
    /// QEMU said no.
    Refused {
        /// The error class: `GenericError`, `CommandNotFound`, `DeviceNotFound` ….
        class: String,
        /// QEMU's own words.
        description: String,
    },
    /// QEMU closed the connection.
    Closed,
    /// Nothing came in time; how long that was.
    TimedOut(Duration),
    /// Somebody asked to give up ([`Patience::interrupted`](super::Patience::interrupted)).
    Interrupted,
    /// What came is not QMP.
    Protocol(String),
    /// The socket failed.
    Io(io::Error),
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(command) = &self.command {
            write!(f, "QMP `{command}`: ")?;
        } else {
            write!(f, "QMP: ")?;
        }
        match &self.kind {
            QmpErrorKind::Refused { description, .. } => write!(f, "QEMU says: {description}"),
            QmpErrorKind::Closed => write!(f, "QEMU closed the connection"),
            QmpErrorKind::TimedOut(limit) => {
                write!(f, "no answer within {} s", limit.as_secs_f32())
            }
            QmpErrorKind::Interrupted => write!(f, "interrupted"),
            QmpErrorKind::Protocol(what) => write!(f, "not QMP: {what}"),
            QmpErrorKind::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for QmpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            QmpErrorKind::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<QmpErrorKind> for QmpError {
    fn from(kind: QmpErrorKind) -> Self {
        Self {
            kind,
            command: None,
        }
    }
}
