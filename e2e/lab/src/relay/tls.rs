//! Certificates for migrations over TLS, in the layout of QEMU's `tls-creds-x509`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e_framework::lab::folder::Lab;
use e2e_framework::tool::{self, Tool};
use e2e_framework::{Result, debian};

/// Folder of the certificates below `/job`.
pub(crate) const FOLDER: &str = "tls";

const OPENSSL: Tool = Tool {
    program: "openssl",
    package: "openssl",
};

/// Files that both ends need: name, and path on this machine. They are made anew for each run, and
/// are valid for a day.
///
/// # Errors
/// Returns an error if a certificate cannot be made.
pub(crate) fn certificates(lab: &Lab) -> Result<Vec<(String, PathBuf)>> {
    tool::ensure_installed(&[OPENSSL])?;
    lab.with_make_lock(|| {
        let folder = lab.folder.join(FOLDER);
        debian::remove(&folder)?;
        fs::create_dir_all(&folder)?;
        let authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign"];
        make(&folder, "ca", &authority)?;
        for (end, name) in [("server", "destination"), ("client", "source")] {
            let extensions = [
                &format!("subjectAltName=DNS:{name}"),
                "basicConstraints=critical,CA:FALSE",
                "keyUsage=digitalSignature,keyEncipherment",
                "extendedKeyUsage=serverAuth,clientAuth",
            ];
            make(&folder, end, &extensions)?;
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, entry.path()));
        }
        Ok(files)
    })
}

/// Makes a key and a certificate, which the authority `ca` signs.
fn make(folder: &Path, name: &str, extensions: &[&str]) -> Result<()> {
    let path = |name: &str| folder.join(name);
    let mut command = Command::new(OPENSSL.program);
    command
        .args(["req", "-x509", "-nodes", "-days", "1"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", &format!("/CN=lab {name}")])
        .arg("-keyout")
        .arg(path(&format!("{name}-key.pem")))
        .arg("-out")
        .arg(path(&format!("{name}-cert.pem")));
    if name != "ca" {
        command.arg("-CA").arg(path("ca-cert.pem"));
        command.arg("-CAkey").arg(path("ca-key.pem"));
    }
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    tool::output_of(&mut command).map(drop)
}

/// Returns the time in seconds since 1970. Emulated hosts may have another, at which the
/// certificates are not valid.
pub(crate) fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}
