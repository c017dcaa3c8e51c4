//! The error of everything here: text for the person who started a task.

/// An error, in words for the person who started the task.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of a task or of a part of one.
pub type Result<T> = std::result::Result<T, Failure>;
