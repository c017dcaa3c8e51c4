//! [`Error`]: a QEMU that does not start, answer or load, with the advice to the user.
//!
//! One type for the whole crate. A hint is data beside the message: [`Display`](fmt::Display) does
//! not print it.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// What went wrong in this crate.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    /// The QMP conversation that failed, if one did.
    conversation: Option<Conversation>,
    stderr: String,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Conversation {
    /// The command that was being carried out, if one was.
    command: Option<String>,
}

/// The sort of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nobody answers at the monitor's socket.
    Connect,
    /// QEMU refused a command.
    Refused {
        /// The error class: `GenericError`, `CommandNotFound`, `DeviceNotFound` ….
        class: String,
        /// QEMU's own words.
        description: String,
    },
    /// QEMU closed the connection.
    Closed,
    /// No answer came in time; how long that was.
    TimedOut(Duration),
    /// Somebody asked to give up ([`WaitOptions::interrupted`](crate::qmp::Patience::interrupted)).
    Interrupted,
    /// Something else than QMP, which it holds.
    Protocol(String),
    /// QEMU's answer to a question has not got the form it should have; the question.
    UnexpectedReply(&'static str),
    /// The command has no words.
    NoCommand,
    /// The program could not be started.
    Start {
        /// The program, as given.
        program: OsString,
    },
    /// The program ended on its own.
    Exited(ExitStatus),
    /// No monitor came up in time; how long that was.
    NoMonitor(Duration),
    /// The load came to no end in time; how long that was.
    LoadTimedOut(Duration),
    /// QEMU is not paused before the guest's first instruction; the state it is in instead.
    NotPaused(String),
    /// QEMU could not write its stream.
    NoStream {
        /// How the migration ended (`failed`, `cancelled`).
        status: String,
        /// QEMU's words about it, from QMP and from its standard error.
        message: String,
    },
    /// The command line has something that makes a probe impossible.
    CannotProbe {
        /// The option.
        option: OsString,
        /// Why.
        reason: &'static str,
    },
    /// The command line has something that cannot be isolated.
    CannotIsolate {
        /// The option's words.
        words: Vec<OsString>,
        /// Why.
        reason: &'static str,
        /// Entry for the `keep` of [`isolate`](crate::isolate::isolate()) that keeps the option as
        /// it is; `None` if that makes no sense.
        allow_option: Option<String>,
    },
    /// QEMU wrote something that is no stream; the source tells why.
    Stream,
    /// The operating system refused something; what could not be done, or nothing if the source
    /// says it.
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

    /// Makes the error of a failed system call; `what` could not be done.
    pub(crate) fn io(what: &'static str, source: io::Error) -> Self {
        Self::new(ErrorKind::Io(what)).with_source(source)
    }

    /// Makes the error of an answer that is not understood.
    pub(crate) fn unexpected_reply(question: &'static str) -> Self {
        Self::new(ErrorKind::UnexpectedReply(question))
    }

    /// Makes the error of a monitor that cannot be reached.
    pub(crate) fn connect(source: io::Error) -> Self {
        let hint = if source.kind() == io::ErrorKind::PermissionDenied {
            "the socket belongs to the user that QEMU runs as: be that user, or root"
        } else {
            "the socket is the one of QEMU's `-qmp unix:PATH,server=on,wait=off`; is that QEMU \
             still running?"
        };
        Self::new(ErrorKind::Connect)
            .with_source(source)
            .with_hint(Some(hint))
    }

    /// Makes the error of a failed QMP conversation.
    pub(crate) fn for_qmp(kind: ErrorKind) -> Self {
        let hint = matches!(kind, ErrorKind::TimedOut(_)).then_some(
            "a monitor talks to one program at a time: libvirt, or another, may be connected. \
             Give QEMU a second `-qmp`",
        );
        let mut error = Self::new(kind).with_hint(hint);
        error.0.conversation = Some(Conversation { command: None });
        error
    }

    /// Adds the command that was being carried out.
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

    /// Adds what the process wrote to its standard error. Its own hint, if it has one, stays.
    #[must_use]
    pub fn with_stderr(mut self, said: String) -> Self {
        self.0.stderr = said;
        self
    }

    /// Returns the sort of the error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Returns `true` if a QMP conversation failed.
    pub(crate) fn is_qmp_error(&self) -> bool {
        self.0.conversation.is_some()
    }

    /// Returns the QMP command that was being carried out, if any.
    pub fn command(&self) -> Option<&str> {
        self.0.conversation.as_ref()?.command.as_deref()
    }

    /// Returns the text that QEMU had written to its standard error by then (the end of it).
    pub fn stderr(&self) -> &str {
        &self.0.stderr
    }

    /// Returns the advice to the user, if there is one. [`Display`](fmt::Display) does not print
    /// it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl From<cpreg_stream::Error> for Error {
    /// Takes in the error of something that QEMU wrote and that is no stream.
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
                    // The reader has one line for both.
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
            write!(f, "; it said:")?;
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
            Self::Refused { description, .. } => write!(f, "QEMU says: {description}"),
            Self::Closed => f.write_str("QEMU closed the connection"),
            Self::TimedOut(limit) => write!(f, "no answer within {} s", limit.as_secs_f32()),
            Self::Interrupted => f.write_str("interrupted"),
            Self::Protocol(what) => write!(f, "not QMP: {what}"),
            Self::UnexpectedReply(question) => {
                write!(f, "QEMU's answer to `{question}` is not understood")
            }
            Self::NoCommand => f.write_str("no QEMU command was given"),
            Self::Start { program } => write!(f, "cannot start `{}`", program.display()),
            Self::Exited(status) => write!(f, "QEMU ended ({status})"),
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
            Self::NotPaused(state) => write!(
                f,
                "QEMU is in state `{state}` although it was started with -S: expected `prelaunch`"
            ),
            Self::NoStream {
                status,
                message: said,
            } => {
                write!(f, "QEMU could not write its stream (migration {status})")?;
                if said.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {said}")
                }
            }
            Self::CannotProbe { option, reason } => {
                write!(f, "cannot probe with `{}`: {reason}", option.display())
            }
            Self::CannotIsolate { words, reason, .. } => {
                let words = words.join(std::ffi::OsStr::new(" "));
                write!(f, "cannot isolate `{}`: {reason}", words.display())
            }
            Self::Stream => f.write_str("the device state"),
            Self::Io(what) => f.write_str(what),
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
    fn why_nobody_is_reached() {
        let hint = |kind: io::ErrorKind| {
            let error = Error::connect(kind.into());
            assert!(error.source().is_some());
            error.hint().unwrap_or_default().to_owned()
        };
        assert!(hint(io::ErrorKind::PermissionDenied).contains("or root"));
        assert!(hint(io::ErrorKind::ConnectionRefused).contains("still running"));
    }

    #[test]
    fn a_conversation_says_its_command_and_a_process_its_last_words() {
        let error = Error::for_qmp(ErrorKind::Closed)
            .with_command("stop")
            .with_stderr("one\ntwo".to_owned());
        assert_eq!(
            error.to_string(),
            "QMP `stop`: QEMU closed the connection; it said:\n  one\n  two"
        );
        assert_eq!(error.command(), Some("stop"));
        let error = Error::for_qmp(ErrorKind::TimedOut(Duration::from_secs(2)));
        assert_eq!(error.to_string(), "QMP: no answer within 2 s");
        assert!(error.hint().unwrap().contains("a second `-qmp`"));
    }
}
