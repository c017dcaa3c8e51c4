//! Answers of the checks.

/// An error that ends a check before it has an answer.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// A line for the person who started the check.
pub(crate) type Finding = String;
