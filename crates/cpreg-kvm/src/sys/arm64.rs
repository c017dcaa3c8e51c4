//! KVM of this host, on Linux on arm64: [`Kvm`], [`KvmVm`], and [`Vcpu`] for `kvm_ioctls::VcpuFd`.

use cpreg::destination::Features;
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_hosts::fact_program::ProgramState;
use cpreg_hosts::record::{Capabilities, Identity};
use kvm_bindings::{
    KVM_API_VERSION, KVM_ARM_VCPU_EL1_32BIT, KVM_ARM_VCPU_HAS_EL2, KVM_ARM_VCPU_HAS_EL2_E2H0,
    KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
    KVM_ARM_VCPU_PMU_V3_IRQ, KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2,
    KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE, KVM_CAP_ARM_MTE,
    KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES, KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR,
    KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
    KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    kvm_enable_cap, kvm_vcpu_init,
};
use kvm_ioctls::{Cap, DeviceFd, VcpuFd, VmFd};

use super::step_error::{create_error, errno_of};
use super::{capabilities, fact_guest, identity, ioctls, physical_cpus, system_registers};
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};

/// Address of the GIC's distributor in the guest's physical memory, 64 KiB long.
const DISTRIBUTOR_ADDRESS: u64 = 0x0800_0000;
/// Address of the GIC's redistributors, 128 KiB for each vCPU.
///
/// KVM limits a VM to 512 vCPUs, whose redistributors take 64 MiB. They end below 4 GiB, which
/// every VM can address. The VM has no memory at these addresses.
const REDISTRIBUTORS_ADDRESS: u64 = 0x1000_0000;
/// Minimum number of interrupts of a GIC: 32 private and 32 shared ones.
const INTERRUPT_COUNT: u32 = 64;
/// Attribute of ICC_CTLR_EL1 (S3_0_C12_C12_4) of the vCPU with affinity 0. KVM gives that affinity
/// to vCPU 0.
const ICC_CTLR_EL1_OF_VCPU_0: u64 = 0xc664;
/// Interrupt of the PMU: the private one that Arm's Base System Architecture assigns.
const PMU_INTERRUPT: u32 = 23;

/// Open KVM device of this host: `/dev/kvm`.
#[derive(Debug)]
pub struct Kvm {
    kvm: kvm_ioctls::Kvm,
}

/// VM of this host that runs no guest of its own.
#[derive(Debug)]
pub struct KvmVm {
    // Rust drops fields in order, so fields that need the VM's descriptor come first.
    vcpus: Vec<VcpuFd>,
    gic: DeviceFd,
    vm: VmFd,
}

impl Kvm {
    /// Opens `/dev/kvm`.
    ///
    /// # Errors
    /// Returns an error with a hint if `/dev/kvm` cannot be opened or is not KVM's device.
    pub fn open() -> Result<Self, Error> {
        let kvm = kvm_ioctls::Kvm::new().map_err(|error| match error.errno() {
            // ENOENT, ENXIO, ENODEV: no such file, or no device for it.
            2 | 6 | 19 => ErrorKind::Missing,
            // EPERM, EACCES.
            1 | 13 => ErrorKind::Permission,
            _ => ErrorKind::Open(errno_of(error)),
        })?;
        let version = kvm.get_api_version();
        if u32::try_from(version) != Ok(KVM_API_VERSION) {
            return Err(ErrorKind::ApiVersion(version).into());
        }
        Ok(Self { kvm })
    }

    /// Returns the type for `KVM_CREATE_VM`.
    ///
    /// If the host's intermediate physical addresses have fewer bits than the default of 40, KVM
    /// would refuse the default. The returned type has the host's size.
    fn vm_type(&self) -> u64 {
        match self.kvm.check_extension_int(Cap::ArmVmIPASize) {
            size @ 32..40 => u64::from(size.unsigned_abs()),
            _ => 0,
        }
    }

    /// Returns `true` if KVM refuses to make an interrupt controller of this version.
    ///
    /// Returns `false` for other versions than 2 and 3, and if no VM can be created.
    pub fn refuses_gic(&self, version: u8) -> bool {
        /// `ENODEV`: the kernel lacks this type of device on this host.
        const NO_SUCH_DEVICE: i32 = 19;
        let type_ = match version {
            2 => kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V2,
            3 => kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            _ => return false,
        };
        let Ok(vm) = self.kvm.create_vm_with_type(self.vm_type()) else {
            return false;
        };
        let mut device = kvm_create_device {
            type_,
            ..Default::default()
        };
        let created = vm.create_device(&mut device);
        created.is_err_and(|error| error.errno() == NO_SUCH_DEVICE)
    }

    /// Returns the GICv3 that a new VM of this host has.
    ///
    /// Returns `None` if the host cannot create such a VM.
    fn gic(&self) -> Option<Gic> {
        let vm = self.create_vm(Features::NONE, 1).ok()?;
        let value = ioctls::device_attribute(
            &vm.gic,
            KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
            ICC_CTLR_EL1_OF_VCPU_0,
        );
        Some(Gic::V3(GicLimits::from_icc_ctlr(value.ok()?)))
    }
}

/// Returns the properties of this machine that a process can read without KVM.
///
/// Returns `None` if the kernel does not show MIDR_EL1.
pub fn read_process_facts() -> Option<HardwareFacts> {
    let midr = identity::read_midr()?;
    Some(HardwareFacts {
        is_emulated: identity::detect_identity(midr, &Capabilities::new()).emulated,
        ..process_facts()
    })
}

fn process_facts() -> HardwareFacts {
    HardwareFacts {
        counter_frequency: system_registers::read_counter_frequency(),
        dczid: Some(system_registers::read_dczid()),
        ..HardwareFacts::UNKNOWN
    }
}

impl Host for Kvm {
    type Vm = KvmVm;

    fn identity(&self) -> Identity {
        let midr = identity::read_midr().or_else(|| {
            let vm = self.create_vm(Features::NONE, 1).ok()?;
            let value = crate::value::read(vm.vcpus.first()?, RegisterId::MIDR_EL1).ok()?;
            value.as_u64()
        });
        Identity {
            cpus: physical_cpus::read(),
            ..identity::detect_identity(midr.unwrap_or(0), &self.capabilities())
        }
    }

    fn capabilities(&self) -> Capabilities {
        capabilities::query_capabilities(&self.kvm)
    }

    fn hardware(&self) -> HardwareFacts {
        HardwareFacts {
            gic: self.gic(),
            ..process_facts()
        }
    }

    fn run_fact_program(&self, features: Features) -> Result<ProgramState, Error> {
        let KvmVm { vcpus, gic, vm } = self.create_vm(features, 1)?;
        let Some(vcpu) = vcpus.into_iter().next() else {
            return Ok(ProgramState::Running);
        };
        if features.contains(Features::SVE) {
            vcpu.finalize_sve().map_err(ErrorKind::Finalize)?;
        }
        fact_guest::run(vm, gic, vcpu, DISTRIBUTOR_ADDRESS)
    }

    fn create_vm(&self, features: Features, vcpus: usize) -> Result<KvmVm, Error> {
        let vm = self
            .kvm
            .create_vm_with_type(self.vm_type())
            .map_err(create_error("KVM_CREATE_VM"))?;
        if features.contains(Features::MTE) {
            let cap = kvm_enable_cap {
                cap: KVM_CAP_ARM_MTE,
                ..Default::default()
            };
            vm.enable_cap(&cap)
                .map_err(create_error("KVM_ENABLE_CAP (KVM_CAP_ARM_MTE)"))?;
        }
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init)
            .map_err(create_error("KVM_ARM_PREFERRED_TARGET"))?;
        let mut initialised = Vec::new();
        for number in 0..vcpus {
            let vcpu = vm
                .create_vcpu(number as u64)
                .map_err(create_error("KVM_CREATE_VCPU"))?;
            init.features[0] = feature_bits(features);
            if number > 0 {
                init.features[0] |= 1 << KVM_ARM_VCPU_POWER_OFF;
            }
            vcpu.vcpu_init(&init)
                .map_err(create_error("KVM_ARM_VCPU_INIT"))?;
            initialised.push(vcpu);
        }
        let gic = create_gic(&vm)?;
        if features.contains(Features::PMU) {
            for vcpu in &initialised {
                init_pmu(vcpu)?;
            }
        }
        Ok(KvmVm {
            vcpus: initialised,
            gic,
            vm,
        })
    }
}

/// Returns `kvm_vcpu_init.features[0]` for a vCPU that is not powered off.
fn feature_bits(features: Features) -> u32 {
    let bits = [
        (Features::PMU, 1 << KVM_ARM_VCPU_PMU_V3),
        (Features::SVE, 1 << KVM_ARM_VCPU_SVE),
        (
            Features::POINTER_AUTHENTICATION,
            1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC,
        ),
        (Features::EL1_32BIT, 1 << KVM_ARM_VCPU_EL1_32BIT),
        (Features::EL2, 1 << KVM_ARM_VCPU_HAS_EL2),
        (Features::EL2_E2H0, 1 << KVM_ARM_VCPU_HAS_EL2_E2H0),
    ];
    let bits = bits.into_iter();
    bits.filter(|(feature, _)| features.contains(*feature))
        .fold(1 << KVM_ARM_VCPU_PSCI_0_2, |all, (_, bit)| all | bit)
}

/// Creates and initialises an in-kernel GICv3, on which ID_AA64PFR0_EL1 depends.
fn create_gic(vm: &VmFd) -> Result<DeviceFd, Error> {
    let mut device = kvm_create_device {
        type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
        ..Default::default()
    };
    let gic = vm
        .create_device(&mut device)
        .map_err(create_error("KVM_CREATE_DEVICE (GICv3)"))?;
    let set = |step, group, attr: u32, address: u64| {
        let attr = kvm_device_attr {
            group,
            attr: attr.into(),
            addr: address,
            flags: 0,
        };
        gic.set_device_attr(&attr).map_err(create_error(step))
    };
    let (distributor, redistributors, interrupts) =
        (DISTRIBUTOR_ADDRESS, REDISTRIBUTORS_ADDRESS, INTERRUPT_COUNT);
    set(
        "KVM_VGIC_V3_ADDR_TYPE_DIST",
        KVM_DEV_ARM_VGIC_GRP_ADDR,
        KVM_VGIC_V3_ADDR_TYPE_DIST,
        address_of(&distributor),
    )?;
    set(
        "KVM_VGIC_V3_ADDR_TYPE_REDIST",
        KVM_DEV_ARM_VGIC_GRP_ADDR,
        KVM_VGIC_V3_ADDR_TYPE_REDIST,
        address_of(&redistributors),
    )?;
    set(
        "KVM_DEV_ARM_VGIC_GRP_NR_IRQS",
        KVM_DEV_ARM_VGIC_GRP_NR_IRQS,
        0,
        address_of(&interrupts),
    )?;
    set(
        "KVM_DEV_ARM_VGIC_CTRL_INIT",
        KVM_DEV_ARM_VGIC_GRP_CTRL,
        KVM_DEV_ARM_VGIC_CTRL_INIT,
        0,
    )?;
    Ok(gic)
}

fn init_pmu(vcpu: &VcpuFd) -> Result<(), Error> {
    let interrupt = PMU_INTERRUPT;
    let attributes = [
        (
            "KVM_ARM_VCPU_PMU_V3_IRQ",
            KVM_ARM_VCPU_PMU_V3_IRQ,
            address_of(&interrupt),
        ),
        ("KVM_ARM_VCPU_PMU_V3_INIT", KVM_ARM_VCPU_PMU_V3_INIT, 0),
    ];
    for (step, attr, addr) in attributes {
        let attr = kvm_device_attr {
            group: KVM_ARM_VCPU_PMU_V3_CTRL,
            attr: attr.into(),
            addr,
            flags: 0,
        };
        vcpu.set_device_attr(&attr).map_err(create_error(step))?;
    }
    Ok(())
}

/// Returns the address from which the kernel reads an attribute's value.
fn address_of<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

impl Vm for KvmVm {
    type Vcpu = VcpuFd;

    fn vcpus(&self) -> &[VcpuFd] {
        &self.vcpus
    }

    fn writable_masks(&self) -> Result<Option<Vec<(RegisterId, u64)>>, Errno> {
        let cap = KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES;
        if self.vm.check_extension_raw(cap.into()) <= 0 {
            return Ok(None);
        }
        ioctls::writable_masks(ioctls::borrow(&self.vm)).map(Some)
    }
}

impl Vcpu for VcpuFd {
    fn list(&self) -> Result<Vec<RegisterId>, Errno> {
        ioctls::register_list(ioctls::borrow(self))
    }

    fn get(&self, id: RegisterId, bytes: &mut [u8]) -> Result<(), Errno> {
        let read = self.get_one_reg(id.raw(), bytes);
        read.map(drop).map_err(errno_of)
    }

    fn set(&self, id: RegisterId, bytes: &[u8]) -> Result<(), Errno> {
        let written = self.set_one_reg(id.raw(), bytes);
        written.map(drop).map_err(errno_of)
    }

    fn finalize_sve(&self) -> Result<(), Errno> {
        self.vcpu_finalize(&KVM_ARM_VCPU_SVE.cast_signed())
            .map_err(errno_of)
    }
}
