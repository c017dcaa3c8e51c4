//! [`Machine`]: a VM with its memory, vCPUs, GICv3 and PMU, created in the order that KVM requires.
//!
//! 1. the VM and its memory;
//! 2. all vCPUs, initialised;
//! 3. the GIC, which must know all vCPUs;
//! 4. the PMU, which must know the GIC;
//! 5. for a guest that starts here, SVE is finalized and the entry point set; for one that arrives,
//!    [`cpreg_kvm::load()`] does the rest.

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

/// A VM. It owns its vCPUs while it is stopped; their threads own them while it runs.
#[derive(Debug)]
pub struct Machine {
    // In the order of dropping, with the VM last.
    pub(super) threads: Option<VcpuThreads>,
    /// The vCPUs, in order of their numbers. Empty while the VM runs, and after one of them failed.
    pub vcpus: Vec<VcpuFd>,
    pub(super) gic: Gic,
    /// Memory of the guest.
    pub memory: Arc<Memory>,
    pub(super) vm: VmFd,
    shape: VmShape,
    /// Device to which the guest reports.
    pub report: Arc<ReportDevice>,
}

/// Returns the host's features, among those that this VMM knows.
///
/// # Errors
/// Returns an error if there is no KVM.
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
    /// Creates a VM that does not run yet, with all memory zero.
    ///
    /// # Errors
    /// Fails with the step that did not work.
    pub fn new(shape: VmShape) -> Result<Self, Failure> {
        let kvm = open()?;
        let host = features()?;
        let missing = shape.features.difference(host);
        if !missing.is_empty() {
            return Err(Failure(format!(
                "this host does not have {missing}; it has {host}"
            )));
        }
        let vm = kvm.create_vm().map_err(step_failure("KVM_CREATE_VM"))?;
        let memory = Arc::new(Memory::new(&vm, shape.memory)?);
        let vcpus = vcpus(&vm, &shape)?;
        let gic = Gic::new(&vm, vcpus.len())?;
        if shape.features.contains(Features::PMU) {
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
            shape,
        })
    }

    /// Loads the guest program, with its entry point on vCPU 0, with or without use of the physical
    /// timer.
    ///
    /// # Errors
    /// Fails with the step that did not work.
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
        // `guest/main.s` documents these parameters.
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

    /// Returns the shape of the VM.
    pub const fn shape(&self) -> VmShape {
        self.shape
    }

    /// Runs the vCPUs, unless they run already.
    ///
    /// # Errors
    /// Returns an error if a thread cannot be created, or a vCPU failed before. No vCPU runs then.
    pub fn start(&mut self) -> Result<(), Failure> {
        if self.threads.is_none() {
            // The failed threads took the vCPUs with them. To start none would look like a running
            // guest.
            if self.vcpus.is_empty() {
                return Err(Failure("a vCPU of the VM failed before".into()));
            }
            let vcpus = std::mem::take(&mut self.vcpus);
            self.threads = Some(VcpuThreads::start(vcpus, &self.report, &self.memory)?);
        }
        Ok(())
    }

    /// Stops all vCPUs. They can be read, written and started again.
    ///
    /// # Errors
    /// Returns an error if a vCPU failed before.
    pub fn stop(&mut self) -> Result<(), Failure> {
        match self.threads.take() {
            None => Ok(()),
            Some(threads) => {
                self.vcpus = threads.stop()?;
                Ok(())
            }
        }
    }

    /// Returns the GIC of the VM.
    pub const fn gic(&self) -> &Gic {
        &self.gic
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A guest does not outlive its machine. Failures of its vCPUs no longer matter.
        let _ = self.stop();
    }
}

/// Program counter: `kvm_regs.regs.pc`, in 32-bit words.
const PC: RegisterId = RegisterId::core_u64(0x40);

fn vcpus(vm: &VmFd, shape: &VmShape) -> Result<Vec<VcpuFd>, Failure> {
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
        .filter(|(feature, _)| shape.features.contains(*feature))
        .fold(1 << KVM_ARM_VCPU_PSCI_0_2, |all, (_, bit)| all | bit);
    let mut vcpus = Vec::with_capacity(usize::from(shape.vcpus));
    for number in 0..shape.vcpus {
        let vcpu = vm
            .create_vcpu(u64::from(number))
            .map_err(step_failure("KVM_CREATE_VCPU"))?;
        // Secondary vCPUs wait until the guest turns them on through PSCI.
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
