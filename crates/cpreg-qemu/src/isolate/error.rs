//! [`IsolateError`]: why a command line cannot be isolated.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// Why a command line cannot be isolated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IsolateError {
    /// There are no words.
    NoCommand,
    /// An option stands in the way.
    Option {
        /// Its words.
        words: Vec<OsString>,
        /// Why.
        reason: &'static str,
        /// What to give as one of the `keep` of [`isolate`](super::isolate) to keep it as it is; `None` if that makes no sense.
        keep: Option<String>,
    },
}

impl IsolateError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Option {
                keep: Some(keep), ..
            } => {
                let quoted = if keep.contains(' ') {
                    format!("'{keep}'")
                } else {
                    keep.clone()
                };
                Some(format!(
                    "leave it out, or keep it as it is, at your own risk, with `--keep {quoted}`"
                ))
            }
            _ => None,
        }
    }
}

impl fmt::Display for IsolateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => write!(f, "no QEMU command was given"),
            Self::Option { words, reason, .. } => {
                let words = words.join(OsStr::new(" "));
                write!(f, "cannot isolate `{}`: {reason}", words.display())
            }
        }
    }
}

impl std::error::Error for IsolateError {}
