//! Results of the checks.

/// Findings of a check, or the reason why it could not run.
pub(crate) use wheels::Result;

/// A line for the user of the check.
pub(crate) type Finding = String;
