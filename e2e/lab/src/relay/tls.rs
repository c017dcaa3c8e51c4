//! Certificates for migrations over TLS, in the layout of QEMU's `tls-creds-x509`.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e_framework::certificates::Authority;
use e2e_framework::lab::folder::Lab;
use e2e_framework::{Result, debian};

/// Folder of the certificates below `/job`.
pub(crate) const FOLDER: &str = "tls";

/// Files that both ends need: name, and path on this machine. They are made anew for each run, and
/// are valid for two days.
///
/// # Errors
/// Returns an error if a certificate cannot be made.
pub(crate) fn certificates(lab: &Lab) -> Result<Vec<(String, PathBuf)>> {
    lab.with_make_lock(|| {
        let folder = lab.folder.join(FOLDER);
        debian::remove(&folder)?;
        fs::create_dir_all(&folder)?;
        Authority::make()?.write_certificates("destination", &folder)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, entry.path()));
        }
        Ok(files)
    })
}

/// Returns the time in seconds since 1970. Emulated hosts may have another, at which the
/// certificates are not valid.
pub(crate) fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}
