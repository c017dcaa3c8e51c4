//! Which versions of QEMU can have written a VM: its machine type, and parts of the CPU state that came or went with a version.
//!
//! | what is seen | tells |
//! |---|---|
//! | the machine type `virt-10.0` | 10.0 or later |
//! | a subsection of `cpu` | the version that it came with, or later ([`super::extension`]) |
//! | `env.features` | 5.2 or earlier |
//!
//! A distribution may have brought a part to an earlier version, so this is a hint for people; no decision looks at it.

use super::extension;
use super::{Version, VersionRange};
use crate::vm::Vm;

/// Which versions of QEMU can have written this VM.
pub fn writer_versions(machine: Option<&str>, vm: &Vm) -> VersionRange {
    let extensions = vm.vcpus.iter().flat_map(|vcpu| &vcpu.extensions);
    let since = extensions.clone().filter_map(extension::first_version);
    let until = extensions.filter_map(extension::last_version);
    VersionRange {
        first: since
            .chain(machine.and_then(Version::from_machine_type))
            .max(),
        last: until.min(),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::vm::{Content, Extension, Vcpu};

    fn versions(machine: &str, extensions: &[&'static str]) -> (Option<Version>, Option<Version>) {
        let extensions: Vec<_> = extensions
            .iter()
            .map(|name| Extension {
                name: (*name).into(),
                content: Content::Number(1),
            })
            .collect();
        let vcpus = vec![
            Vcpu::default(),
            Vcpu {
                extensions,
                ..Vcpu::default()
            },
        ];
        let versions = writer_versions(Some(machine), &Vm { vcpus });
        (versions.first, versions.last)
    }

    #[test]
    fn the_latest_beginning_and_the_earliest_end() {
        let version = |major, minor| Some(Version::new(major, minor));
        assert_eq!(versions("virt-7.2", &["cpu/vfp"]), (version(7, 2), None));
        assert_eq!(
            versions("virt-7.2", &["cpu/fpmr", "cpu/zt0"]),
            (version(11, 1), None)
        );
        assert_eq!(
            versions("virt-5.2", &["env.features"]),
            (version(5, 2), version(5, 2))
        );
        assert_eq!(versions("xlnx-zcu102", &["cpu/vfp"]), (None, None));
    }
}
