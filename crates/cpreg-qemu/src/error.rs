//! [`Error`]: a QEMU that does not start, reply or load, with a hint for the user.
//!
//! The crate has one error type. [`Display`](fmt::Display) does not print the hint.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Error of this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// Failed QMP conversation; `None` if the error has another cause.
    conversation: Option<Conversation>,
    stderr: String,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Conversation {
    /// QMP command in progress, if any.
    command: Option<String>,
}

/// Kind of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No process accepts connections at the monitor's socket.
    Connect,
    /// QEMU refused a command.
    Refused {
        /// Error class of the reply: `GenericError`, `CommandNotFound`, `DeviceNotFound` ….
        class: String,
        /// Description of the error, in QEMU's words.
        description: String,
    },
    /// QEMU closed the connection.
    Closed,
    /// QEMU did not reply within this time.
    TimedOut(Duration),
    /// The caller gave up ([`WaitOptions::interrupted`](crate::qmp::WaitOptions::interrupted)).
    Interrupted,
    /// QEMU sent data that is not QMP; holds a description of the data.
    Protocol(String),
    /// QEMU sent a reply without the expected members; holds the command.
    UnexpectedReply(&'static str),
    /// The command line is empty.
    NoCommand,
    /// The program could not be started.
    Start {
        /// Program, as given on the command line.
        program: OsString,
    },
    /// QEMU exited.
    Exited(ExitStatus),
    /// QEMU opened no monitor within this time.
    NoMonitor(Duration),
    /// The load did not finish within this time.
    LoadTimedOut(Duration),
    /// QEMU is not paused before the guest's first instruction; holds its state.
    NotPaused(String),
    /// The guest did not finish a program.
    UnfinishedProgram,
    /// QEMU could not write its stream.
    NoStream {
        /// Final status of the migration (`failed`, `cancelled`).
        status: String,
        /// QEMU's messages about it, from QMP and from its standard error.
        message: String,
    },
    /// An option of the command line cannot be isolated.
    CannotIsolate {
        /// Words of the option, as given on the command line.
        words: Vec<OsString>,
        /// Reason why the option cannot be isolated.
        reason: &'static str,
        /// Entry to add to `allowed_options` so that [`isolate`](crate::isolate::isolate()) leaves
        /// the option unchanged; `None` if no entry can.
        allow_option: Option<String>,
    },
    /// libvirt refused a request; holds its message.
    Libvirt(String),
    /// QEMU wrote an invalid stream; the error's source has the details.
    Stream,
    /// A system call failed; holds the operation, which is empty if the error's source names it.
    Io(&'static str),
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Inner {
            kind,
            conversation: None,
            stderr: String::new(),
            hint: None,
            source: None,
        }))
    }

    /// Creates the error of a failed system call; `operation` describes it.
    pub(crate) fn io(operation: &'static str, source: io::Error) -> Self {
        Self::new(ErrorKind::Io(operation)).with_source(source)
    }

    /// Creates the error of a reply without the expected members.
    pub(crate) fn unexpected_reply(command: &'static str) -> Self {
        Self::new(ErrorKind::UnexpectedReply(command))
    }

    /// Creates the error of a monitor that cannot be reached.
    pub(crate) fn connect(source: io::Error) -> Self {
        let hint = if source.kind() == io::ErrorKind::PermissionDenied {
            "the socket belongs to the user that QEMU runs as: become that user, or root"
        } else {
            "give the PATH of QEMU's `-qmp unix:PATH,server=on,wait=off`, and check that this QEMU \
             is still running"
        };
        Self::new(ErrorKind::Connect)
            .with_source(source)
            .with_hint(Some(hint))
    }

    /// Creates the error of a failed QMP conversation.
    pub(crate) fn for_qmp(kind: ErrorKind) -> Self {
        let hint = matches!(kind, ErrorKind::TimedOut(_)).then_some(
            "a monitor serves one client at a time; libvirt or another client may be connected. \
             Give QEMU a second `-qmp`",
        );
        let mut error = Self::new(kind).with_hint(hint);
        error.0.conversation = Some(Conversation { command: None });
        error
    }

    /// Adds the QMP command in progress.
    #[must_use]
    pub(crate) fn with_command(mut self, command: &str) -> Self {
        self.0.conversation = Some(Conversation {
            command: Some(command.to_owned()),
        });
        self
    }

    #[must_use]
    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: Option<impl Into<Cow<'static, str>>>) -> Self {
        self.0.hint = hint.map(Into::into);
        self
    }

    /// Adds the standard error of QEMU's process.
    #[must_use]
    pub fn with_stderr(mut self, stderr: String) -> Self {
        self.0.stderr = stderr;
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns `true` if a QMP conversation failed.
    pub(crate) fn is_qmp_error(&self) -> bool {
        self.0.conversation.is_some()
    }

    /// Returns the QMP command in progress, if any.
    pub fn command(&self) -> Option<&str> {
        self.0.conversation.as_ref()?.command.as_deref()
    }

    /// Returns QEMU's standard error at the time of the failure, or the end of a long one.
    pub fn stderr(&self) -> &str {
        &self.0.stderr
    }

    /// Returns the advice to the user, if any. [`Display`](fmt::Display) does not print it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl From<cpreg_stream::Error> for Error {
    /// Wraps the error of reading QEMU's stream.
    fn from(error: cpreg_stream::Error) -> Self {
        Self::new(ErrorKind::Stream).with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        match &inner.conversation {
            Some(Conversation {
                command: Some(command),
            }) => write!(f, "QMP `{command}`: ")?,
            Some(Conversation { command: None }) => write!(f, "QMP: ")?,
            None => {}
        }
        write!(f, "{}", inner.kind)?;
        if let Some(source) = &inner.source {
            match &inner.kind {
                ErrorKind::Io("") => write!(f, "{source}")?,
                ErrorKind::Stream => {
                    // `hint` returns only this error's own hint, so print that of the source here.
                    let stream = source.downcast_ref::<cpreg_stream::Error>();
                    match stream.and_then(cpreg_stream::Error::hint) {
                        Some(hint) => write!(f, ": {source}; {hint}")?,
                        None => write!(f, ": {source}")?,
                    }
                }
                _ => write!(f, ": {source}")?,
            }
        }
        if !inner.stderr.is_empty() {
            write!(f, "; standard error:")?;
            for line in inner.stderr.lines() {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("cannot reach QEMU's monitor"),
            Self::Refused { description, .. } => write!(f, "QEMU refused it: {description}"),
            Self::Closed => f.write_str("QEMU closed the connection"),
            Self::TimedOut(limit) => write!(f, "no reply within {} s", limit.as_secs_f32()),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Protocol(description) => write!(f, "not QMP: {description}"),
            Self::UnexpectedReply(command) => {
                write!(f, "unexpected reply of QEMU to `{command}`")
            }
            Self::NoCommand => f.write_str("no QEMU command given"),
            Self::Start { program } => write!(f, "cannot start `{}`", program.display()),
            Self::Exited(status) => write!(f, "QEMU exited ({status})"),
            Self::NoMonitor(limit) => write!(
                f,
                "QEMU did not open its monitor within {} s",
                limit.as_secs_f32()
            ),
            Self::LoadTimedOut(limit) => write!(
                f,
                "QEMU neither loaded nor refused the VM within {} s",
                limit.as_secs_f32()
            ),
            Self::UnfinishedProgram => f.write_str(
                "the guest stopped, or its time ran out, before it had written its results",
            ),
            Self::NotPaused(state) => write!(
                f,
                "QEMU is in state `{state}` after a start with -S; expected `prelaunch`"
            ),
            Self::NoStream { status, message } => {
                write!(f, "QEMU could not write its stream (migration {status})")?;
                if message.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {message}")
                }
            }
            Self::CannotIsolate { words, reason, .. } => {
                let words = words.join(std::ffi::OsStr::new(" "));
                write!(f, "cannot isolate `{}`: {reason}", words.display())
            }
            Self::Libvirt(message) => write!(f, "libvirt: {message}"),
            Self::Stream => f.write_str("QEMU wrote an invalid stream"),
            Self::Io(operation) => f.write_str(operation),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn connect_errors_have_hints() {
        let hint = |kind: io::ErrorKind| {
            let error = Error::connect(kind.into());
            assert!(error.source().is_some());
            error.hint().unwrap_or_default().to_owned()
        };
        assert!(hint(io::ErrorKind::PermissionDenied).contains("or root"));
        assert!(hint(io::ErrorKind::ConnectionRefused).contains("still running"));
    }

    #[test]
    fn display_has_the_command_and_stderr() {
        let error = Error::for_qmp(ErrorKind::Closed)
            .with_command("stop")
            .with_stderr("one\ntwo".to_owned());
        assert_eq!(
            error.to_string(),
            "QMP `stop`: QEMU closed the connection; standard error:\n  one\n  two"
        );
        assert_eq!(error.command(), Some("stop"));
        let error = Error::for_qmp(ErrorKind::TimedOut(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "QMP: no reply within 2 s");
        assert!(error.hint().unwrap().contains("a second `-qmp`"));
    }
}
