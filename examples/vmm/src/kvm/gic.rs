//! [`Gic`]: KVM's GICv3, with saving and loading of its state.
//!
//! The order is that of the kernel's documentation (Linux
//! `Documentation/virt/kvm/devices/arm-vgic-v3.rst`). GICD_IIDR comes first, because it identifies
//! the revision of the GIC. The distributor, the redistributors and the CPU interfaces follow. No
//! vCPU may run meanwhile. The GIC is loaded after the vCPUs' registers, because the PPIs of the
//! timers follow those.
//!
//! Pending state has two parts: ISPENDR holds the latched state, and the line levels are separate.

use std::collections::BTreeMap;

use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::failure::step_failure;
use crate::migrate::Failure;

/// Guest physical address of the distributor.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// Guest physical address of the redistributors, 128 KiB for each vCPU. Those of 512 vCPUs end
/// below the guest's memory, and do not overlap the report device.
const REDISTRIBUTORS: u64 = 0x1000_0000;
/// Number of interrupts: 32 private and 32 shared ones, the minimum.
const INTERRUPTS: u32 = 64;
/// GICD_IIDR, with the revision of the GIC that the kernel emulates.
const IIDR: u64 = 0x0008;

/// Group and attribute of a register of the device.
type Key = (u32, u64);

/// KVM's GICv3 device of a VM.
#[derive(Debug)]
pub struct Gic {
    device: DeviceFd,
    vcpus: usize,
}

impl Gic {
    /// Creates the GICv3 of a VM whose vCPUs all exist.
    ///
    /// # Errors
    /// Fails with the step that did not work.
    pub fn new(vm: &VmFd, vcpus: usize) -> Result<Self, Failure> {
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            ..Default::default()
        };
        let device = vm
            .create_device(&mut device)
            .map_err(step_failure("KVM_CREATE_DEVICE (GICv3)"))?;
        let gic = Self { device, vcpus };
        let (distributor, redistributors, interrupts) = (DISTRIBUTOR, REDISTRIBUTORS, INTERRUPTS);
        let addresses = KVM_DEV_ARM_VGIC_GRP_ADDR;
        gic.set_attribute(
            addresses,
            KVM_VGIC_V3_ADDR_TYPE_DIST,
            &raw const distributor,
        )?;
        gic.set_attribute(
            addresses,
            KVM_VGIC_V3_ADDR_TYPE_REDIST,
            &raw const redistributors,
        )?;
        gic.set_attribute(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &raw const interrupts)?;
        gic.set_attribute(
            KVM_DEV_ARM_VGIC_GRP_CTRL,
            KVM_DEV_ARM_VGIC_CTRL_INIT,
            std::ptr::null::<u64>(),
        )?;
        Ok(gic)
    }

    fn set_attribute<T>(&self, group: u32, attribute: u32, value: *const T) -> Result<(), Failure> {
        let attribute = kvm_device_attr {
            group,
            attr: u64::from(attribute),
            addr: value.expose_provenance() as u64,
            flags: 0,
        };
        self.device
            .set_device_attr(&attribute)
            .map_err(step_failure("KVM_SET_DEVICE_ATTR (GICv3)"))
    }

    /// Reads the state. No vCPU runs.
    ///
    /// # Errors
    /// Fails with the register that cannot be read.
    pub fn save(&self) -> Result<Vec<(u32, u64, u64)>, Failure> {
        let keys = self.keys()?.into_iter();
        keys.map(|key| Ok((key.0, key.1, self.read(key)?)))
            .collect()
    }

    /// Checks that this state could be loaded: the same registers, and a revision that this kernel
    /// emulates. Writes that revision, on which all later registers depend.
    ///
    /// # Errors
    /// Fails with the difference.
    pub fn preflight(&self, state: &[(u32, u64, u64)]) -> Result<(), Failure> {
        let keys = self.keys()?;
        let state_keys = state
            .iter()
            .map(|(group, attribute, _)| (*group, *attribute));
        if !state_keys.eq(keys.iter().copied()) {
            return Err(Failure(format!(
                "the GIC of the VM has {} registers, which are not the {} registers of this host's GIC",
                state.len(),
                keys.len()
            )));
        }
        let Some((.., iidr)) = state.first() else {
            return Ok(());
        };
        let key = (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, IIDR);
        self.write(key, *iidr).map_err(|_| {
            Failure(format!(
                "the GIC of the VM is of revision {} (GICD_IIDR {iidr:#x}), which this kernel \
                 does not emulate; start the guest with --gic-revision {} on the source",
                iidr >> 12 & 0xf,
                self.read(key).unwrap_or_default() >> 12 & 0xf
            ))
        })?;
        // Some kernels (6.16.12 and 6.17.13 at least) accept an older revision without an error and
        // keep their own.
        let current = self.read(key)?;
        if current == *iidr {
            return Ok(());
        }
        Err(Failure(format!(
            "the GIC of the VM is of revision {} (GICD_IIDR {iidr:#x}), which this kernel \
             accepts without an error and does not emulate: it keeps {current:#x}",
            iidr >> 12 & 0xf
        )))
    }

    /// Selects an older revision of the GIC, before any other access to it.
    ///
    /// # Errors
    /// Returns an error if this kernel does not emulate that revision.
    pub fn set_revision(&self, revision: u8) -> Result<(), Failure> {
        let key = (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, IIDR);
        let iidr = self.read(key)?;
        self.write(key, iidr & !0xf000 | u64::from(revision & 0xf) << 12)
    }

    /// Loads state that [`Self::preflight`] accepts. No vCPU runs.
    ///
    /// # Errors
    /// Fails with the register that was refused.
    pub fn load(&self, state: &[(u32, u64, u64)]) -> Result<(), Failure> {
        self.preflight(state)?;
        for (group, attribute, value) in state {
            self.write((*group, *attribute), *value)?;
        }
        // Check that KVM kept all values: a wrong GIC is worse than none. Line levels of timers
        // follow the clock.
        let expected: BTreeMap<_, _> = state
            .iter()
            .map(|(group, attribute, value)| ((*group, *attribute), *value))
            .collect();
        for key in self.keys()? {
            let current = self.read(key)?;
            match expected.get(&key) {
                Some(value) if *value != current && key.0 != KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => {
                    return Err(Failure(format!(
                        "the GIC accepted {value:#x} for {} and keeps {current:#x}",
                        name(key)
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns all registers of the state, in the order of loading.
    fn keys(&self) -> Result<Vec<Key>, Failure> {
        let mut keys = Vec::new();
        let mut distributor = |offset: u64| keys.push((KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset));
        distributor(IIDR);
        distributor(0x0000); // GICD_CTLR: affinity routing, on which other registers depend
        let words = |first: u64, bits: u64| {
            // The redistributors have the first 32 interrupts.
            (32 * bits / 32..u64::from(INTERRUPTS) * bits / 32).map(move |word| first + 4 * word)
        };
        words(0x0080, 1).for_each(&mut distributor); // GICD_IGROUPR
        words(0x0c00, 2).for_each(&mut distributor); // GICD_ICFGR
        words(0x0400, 8).for_each(&mut distributor); // GICD_IPRIORITYR
        words(0x6000, 64).for_each(&mut distributor); // GICD_IROUTER, in halves
        words(0x0100, 1).for_each(&mut distributor); // GICD_ISENABLER
        words(0x0200, 1).for_each(&mut distributor); // GICD_ISPENDR
        words(0x0300, 1).for_each(&mut distributor); // GICD_ISACTIVER
        for vcpu in 0..self.vcpus {
            let mut redistributor = |offset: u64| {
                keys.push((KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, affinity(vcpu) | offset));
            };
            redistributor(0x0000); // GICR_CTLR
            redistributor(0x0014); // GICR_WAKER
            redistributor(0x1_0080); // GICR_IGROUPR0
            redistributor(0x1_0c00); // GICR_ICFGR0, GICR_ICFGR1
            redistributor(0x1_0c04);
            for word in 0..8 {
                redistributor(0x1_0400 + 4 * word); // GICR_IPRIORITYR
            }
            redistributor(0x1_0100); // GICR_ISENABLER0
            redistributor(0x1_0200); // GICR_ISPENDR0
            redistributor(0x1_0300); // GICR_ISACTIVER0
        }
        for vcpu in 0..self.vcpus {
            keys.push((KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, affinity(vcpu)));
        }
        keys.push((KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, 32));
        for vcpu in 0..self.vcpus {
            let mut interface = |register: u64| {
                keys.push((KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity(vcpu) | register));
            };
            interface(sysreg_attribute(12, 12, 5)); // ICC_SRE_EL1
            interface(CTLR);
            interface(sysreg_attribute(4, 6, 0)); // ICC_PMR_EL1
            interface(sysreg_attribute(12, 8, 3)); // ICC_BPR0_EL1
            interface(sysreg_attribute(12, 12, 3)); // ICC_BPR1_EL1
            // The number of these registers depends on the number of priority bits.
            let active =
                match (self.read((KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity(vcpu) | CTLR))? >> 8
                    & 7)
                    + 1
                {
                    ..=5 => 1,
                    6 => 2,
                    _ => 4,
                };
            for number in 0..active {
                interface(sysreg_attribute(12, 8, 4 + number)); // ICC_AP0Rn_EL1
            }
            for number in 0..active {
                interface(sysreg_attribute(12, 9, number)); // ICC_AP1Rn_EL1
            }
            interface(sysreg_attribute(12, 12, 6)); // ICC_IGRPEN0_EL1
            interface(sysreg_attribute(12, 12, 7)); // ICC_IGRPEN1_EL1
        }
        Ok(keys)
    }

    #[allow(unsafe_code)]
    fn read(&self, key: Key) -> Result<u64, Failure> {
        // 8 bytes hold either width. The kernel writes the low half for a 32-bit register.
        let mut value = 0_u64;
        let mut attribute = kvm_device_attr {
            group: key.0,
            attr: key.1,
            addr: (&raw mut value).expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: for these groups the kernel writes 4 or 8 bytes to `addr`, which is 8 bytes that
        // live until after the call.
        unsafe { self.device.get_device_attr(&mut attribute) }
            .map_err(|error| Failure::new(format!("cannot read the GIC's {}", name(key)), error))?;
        Ok(value)
    }

    fn write(&self, key: Key, value: u64) -> Result<(), Failure> {
        let attribute = kvm_device_attr {
            group: key.0,
            attr: key.1,
            addr: (&raw const value).expose_provenance() as u64,
            flags: 0,
        };
        self.device.set_device_attr(&attribute).map_err(|error| {
            Failure::new(
                format!("the GIC's {} does not accept {value:#x}", name(key)),
                error,
            )
        })
    }
}

/// Attribute of ICC_CTLR_EL1.
const CTLR: u64 = sysreg_attribute(12, 12, 4);

/// Returns the attribute of a system register of the CPU interface with op0 3 and op1 0.
const fn sysreg_attribute(crn: u64, crm: u64, op2: u64) -> u64 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

/// Returns the attribute of the affinity that KVM gives to the vCPU with this number.
const fn affinity(vcpu: usize) -> u64 {
    ((vcpu as u64 >> 4) << 8 | vcpu as u64 & 0xf) << 32
}

/// Returns the name of a register for messages.
fn name((group, attribute): Key) -> String {
    let (vcpu, low) = (attribute >> 32, attribute & 0xffff_ffff);
    let vcpu = (vcpu >> 8) << 4 | vcpu & 0xf;
    match group {
        KVM_DEV_ARM_VGIC_GRP_DIST_REGS => format!("GICD register {low:#x}"),
        KVM_DEV_ARM_VGIC_GRP_REDIST_REGS => format!("GICR register {low:#x} of vCPU {vcpu}"),
        KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS => format!(
            "S3_0_C{}_C{}_{} of vCPU {vcpu}",
            low >> 7 & 0xf,
            low >> 3 & 0xf,
            low & 7
        ),
        _ => format!("line levels from {low} of vCPU {vcpu}"),
    }
}
