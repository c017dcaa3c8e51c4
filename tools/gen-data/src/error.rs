//! Error type of the generators: text for their user.

/// An error with a message for the user of the generator.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Result of a generator.
pub(crate) type Result<T> = std::result::Result<T, Failure>;
