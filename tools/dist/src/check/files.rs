//! [`Files`]: the files of the release that is checked, and a VM on which its programs are tried.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::project::{Project, Result};

/// Files of the release that is checked.
pub(super) struct Files {
    pub(super) folder: PathBuf,
    /// Names and checksums.
    pub(super) sums: BTreeMap<String, String>,
}

impl Files {
    /// Returns the paths of the files whose names begin and end with these words.
    ///
    /// # Errors
    /// Returns an error if the release has none.
    pub(super) fn find(&self, start: &str, end: &str) -> Result<Vec<PathBuf>> {
        let names = self.sums.keys();
        let matching = names.filter(|name| name.starts_with(start) && name.ends_with(end));
        let paths: Vec<_> = matching.map(|name| self.folder.join(name)).collect();
        if paths.is_empty() {
            return Err(format!("the release has no file {start}…{end}").into());
        }
        Ok(paths)
    }
}

/// Returns the arguments of a check that converts: a VM of Linux 6.12 at a host with 6.16.
pub(super) fn sample_check(project: &Project) -> [PathBuf; 2] {
    let streams = project.root.join("tests/fixtures/streams/kvm");
    let stream = "6.12.107__q10.0__neoverse-n1__virt10.0-smp1.stream.xz";
    [streams.join(stream), "linux-6.16.12/neoverse-n1".into()]
}
