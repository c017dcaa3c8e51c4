//! Answers of the checks.

/// What a check found, or why it has no answer.
pub(crate) use wheels::Result;

/// A line for the person who started the check.
pub(crate) type Finding = String;
