//! Certificates for migrations over TLS, in the layout of QEMU's `tls-creds-x509`.
//!
//! They have a common name and no subject alternative name, as GnuTLS accepts them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::tool::{self, Tool};

const OPENSSL: Tool = Tool {
    program: "openssl",
    package: "openssl",
};

/// Authority that signs certificates. Its files exist as long as the value.
#[derive(Debug)]
pub struct Authority(tempfile::TempDir);

impl Authority {
    /// Makes the key and the certificate of a new authority.
    ///
    /// # Errors
    /// Returns an error if the certificate cannot be made.
    pub fn make() -> Result<Self> {
        tool::ensure_installed(&[OPENSSL])?;
        let folder = tempfile::tempdir()?;
        make(folder.path(), "ca", "authority", None)?;
        Ok(Self(folder))
    }

    /// Writes the certificates of a host for both ends of a connection to this folder.
    ///
    /// # Errors
    /// Returns an error if a certificate cannot be made.
    pub fn write_certificates(&self, host: &str, folder: &Path) -> Result<()> {
        let authority = self.0.path();
        fs::copy(authority.join("ca-cert.pem"), folder.join("ca-cert.pem"))?;
        for end in ["server", "client"] {
            make(folder, end, host, Some(authority))?;
        }
        Ok(())
    }
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
