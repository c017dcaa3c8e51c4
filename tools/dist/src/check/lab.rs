//! The arm64 package on a real arm64 kernel with KVM, in an emulated host of the lab.
//!
//! The host's Debian system has no dpkg and is read-only, so the files of the package are in a
//! folder of their own. The check `install` covers dpkg.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels;
use e2e_framework::tool;

use super::files::{Files, sample_check};
use crate::architecture::Architecture;
use crate::project::{Project, Result};

/// Kernel and CPU model of the host.
const HOST: [&str; 2] = ["6.12.107", "neoverse-n1"];

/// Uses the command, `cpreg run` with its library, and `cpreg-guest-check`.
const SCRIPT: &str = "\
set -ex
root=/roots/10.0
exec > /out/stdout 2> /out/stderr
mkdir -p $root/tmp/package
cp /job/vm.stream.xz $root/tmp
tar -xf /job/package.tar -C $root/tmp/package
package=/tmp/package/usr/bin
chroot $root $package/cpreg --version
chroot $root $package/cpreg check /tmp/vm.stream.xz kvm
echo quit | chroot $root $package/cpreg run -- /usr/bin/qemu-system-aarch64 -accel kvm \\
    -machine virt -cpu host -m 64 -nodefaults -display none -S -monitor stdio
chroot $root $package/cpreg-guest-check record -o /tmp/record.json
";

/// Texts that the commands print.
const EXPECTED: [&str; 4] = ["cpreg ", "loads", "QEMU 10.0", "unchanged: no check of"];

/// Unpacks the arm64 package in an emulated host, and uses its programs.
pub(super) fn check(project: &Project, files: &Files) -> Result<String> {
    let end = format!("_{}.deb", Architecture::Aarch64.debian_name());
    let folder = tempfile::tempdir()?;
    let tar = folder.path().join("package.tar");
    let packages = files.find("cpreg_", &end)?;
    let [package] = &packages[..] else {
        return Err("the release has several arm64 packages".into());
    };
    let content = tool::run(Command::new("dpkg-deb").arg("--fsys-tarfile").arg(package))?;
    fs::write(&tar, content.stdout)?;
    let [stream, _] = sample_check(project);
    let lab = Lab::open()?;
    let kernels = lab.with_make_lock(|| kernels::fetch_versions(&lab.folder, &HOST[..1]))?;
    let kernel = kernels.first().ok_or("no kernel")?;
    lab.prepare(true)?;
    let job = Job {
        script: SCRIPT.to_owned(),
        files: vec![
            ("package.tar".to_owned(), tar.clone()),
            ("vm.stream.xz".to_owned(), stream),
        ],
        needs_roots: true,
        ..Job::default()
    };
    let cpu = Cpu::parse(HOST[1])?;
    let results = folder.path().join("results");
    EmulatedHost::new(kernel, &cpu).run(&lab, &job, &results)?;
    let output = read(&results, "stdout");
    let missing = EXPECTED.iter().find(|text| !output.contains(**text));
    match missing {
        None if read(&results, "status").trim() == "0" => {
            Ok(format!("  Linux {}, {}", HOST[0], HOST[1]))
        }
        _ => Err(format!("{output}{}", read(&results, "stderr")).into()),
    }
}

fn read(results: &Path, name: &str) -> String {
    let bytes = fs::read(results.join(name)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
