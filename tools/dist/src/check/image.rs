//! The container image, read by other programs.

use std::process::Command;

use e2e_framework::tool;

use super::files::Files;
use crate::architecture::Architecture;
use crate::project::{Project, Result, read_output};

/// Checks the image with skopeo, unpacks it with umoci, and runs the command in it.
pub(super) fn check(project: &Project, files: &Files) -> Result<String> {
    let archives = files.find("cpreg-", "-oci.tar")?;
    let [archive] = &archives[..] else {
        return Err("more than one image".into());
    };
    let folder = tempfile::tempdir()?;
    let layout = folder.path().join("layout");
    let version = &project.version;
    let mut copy = Command::new("skopeo");
    // All architectures: every manifest and layer is read, and its checksum compared.
    copy.args(["copy", "--quiet", "--insecure-policy", "--all"]);
    copy.arg(format!("oci-archive:{}:{version}", archive.display()));
    tool::run(copy.arg(format!("oci:{}:{version}", layout.display())))?;
    let native = Architecture::native()?;
    let single = folder.path().join("single");
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--insecure-policy", "--override-arch"]);
    copy.arg(native.debian_name());
    copy.arg(format!("oci-archive:{}:{version}", archive.display()));
    tool::run(copy.arg(format!("oci:{}:{version}", single.display())))?;
    let bundle = folder.path().join("bundle");
    let image = format!("{}:{version}", single.display());
    tool::run(
        Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle),
    )?;
    // The image has nothing but the command.
    let mut command = Command::new("/usr/sbin/chroot");
    command
        .arg(bundle.join("rootfs"))
        .args(["/usr/bin/cpreg", "--version"]);
    let text = read_output(command.env_clear())?;
    if !text.contains(version) {
        return Err(format!("another version: {text}").into());
    }
    Ok(String::new())
}
