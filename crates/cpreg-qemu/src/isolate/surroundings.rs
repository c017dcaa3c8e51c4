//! [`Surroundings`]: questions to the host about a command line.

use std::path::Path;

use super::images::{Contents, size as image_size};
use super::namespace::namespace_possible;

/// What [`isolate`](super::isolate) asks of the host.
pub trait Surroundings {
    /// The size in bytes that a guest sees of a disk image; `None` if it cannot be told.
    fn image_size(&self, path: &Path, contents: Contents) -> Option<u64>;

    /// The words that run a command in an empty network namespace where it can make a tap; else why there can be none.
    ///
    /// Asked only if a tap is wanted.
    ///
    /// # Errors
    /// Why not.
    fn namespace(&self) -> Result<&'static [&'static str], String>;
}

/// The host as it is: [`image_size()`] and [`namespace_possible`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

impl Surroundings for Host {
    fn image_size(&self, path: &Path, contents: Contents) -> Option<u64> {
        image_size(path, contents)
    }

    fn namespace(&self) -> Result<&'static [&'static str], String> {
        namespace_possible()
    }
}
