//! [`Gic`]: KVM's GICv3, and its state out of the kernel and into it.
//!
//! The order is that of the kernel's documentation (Linux `Documentation/virt/kvm/devices/arm-vgic-v3.rst`): GICD_IIDR before all else, which
//! tells whether the two kernels' GICs are of a kind; then the distributor, the redistributors and the CPU interfaces. No vCPU
//! may run meanwhile. It goes in after the vCPUs' registers: PPIs of the timers follow those.
//!
//! What is pending is two things: what an ISPENDR says is what was latched, and the lines' levels are apart from it.

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

/// Where the distributor is in the guest's physical memory.
const DISTRIBUTOR: u64 = 0x0800_0000;
/// Where the redistributors are, 128 KiB for each vCPU: those of 512 end below the guest's memory, and clear of the device by which it reports.
const REDISTRIBUTORS: u64 = 0x1000_0000;
/// Interrupts: 32 private ones and 32 shared ones, the fewest that there can be.
const INTERRUPTS: u32 = 64;
/// GICD_IIDR, which says which revision of its GIC the kernel plays.
const IIDR: u64 = 0x0008;

/// A register of the device: its group and its attribute.
type Key = (u32, u64);

/// The device.
#[derive(Debug)]
pub struct Gic {
    device: DeviceFd,
    vcpus: usize,
}

impl Gic {
    /// Gives the VM a GICv3. All its vCPUs exist.
    ///
    /// # Errors
    /// Which step failed, and how.
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

    /// Its state. No vCPU runs.
    ///
    /// # Errors
    /// Which register cannot be read.
    pub fn save(&self) -> Result<Vec<(u32, u64, u64)>, Failure> {
        let keys = self.keys()?.into_iter();
        keys.map(|key| Ok((key.0, key.1, self.read(key)?)))
            .collect()
    }

    /// Whether a GIC with this state could be loaded here: it has the same registers, and is of a revision that this kernel plays. That one is
    /// written, so that all that follows is of it.
    ///
    /// # Errors
    /// Why not.
    pub fn preflight(&self, state: &[(u32, u64, u64)]) -> Result<(), Failure> {
        let keys = self.keys()?;
        let theirs = state
            .iter()
            .map(|(group, attribute, _)| (*group, *attribute));
        if !theirs.eq(keys.iter().copied()) {
            return Err(Failure(format!(
                "the GIC of the VM has {} registers, or others than the {} that it would have here",
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
                 does not play; start the guest with --gic-revision {} on the source",
                iidr >> 12 & 0xf,
                self.read(key).unwrap_or_default() >> 12 & 0xf
            ))
        })?;
        // Some kernels (seen: 6.16.12, 6.17.13) take an older revision without an error and go on with their own.
        let holds = self.read(key)?;
        if holds == *iidr {
            return Ok(());
        }
        Err(Failure(format!(
            "the GIC of the VM is of revision {} (GICD_IIDR {iidr:#x}), which this kernel takes \
             without an error and does not play: it holds {holds:#x}",
            iidr >> 12 & 0xf
        )))
    }

    /// Has the GIC be of an older revision, before anything else is done with it.
    ///
    /// # Errors
    /// If this kernel does not play that one.
    pub fn set_revision(&self, revision: u8) -> Result<(), Failure> {
        let key = (KVM_DEV_ARM_VGIC_GRP_DIST_REGS, IIDR);
        let own = self.read(key)?;
        self.write(key, own & !0xf000 | u64::from(revision & 0xf) << 12)
    }

    /// Loads its state, which [`Self::preflight`] found to fit. No vCPU runs.
    ///
    /// # Errors
    /// Which register was refused.
    pub fn load(&self, state: &[(u32, u64, u64)]) -> Result<(), Failure> {
        self.preflight(state)?;
        for (group, attribute, value) in state {
            self.write((*group, *attribute), *value)?;
        }
        // What was taken, and is not held: a GIC that is not the guest's is worse than none. Levels of timers' lines follow the clock.
        let expected: BTreeMap<_, _> = state
            .iter()
            .map(|(group, attribute, value)| ((*group, *attribute), *value))
            .collect();
        for key in self.keys()? {
            let holds = self.read(key)?;
            match expected.get(&key) {
                Some(value) if *value != holds && key.0 != KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO => {
                    return Err(Failure(format!(
                        "the GIC took {value:#x} for {} and holds {holds:#x}",
                        name(key)
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All registers that are state, in the order in which to load them.
    fn keys(&self) -> Result<Vec<Key>, Failure> {
        let mut keys = Vec::new();
        let mut distributor = |offset: u64| keys.push((KVM_DEV_ARM_VGIC_GRP_DIST_REGS, offset));
        distributor(IIDR);
        distributor(0x0000); // GICD_CTLR: affinity routing, on which the meaning of others hangs
        let words = |first: u64, bits: u64| {
            // The first 32 interrupts are the redistributors'.
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
            // How many there are of these hangs on how many bits a priority has.
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
        // Large enough for either width; the kernel writes the low half of it where the register has 32 bits.
        let mut value = 0_u64;
        let mut attribute = kvm_device_attr {
            group: key.0,
            attr: key.1,
            addr: (&raw mut value).expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: for these groups the kernel writes 4 or 8 bytes to `addr`, which is 8 bytes that live until after the call.
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
                format!("the GIC's {} does not take {value:#x}", name(key)),
                error,
            )
        })
    }
}

/// ICC_CTLR_EL1.
const CTLR: u64 = sysreg_attribute(12, 12, 4);

/// A system register of the CPU interface, op0 3 and op1 0, as the device wants it.
const fn sysreg_attribute(crn: u64, crm: u64, op2: u64) -> u64 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

/// A vCPU's affinity, as KVM gives it by the vCPU's number, as the device wants it.
const fn affinity(vcpu: usize) -> u64 {
    ((vcpu as u64 >> 4) << 8 | vcpu as u64 & 0xf) << 32
}

/// A register for people.
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
