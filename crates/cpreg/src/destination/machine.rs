//! Comparison of a VM's accelerator and machine with the destination's.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::loader::Program;
use super::{Accelerator, Destination, Loader, Version};
use crate::remedy::Remedy;
use crate::shape::{MachineShape, RamBlock, ShapeDifference, ShapePart};

impl Destination {
    /// Returns the differences between a VM's accelerator and machine and the destination's.
    ///
    /// `accelerator` and `machine` belong to the VM. A part that is not known on one side does not
    /// differ.
    pub fn shape_differences(
        &self,
        accelerator: Option<Accelerator>,
        machine: Option<&MachineShape>,
    ) -> Vec<ShapeDifference> {
        // Another machine would not help a VM that another accelerator ran.
        if let Some(difference) = self.accelerator_difference(accelerator) {
            return alloc::vec![difference];
        }
        let Some(machine) = machine else {
            return Vec::new();
        };
        let missing_type = self.missing_machine_type(machine.machine.as_deref());
        let others = self
            .shape
            .as_ref()
            .map(|shape| machine.differences(shape))
            .unwrap_or_default();
        // A destination that lacks the machine type cannot be started with it.
        let is_replaced = missing_type.is_some();
        let others = others
            .into_iter()
            .filter(|difference| !is_replaced || difference.part != ShapePart::MachineType);
        missing_type.into_iter().chain(others).collect()
    }

    /// Returns the differences of the machine type and the RAM blocks, which a source sends before
    /// RAM's pages.
    ///
    /// A difference that blocks is certain, whatever the source sends later. The VM's vCPUs and
    /// devices are not known yet and never differ; an empty list of RAM blocks is not known either.
    pub fn setup_differences(
        &self,
        machine_type: Option<&str>,
        ram: &[RamBlock],
    ) -> Vec<ShapeDifference> {
        let setup = MachineShape {
            machine: machine_type.map(String::from),
            ram: ram.to_vec(),
            // The destination's own vCPUs and devices never differ.
            ..self.shape.clone().unwrap_or_default()
        };
        self.shape_differences(None, Some(&setup))
    }

    /// Returns the difference for a machine type that the destination's loader does not have.
    ///
    /// Names of distributions, such as `virt-rhel9.4.0`, contain no version of QEMU and never
    /// differ.
    pub fn missing_machine_type(&self, machine_type: Option<&str>) -> Option<ShapeDifference> {
        missing_machine_type(machine_type?, self.loader?)
    }

    /// Returns the difference between the accelerator of a VM and the destination's, if both are
    /// known. Such VMs have no registers that could be compared.
    pub fn accelerator_difference(
        &self,
        accelerator: Option<Accelerator>,
    ) -> Option<ShapeDifference> {
        let (source, destination) = (accelerator?, self.accelerator?);
        (source != destination).then(|| ShapeDifference {
            part: ShapePart::Accelerator,
            source: Some(source.name().to_string()),
            destination: Some(destination.name().to_string()),
            blocks: true,
            reason: Some(Cow::Borrowed(
                "each accelerator has its own list of registers, and no QEMU loads the CPU state \
                 of another one",
            )),
            remedy: Some(Remedy::Text(Cow::Owned(format!(
                "choose a destination under {source}; or shut the guest down and start it anew at \
                 the destination"
            )))),
        })
    }
}

/// First version of QEMU in which machine types of a certain age are known to be absent.
///
/// QEMU 10.1 began to leave them out. 10.2 lacks `virt-4.2`, as libvirt's tests note, and 11.1.3
/// lists `virt-5.2` as its oldest (recorded).
const FIRST_WITHOUT_EXPIRED: Version = Version::new(10, 2);

/// Age in major versions at which QEMU leaves out a machine type (`MACHINE_VER_DELETION_MAJOR` in
/// QEMU's `include/hw/core/boards.h`).
const EXPIRY_MAJORS: u16 = 6;

/// Returns the difference for a machine type that the loader does not have.
fn missing_machine_type(name: &str, loader: Loader) -> Option<ShapeDifference> {
    if loader.program != Program::QEMU {
        return None;
    }
    let version = Version::from_machine_type(name)?;
    let (family, _) = name.rsplit_once('-')?;
    let (reason, remedy): (String, String) = if version > loader.version {
        (
            format!(
                "QEMU {} does not have it: {version} is the first",
                loader.version
            ),
            format!(
                "choose a destination with QEMU {version} or later; or start the VM at the source \
                 with -machine {family}-{}",
                loader.version
            ),
        )
    } else if is_expired(version, loader.version) {
        (
            format!(
                "QEMU {} does not have it: QEMU leaves out machine types that are {EXPIRY_MAJORS} \
                 years old",
                loader.version
            ),
            format!(
                "choose a destination with a QEMU before {}; or start the VM at the source with a \
                 machine type that both have",
                expiry(version)
            ),
        )
    } else {
        return None;
    };
    Some(ShapeDifference {
        part: ShapePart::MachineType,
        source: Some(name.to_string()),
        destination: None,
        blocks: true,
        reason: Some(Cow::Owned(reason)),
        remedy: Some(Remedy::Text(Cow::Owned(remedy))),
    })
}

/// Returns `true` if a version of QEMU is known to leave out this version's machine types.
fn is_expired(machine: Version, loader: Version) -> bool {
    loader >= FIRST_WITHOUT_EXPIRED && loader >= expiry(machine)
}

/// Returns the first version of QEMU that leaves out this version's machine types.
const fn expiry(machine: Version) -> Version {
    Version::new(machine.major.saturating_add(EXPIRY_MAJORS), machine.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::ValueOrigin;
    use crate::hardware::HardwareFacts;

    fn destination(loader: Option<Loader>, machine: Option<&str>) -> Destination {
        Destination {
            name: "destination".into(),
            accelerator: Some(Accelerator::Kvm),
            loader,
            value_origin: ValueOrigin::Reset,
            vcpus: Vec::new(),
            kernel_version: None,
            hardware: HardwareFacts::UNKNOWN,
            shape: machine.map(|machine| shape(Some(machine))),
        }
    }

    fn shape(machine: Option<&str>) -> MachineShape {
        MachineShape {
            machine: machine.map(String::from),
            vcpu_count: 1,
            ..MachineShape::default()
        }
    }

    #[test]
    fn another_accelerator_blocks() {
        let kvm = destination(None, None);
        let differences = kvm.shape_differences(Some(Accelerator::Tcg), None);
        let [difference] = &differences[..] else {
            panic!("{differences:?}");
        };
        assert!(difference.blocks);
        assert_eq!(difference.part, ShapePart::Accelerator);
        assert_eq!(difference.source.as_deref(), Some("tcg"));
        assert_eq!(difference.destination.as_deref(), Some("kvm"));
        assert!(difference.reason.is_some() && difference.remedy.is_some());
        for same in [None, Some(Accelerator::Kvm)] {
            assert_eq!(kvm.shape_differences(same, None), []);
        }
    }

    #[test]
    fn only_the_machine_type_and_ram_of_a_setup_differ() {
        let ram = |length| {
            alloc::vec![RamBlock {
                name: "mach-virt.ram".into(),
                length,
            }]
        };
        let mut known = destination(Some(Loader::qemu(10, 0)), Some("virt-10.0"));
        if let Some(shape) = &mut known.shape {
            shape.ram = ram(1 << 26);
            shape.vcpu_count = 4;
        }
        let parts = |destination: &Destination, machine, length| -> Vec<_> {
            let differences = destination.setup_differences(machine, &ram(length));
            assert!(differences.iter().all(|difference| difference.blocks));
            differences.into_iter().map(|it| it.part).collect()
        };
        let block = ShapePart::RamBlock("mach-virt.ram".into());
        assert_eq!(parts(&known, Some("virt-10.0"), 1 << 26), []);
        assert_eq!(parts(&known, None, 1 << 26), []);
        assert_eq!(parts(&known, None, 1 << 27), core::slice::from_ref(&block));
        for other in ["virt-7.2", "virt-11.1"] {
            let both = [ShapePart::MachineType, block.clone()];
            assert_eq!(parts(&known, Some(other), 1 << 27), both);
        }
        assert_eq!(known.setup_differences(Some("virt-10.0"), &[]), []);
        let unknown = destination(None, None);
        assert_eq!(parts(&unknown, Some("virt-7.2"), 1 << 27), []);
    }

    /// Returns the reason why a version of QEMU lacks a machine type.
    fn reason(machine: &str, loader: Loader) -> Option<String> {
        let difference = missing_machine_type(machine, loader)?;
        assert!(difference.blocks && difference.remedy.is_some());
        difference.reason.map(Cow::into_owned)
    }

    #[test]
    fn a_newer_machine_type_is_missing() {
        for (machine, loader) in [
            ("virt-11.1", Loader::qemu(10, 0)),
            ("virt-10.0", Loader::qemu(8, 2)),
            ("virt-10.1", Loader::qemu(10, 0)),
        ] {
            let reason = reason(machine, loader).expect(machine);
            assert!(reason.ends_with("is the first"), "{reason}");
        }
        for machine in [
            "virt-10.0",
            "virt-7.2",
            "virt-rhel9.4.0",
            "virt",
            "sbsa-ref",
        ] {
            assert_eq!(reason(machine, Loader::qemu(10, 0)), None, "{machine}");
        }
        assert_eq!(reason("virt-11.1", Loader::CPREG), None);
    }

    /// Lists of `-machine help`: 11.1.3 begins with `virt-5.2`, 10.0.13 with `virt-2.6`.
    #[test]
    fn an_expired_machine_type_is_missing() {
        for (machine, loader, is_missing) in [
            ("virt-5.1", Loader::qemu(11, 1), true),
            ("virt-5.2", Loader::qemu(11, 1), false),
            ("virt-4.2", Loader::qemu(10, 2), true),
            ("virt-5.0", Loader::qemu(10, 2), false),
            ("virt-2.6", Loader::qemu(10, 0), false),
        ] {
            let reason = reason(machine, loader);
            assert_eq!(reason.is_some(), is_missing, "{machine} {loader}");
            assert!(reason.is_none_or(|reason| reason.contains("6 years old")));
        }
    }

    #[test]
    fn a_missing_machine_type_replaces_the_difference_of_names() {
        let source = shape(Some("virt-11.1"));
        let blocking = |loader, machine| {
            let destination = destination(loader, machine);
            destination.shape_differences(None, Some(&source))
        };
        let old = blocking(Some(Loader::qemu(10, 0)), Some("virt-10.0"));
        assert_eq!(old.len(), 1);
        assert!(old[0].reason.is_some());
        let new = blocking(Some(Loader::qemu(11, 1)), Some("virt-10.0"));
        assert_eq!(new.len(), 1);
        assert!(new[0].reason.is_none() && new[0].remedy.is_none());
        assert_eq!(blocking(None, None), []);
        assert_eq!(blocking(Some(Loader::qemu(11, 1)), Some("virt-11.1")), []);
    }
}
