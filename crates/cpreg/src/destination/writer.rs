//! The versions of QEMU that can have written a VM, by the VM's machine type and CPU state.
//!
//! | evidence | versions |
//! |---|---|
//! | the machine type `virt-10.0` | 10.0 or later |
//! | a `cpu` subsection | the first version with the subsection, or later ([`super::extension`]) |
//! | `env.features` | 5.2 or earlier |
//!
//! A distribution may have backported a subsection to an earlier version. Reports show the range as
//! a hint. No decision uses the range.

use super::extension;
use super::{Version, VersionRange};
use crate::vm::Vm;

/// Returns the versions of QEMU that can have written this VM.
pub fn writer_versions(machine: Option<&str>, vm: &Vm) -> VersionRange {
    let extensions = vm.vcpus.iter().flat_map(|vcpu| &vcpu.extensions);
    let first_versions = extensions.clone().filter_map(extension::first_version);
    let last_versions = extensions.filter_map(extension::last_version);
    VersionRange {
        first: first_versions
            .chain(machine.and_then(Version::from_machine_type))
            .max(),
        last: last_versions.min(),
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
        let versions = writer_versions(
            Some(machine),
            &Vm {
                vcpus,
                ..Vm::default()
            },
        );
        (versions.first, versions.last)
    }

    #[test]
    fn range_has_the_latest_first_and_the_earliest_last_version() {
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
