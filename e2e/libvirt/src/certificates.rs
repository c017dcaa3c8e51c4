//! Certificates of the hosts, in libvirt's folder for QEMU.

use std::fs;

use e2e_framework::certificates::Authority;
use e2e_framework::{Result, debian};

use crate::host::Host;

/// Folder of the certificates in a host.
pub(crate) const FOLDER: &str = "/etc/pki/qemu";

/// Gives both hosts certificates of one authority.
///
/// # Errors
/// Returns an error if a certificate cannot be made.
pub(crate) fn install(hosts: [&Host; 2]) -> Result<()> {
    let authority = Authority::make()?;
    for host in hosts {
        let folder = host.path(FOLDER.trim_start_matches('/'));
        debian::remove(&folder)?;
        fs::create_dir_all(&folder)?;
        authority.write_certificates(host.generation().name, &folder)?;
    }
    Ok(())
}
