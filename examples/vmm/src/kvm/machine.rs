//! [`Machine`]: a VM with its memory, vCPUs, GICv3 and PMU, made in the order in which KVM wants it.
//!
//! 1. the VM and its memory;
//! 2. all vCPUs, initialised;
//! 3. the GIC, which must know all vCPUs;
//! 4. the PMU, which must know the GIC;
//! 5. for a guest that starts here: SVE finalized, and where it begins. For one that arrives, [`cpreg_kvm::load()`] does what is left.

use std::sync::Arc;

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use kvm_bindings::{
    KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
    KVM_ARM_VCPU_PMU_V3_IRQ, KVM_ARM_VCPU_POWER_OFF, KVM_ARM_VCPU_PSCI_0_2,
    KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC, KVM_ARM_VCPU_SVE, kvm_device_attr,
    kvm_vcpu_init,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use super::failure::step_failure;
use super::gic::Gic;
use super::memory::Memory;
use super::run::VcpuThreads;
use crate::guest;
use crate::migrate::Failure;
use crate::protocol::VmShape;
use crate::report::ReportDevice;

/// The PMU's interrupt, a private one.
const PMU_INTERRUPT: u32 = 23;

/// A VM. Its vCPUs are here while it is stopped, and with their threads while it runs.
#[derive(Debug)]
pub struct Machine {
    // In the order in which to drop them: the VM last.
    pub(super) threads: Option<VcpuThreads>,
    /// Its vCPUs, in order of their numbers; none while it runs, and none once one of them failed.
    pub vcpus: Vec<VcpuFd>,
    pub(super) gic: Gic,
    /// Its memory.
    pub memory: Arc<Memory>,
    pub(super) vm: VmFd,
    shape: VmShape,
    /// What the guest tells.
    pub report: Arc<ReportDevice>,
}

/// Which of the features that this VMM knows the host has.
///
/// # Errors
/// If there is no KVM.
pub fn features() -> Result<Features, Failure> {
    let kvm = open()?;
    let caps = [
        (Cap::ArmPmuV3, Features::PMU),
        (Cap::ArmSve, Features::SVE),
        (Cap::ArmPtrAuthAddress, Features::POINTER_AUTHENTICATION),
    ];
    let has = caps
        .into_iter()
        .filter(|(cap, _)| kvm.check_extension(*cap));
    Ok(has.fold(Features::NONE, |set, (_, feature)| set | feature))
}

fn open() -> Result<Kvm, Failure> {
    Kvm::new().map_err(|error| Failure::new("cannot open /dev/kvm", error))
}

impl Machine {
    /// Makes one, with memory of zeros, that is not run yet.
    ///
    /// # Errors
    /// Which step failed, and how.
    pub fn new(outline: VmShape) -> Result<Self, Failure> {
        let kvm = open()?;
        let known = features()?;
        let missing = outline.features.difference(known);
        if !missing.is_empty() {
            return Err(Failure(format!(
                "this host gives its guests no {missing}; it has {known}"
            )));
        }
        let vm = kvm.create_vm().map_err(step_failure("KVM_CREATE_VM"))?;
        let memory = Arc::new(Memory::new(&vm, outline.memory)?);
        let vcpus = vcpus(&vm, &outline)?;
        let gic = Gic::new(&vm, vcpus.len())?;
        if outline.features.contains(Features::PMU) {
            for vcpu in &vcpus {
                pmu(vcpu)?;
            }
        }
        Ok(Self {
            threads: None,
            report: Arc::new(ReportDevice::new(vcpus.len())),
            vcpus,
            gic,
            memory,
            vm,
            shape: outline,
        })
    }

    /// Puts the guest program into it, to begin on vCPU 0, with or without use of the physical timer.
    ///
    /// # Errors
    /// Which step failed, and how.
    pub fn boot(&mut self, uses_physical_timer: bool) -> Result<(), Failure> {
        let needed = guest::memory_needed(self.vcpus.len());
        if self.shape.memory < needed {
            return Err(Failure(format!(
                "a guest of {} vCPUs needs {} MiB of memory",
                self.vcpus.len(),
                needed >> 20
            )));
        }
        if self.shape.features.contains(Features::SVE) {
            for vcpu in &self.vcpus {
                vcpu.vcpu_finalize(&i32::try_from(KVM_ARM_VCPU_SVE).unwrap_or_default())
                    .map_err(step_failure("KVM_ARM_VCPU_FINALIZE"))?;
            }
        }
        self.memory.write(0, guest::image())?;
        // `guest/main.s`: what it is told when it is entered.
        let registers = [
            (PC, guest::RAM_BASE),
            (RegisterId::x(0), self.vcpus.len() as u64),
            (RegisterId::x(1), guest::RAM_BASE + guest::AREAS),
            (RegisterId::x(2), u64::from(!uses_physical_timer)),
        ];
        let first = self.vcpus.first().ok_or(Failure("no vCPU".into()))?;
        for (id, value) in registers {
            first
                .set_one_reg(id.raw(), &value.to_le_bytes())
                .map_err(step_failure("KVM_SET_ONE_REG"))?;
        }
        Ok(())
    }

    /// What it is like.
    pub const fn shape(&self) -> VmShape {
        self.shape
    }

    /// Lets its vCPUs run, if they do not.
    ///
    /// # Errors
    /// If threads cannot be had, or a vCPU had failed before; then none runs.
    pub fn start(&mut self) -> Result<(), Failure> {
        if self.threads.is_none() {
            // They went with the threads that failed. To start none would look like a guest that goes on.
            if self.vcpus.is_empty() {
                return Err(Failure("its vCPUs cannot run any more".into()));
            }
            let vcpus = std::mem::take(&mut self.vcpus);
            self.threads = Some(VcpuThreads::start(vcpus, &self.report, &self.memory)?);
        }
        Ok(())
    }

    /// Stops them all. They can be read and written, and started again.
    ///
    /// # Errors
    /// If a vCPU had failed before.
    pub fn stop(&mut self) -> Result<(), Failure> {
        match self.threads.take() {
            None => Ok(()),
            Some(running) => {
                self.vcpus = running.stop()?;
                Ok(())
            }
        }
    }

    /// The GIC's device.
    pub const fn gic(&self) -> &Gic {
        &self.gic
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A guest does not outlive its machine. What its vCPUs failed of no longer matters.
        let _ = self.stop();
    }
}

/// The program counter: `kvm_regs.regs.pc`, in 32-bit words.
const PC: RegisterId = RegisterId::core_u64(0x40);

fn vcpus(vm: &VmFd, outline: &VmShape) -> Result<Vec<VcpuFd>, Failure> {
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init)
        .map_err(step_failure("KVM_ARM_PREFERRED_TARGET"))?;
    let bits = [
        (Features::PMU, 1 << KVM_ARM_VCPU_PMU_V3),
        (Features::SVE, 1 << KVM_ARM_VCPU_SVE),
        (
            Features::POINTER_AUTHENTICATION,
            1 << KVM_ARM_VCPU_PTRAUTH_ADDRESS | 1 << KVM_ARM_VCPU_PTRAUTH_GENERIC,
        ),
    ];
    let bits = bits.into_iter();
    let features = bits
        .filter(|(feature, _)| outline.features.contains(*feature))
        .fold(1 << KVM_ARM_VCPU_PSCI_0_2, |all, (_, bit)| all | bit);
    let mut vcpus = Vec::with_capacity(usize::from(outline.vcpus));
    for number in 0..outline.vcpus {
        let vcpu = vm
            .create_vcpu(u64::from(number))
            .map_err(step_failure("KVM_CREATE_VCPU"))?;
        // All but the first wait until the guest calls them by PSCI.
        let off = if number == 0 {
            0
        } else {
            1 << KVM_ARM_VCPU_POWER_OFF
        };
        init.features[0] = features | off;
        vcpu.vcpu_init(&init)
            .map_err(step_failure("KVM_ARM_VCPU_INIT"))?;
        vcpus.push(vcpu);
    }
    Ok(vcpus)
}

fn pmu(vcpu: &VcpuFd) -> Result<(), Failure> {
    let interrupt = PMU_INTERRUPT;
    let mut attribute = kvm_device_attr {
        group: KVM_ARM_VCPU_PMU_V3_CTRL,
        attr: u64::from(KVM_ARM_VCPU_PMU_V3_IRQ),
        addr: (&raw const interrupt).expose_provenance() as u64,
        flags: 0,
    };
    vcpu.set_device_attr(&attribute)
        .map_err(step_failure("KVM_ARM_VCPU_PMU_V3_IRQ"))?;
    attribute.attr = u64::from(KVM_ARM_VCPU_PMU_V3_INIT);
    vcpu.set_device_attr(&attribute)
        .map_err(step_failure("KVM_ARM_VCPU_PMU_V3_INIT"))
}
