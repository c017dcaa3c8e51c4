//! Certificates for migrations over TLS, in the layout of libvirt's `/etc/pki/qemu`.
//!
//! They have a common name and no subject alternative name, as GnuTLS accepts them.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e_framework::tool::{self, Tool};
use e2e_framework::{Result, debian};

use crate::host::Host;

const OPENSSL: Tool = Tool {
    program: "openssl",
    package: "openssl",
};
/// Folder of the certificates in a host.
pub(crate) const FOLDER: &str = "/etc/pki/qemu";

/// Gives both hosts certificates of one authority.
///
/// # Errors
/// Returns an error if a certificate cannot be made.
pub(crate) fn install(hosts: [&Host; 2]) -> Result<()> {
    tool::ensure_installed(&[OPENSSL])?;
    let authority = tempfile::tempdir()?;
    make(authority.path(), "ca", "authority", None)?;
    for host in hosts {
        let folder = host.path(FOLDER.trim_start_matches('/'));
        debian::remove(&folder)?;
        fs::create_dir_all(&folder)?;
        fs::copy(
            authority.path().join("ca-cert.pem"),
            folder.join("ca-cert.pem"),
        )?;
        for end in ["server", "client"] {
            make(&folder, end, host.generation().name, Some(authority.path()))?;
        }
    }
    Ok(())
}

/// Makes a key and a certificate; without `authority`, that of an authority.
fn make(folder: &Path, end: &str, name: &str, authority: Option<&Path>) -> Result<()> {
    let mut command = Command::new(OPENSSL.program);
    command
        .args(["req", "-x509", "-nodes", "-days", "2"])
        .args(["-newkey", "rsa:2048", "-subj", &format!("/CN={name}")])
        .arg("-keyout")
        .arg(folder.join(format!("{end}-key.pem")))
        .arg("-out")
        .arg(folder.join(format!("{end}-cert.pem")));
    let extensions = match authority {
        Some(authority) => {
            command.arg("-CA").arg(authority.join("ca-cert.pem"));
            command.arg("-CAkey").arg(authority.join("ca-key.pem"));
            [
                "basicConstraints=critical,CA:FALSE",
                "keyUsage=digitalSignature,keyEncipherment",
            ]
        }
        None => ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign"],
    };
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    tool::output_of(&mut command).map(drop)
}
