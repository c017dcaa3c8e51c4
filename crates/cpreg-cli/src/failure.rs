//! Error type of the command, with message, causes and hints, and the exit status.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cpreg_report::failure::ErrorReport;
use cpreg_report::names::FailureKind;

/// Exit status of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// The VM loads or converts, or the command succeeded.
    Success,
    /// The VM is refused, or the compared inputs differ.
    Refused,
    /// Bad usage or bad input.
    Error,
    /// Not enough information to decide.
    Unknown,
}

impl Status {
    /// Returns the status of a command about many VMs: a refusal precedes what is not known.
    pub(crate) const fn of_many(is_refused: bool, is_incomplete: bool) -> Self {
        if is_refused {
            Self::Refused
        } else if is_incomplete {
            Self::Unknown
        } else {
            Self::Success
        }
    }

    /// Returns the exit status as a number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Refused => 1,
            Self::Error => 2,
            Self::Unknown => 3,
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.code())
    }
}

/// Error of a library that has advice in addition to its message.
pub(crate) trait ErrorWithHint: Error + Send + Sync + 'static {
    /// Returns the advice to the user; `None` if the error has none.
    fn hint(&self) -> Option<&str>;

    /// Returns the subject of the error, for JSON.
    fn failure_kind(&self) -> FailureKind;

    /// Returns the offset of the error in the stream; `None` if the error has none.
    fn stream_offset(&self) -> Option<u64> {
        None
    }
}

impl ErrorWithHint for cpreg_stream::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }

    fn failure_kind(&self) -> FailureKind {
        stream_failure_kind(self.kind())
    }

    fn stream_offset(&self) -> Option<u64> {
        self.offset()
    }
}

/// Returns the subject of an error of a stream.
const fn stream_failure_kind(kind: cpreg_stream::ErrorKind) -> FailureKind {
    match kind {
        cpreg_stream::ErrorKind::Io | cpreg_stream::ErrorKind::NoSpace => FailureKind::IO,
        _ => FailureKind::STREAM,
    }
}

impl ErrorWithHint for cpreg_qemu::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }

    fn failure_kind(&self) -> FailureKind {
        FailureKind::QEMU
    }
}

#[cfg(target_os = "linux")]
impl ErrorWithHint for cpreg_relay::Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }

    fn failure_kind(&self) -> FailureKind {
        match self.kind() {
            cpreg_relay::ErrorKind::Stream(kind) => stream_failure_kind(kind),
            _ => FailureKind::RELAY,
        }
    }

    fn stream_offset(&self) -> Option<u64> {
        self.offset()
    }
}

/// Error of a command.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: FailureKind,
    message: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
    hints: Vec<String>,
    /// File or socket with the error, if it is known.
    path: Option<PathBuf>,
    /// Offset of the error in a stream, if it has one.
    offset: Option<u64>,
    status: Status,
}

impl Failure {
    /// Creates an error about an argument or an input. A cause can change the kind.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            kind: FailureKind::INPUT,
            message: message.into(),
            cause: None,
            hints: Vec::new(),
            path: None,
            offset: None,
            status: Status::Error,
        }))
    }

    pub(crate) fn with_kind(mut self, kind: FailureKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Names the file or socket with the error. The message names it too.
    pub(crate) fn with_path(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// Sets the exit status, for a command that ends before it can print a report.
    pub(crate) fn with_status(mut self, status: Status) -> Self {
        self.0.status = status;
        self
    }

    /// Returns the exit status of the command.
    pub(crate) fn status(&self) -> Status {
        self.0.status
    }

    pub(crate) fn with_cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        let cause: Box<dyn Error + Send + Sync> = Box::new(cause);
        if let Some(error) = cause.downcast_ref::<cpreg_stream::Error>() {
            self = self.with_subject_of(error);
        }
        self.0.cause = Some(cause);
        self
    }

    /// Adds a cause that is only a text.
    fn with_text_cause(mut self, cause: String) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds an error of this machine's KVM as cause, with its hint in the same line.
    pub(crate) fn with_kvm_cause(self, error: cpreg_kvm::Error) -> Self {
        let failure = self.with_kind(FailureKind::KVM);
        if error.hint().is_none() {
            return failure.with_cause(error);
        }
        failure.with_text_cause(error.to_string_with_hint())
    }

    /// Adds an error in the file of a recorded host or profile as cause, with its hint in the same
    /// line.
    pub(crate) fn with_document_cause(self, error: cpreg_hosts::Error) -> Self {
        let failure = self.with_kind(FailureKind::DOCUMENT);
        match error.hint() {
            Some(hint) => failure.with_text_cause(format!("{error}: {hint}")),
            None => failure.with_cause(error),
        }
    }

    /// Adds a cause. The hint of the cause becomes a hint of this failure.
    pub(crate) fn with_hinted_cause(self, error: impl ErrorWithHint) -> Self {
        let hint = error.hint().map(str::to_owned);
        let failure = self.with_subject_of(&error).with_cause(error);
        hint.into_iter().fold(failure, Self::with_hint)
    }

    /// Adds a cause, with the hint of the cause in the same line.
    pub(crate) fn with_inline_cause(self, error: &impl ErrorWithHint) -> Self {
        let cause = match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        self.with_subject_of(error).with_text_cause(cause)
    }

    /// Takes the kind and the offset of a cause.
    fn with_subject_of(mut self, error: &impl ErrorWithHint) -> Self {
        self.0.kind = error.failure_kind();
        self.0.offset = error.stream_offset();
        self
    }

    /// Prefixes the message with the place of the error, such as a file and line.
    pub(crate) fn with_context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// Returns the error of a file that could not be opened, read or written.
    pub(crate) fn io(action: &str, path: &Path, cause: io::Error) -> Self {
        let failure = Self::new(format!("cannot {action} {}", path.display()));
        let hint = match cause.kind() {
            io::ErrorKind::PermissionDenied => {
                Some("run cpreg as a user with access to the file, or copy the file")
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Some("nothing was changed; free some space, or write to another filesystem")
            }
            _ => None,
        };
        let failure = failure.with_kind(FailureKind::IO).with_path(path);
        let failure = failure.with_cause(cause);
        match hint {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }

    /// Returns `true` if the reader of standard output has exited. Such a failure needs no message.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        let cause = self.0.cause.as_ref().and_then(|cause| cause.downcast_ref());
        cause.is_some_and(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.0.hints
    }

    /// Returns the causes, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut next: Option<&dyn Error> =
            self.0.cause.as_ref().map(|cause| &**cause as &dyn Error);
        while let Some(cause) = next {
            let text = cause.to_string().trim_end().to_owned();
            // Some errors repeat their source in their message, so skip a text that another cause
            // contains.
            if !causes.iter().any(|other: &String| other.contains(&text)) {
                causes.push(text);
            }
            next = cause.source();
        }
        causes
    }
}

impl From<&Failure> for ErrorReport {
    fn from(failure: &Failure) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let status = failure.status().code();
        let mut report = Self::new(
            version,
            failure.0.kind.clone(),
            failure.0.message.clone(),
            status,
        );
        report.causes = failure.causes();
        report.hints.clone_from(&failure.0.hints);
        let path = failure.0.path.as_deref();
        report.path = path.map(|path| path.display().to_string());
        report.offset = failure.0.offset.map(Into::into);
        report
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
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
