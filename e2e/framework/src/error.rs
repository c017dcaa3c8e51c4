//! Error type of the framework: text for the user of a task.

/// An error with a message for the user of the task.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a task, or of one step of a task.
pub type Result<T> = std::result::Result<T, Failure>;
