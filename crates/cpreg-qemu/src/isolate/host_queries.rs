//! [`HostQueries`]: questions to the host about a command line.

use std::path::Path;

use super::images::{ImageFormat, size as image_size};
use super::namespace::probe_namespace;

/// What [`isolate`](super::isolate) asks of the host.
pub trait HostQueries {
    /// The size in bytes that a guest sees of a disk image; `None` if it cannot be told.
    fn image_size(&self, path: &Path, contents: ImageFormat) -> Option<u64>;

    /// The words that run a command in an empty network namespace where it can make a tap; else why there can be none.
    ///
    /// Asked only if a tap is wanted.
    ///
    /// # Errors
    /// Why not.
    fn network_namespace_command(&self) -> Result<&'static [&'static str], String>;
}

/// The host as it is: [`image_size()`] and [`probe_namespace`].
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalHost;

impl HostQueries for LocalHost {
    fn image_size(&self, path: &Path, contents: ImageFormat) -> Option<u64> {
        image_size(path, contents)
    }

    fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
        probe_namespace()
    }
}
