//! The error of everything here: text for the person who started the generator.

/// An error, in words for the person who started the generator.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The result of a generator.
pub(crate) type Result<T> = std::result::Result<T, Failure>;
