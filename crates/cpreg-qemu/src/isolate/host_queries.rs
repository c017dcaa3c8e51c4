//! [`HostQueries`]: queries about the host for isolating a command line.

use std::path::Path;

use super::images::{ImageFormat, size as image_size};
use super::namespace::probe_namespace;

/// Queries of [`isolate`](super::isolate) about the host, which a test can replace.
pub trait HostQueries {
    /// Returns the size in bytes of a disk image as a guest sees it; `None` if the size is unknown.
    fn image_size(&self, path: &Path, contents: ImageFormat) -> Option<u64>;

    /// Returns the words that run a command in an empty network namespace, where it can create a
    /// tap.
    ///
    /// [`isolate`](super::isolate) calls this function only if a network backend needs a tap.
    ///
    /// # Errors
    /// The reason why no namespace can be created.
    fn network_namespace_command(&self) -> Result<&'static [&'static str], String>;
}

/// Queries of the real host: [`image_size()`] and [`probe_namespace`].
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
