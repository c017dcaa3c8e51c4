//! What went wrong, for the user: a message, its causes, and hints; and the exit status.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It loads or converts; or what was asked for is done.
    Success,
    /// It is refused; or the two things compared differ.
    Refused,
    /// Bad usage or bad input.
    Error,
    /// What is known does not tell.
    Unknown,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Success => 0,
            Status::Refused => 1,
            Status::Error => 2,
            Status::Unknown => 3,
        })
    }
}

/// Error with a hint beside its message.
pub(crate) trait ErrorWithHint: Error + Send + Sync + 'static {
    /// Returns the advice to the user, where there is one.
    fn hint(&self) -> Option<&str>;
}

impl ErrorWithHint for cpreg_stream::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }
}

impl ErrorWithHint for cpreg_qemu::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }
}

#[cfg(target_os = "linux")]
impl ErrorWithHint for cpreg_relay::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cause: None,
            hints: Vec::new(),
        }
    }

    pub(crate) fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// An error of this machine's KVM, whose advice stands in the same line.
    pub(crate) fn with_kvm_cause(self, error: cpreg_kvm::Error) -> Self {
        if error.hint().is_none() {
            return self.with_cause(error);
        }
        Self {
            cause: Some(error.to_string_with_hint().into()),
            ..self
        }
    }

    /// An error of a recorded host's or profile's file, whose advice stands in the same line.
    pub(crate) fn with_document_cause(self, error: cpreg_hosts::Error) -> Self {
        let Some(hint) = error.hint() else {
            return self.with_cause(error);
        };
        Self {
            cause: Some(format!("{error}: {hint}").into()),
            ..self
        }
    }

    /// Adds a cause; its hint becomes a hint of this failure.
    pub(crate) fn with_hinted_cause(self, error: impl ErrorWithHint) -> Self {
        let hint = error.hint().map(str::to_owned);
        let failure = self.with_cause(error);
        hint.into_iter().fold(failure, Self::with_hint)
    }

    /// Adds a cause with its hint behind it, in one line.
    pub(crate) fn with_inline_cause(self, error: &impl ErrorWithHint) -> Self {
        let cause = match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }

    /// Says where it went wrong before what went wrong.
    pub(crate) fn with_context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// A file could not be opened, read or written.
    pub(crate) fn io(what: &str, path: &Path, cause: io::Error) -> Self {
        let failure = Self::new(format!("cannot {what} {}", path.display()));
        let hint = match cause.kind() {
            io::ErrorKind::PermissionDenied => Some("run it as a user who may, or copy the file"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("nothing was changed; make room, or write to another filesystem")
            }
            _ => None,
        };
        let failure = failure.with_cause(cause);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    /// Whether nobody reads the answer any more, which needs no message.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let cause = self.cause.as_ref().and_then(|cause| cause.downcast_ref());
        cause.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The causes, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> = self.cause.as_ref().map(|cause| &**cause as &dyn Error);
        while let Some(cause) = next {
            let text = cause.to_string().trim_end().to_owned();
            // Some errors repeat their source in their own message.
            if !causes.iter().any(|other: &String| other.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl From<cpreg_report::Error> for Failure {
    fn from(error: cpreg_report::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        let failure = Self::new(error.to_string());
        hint.into_iter().fold(failure, Self::with_hint)
    }
}
