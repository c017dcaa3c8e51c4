//! The machine that runs this program.

use std::fs;

/// Returns the release of this machine's Linux (`uname -r`), or `None` on other systems.
pub(crate) fn kernel_release() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}
