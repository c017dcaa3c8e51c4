//! [`load`]: execution of a plan on the vCPUs of a new VM that has not run.
//!
//! | step | registers | on |
//! |---|---|---|
//! | 1 | SVE's vector lengths, then `KVM_ARM_VCPU_FINALIZE` | each vCPU |
//! | 2 | VM-wide: PSCI version, workarounds, firmware bitmaps, ID registers | the first vCPU |
//! | 3 | all other registers, PMCR_EL0 ahead of the PMU's others | each vCPU in turn |
//! | 4 | those of step 2, and PMCR_EL0, read back | the vCPU that step 2 or 3 wrote |
//! | 5 | counters, which run from the write on | the first vCPU |
//!
//! Each write and each read-back is one system call. A VM has at most [`MAX_VM_WIDE_REGISTERS`]
//! registers of step 2. A vCPU with SVE adds one call to finalize it. A plan that is not ready
//! makes no call.
//!
//! The PMU has pairs of registers that set and clear the same bits (PMCNTENSET_EL0 and
//! PMCNTENCLR_EL0). From v6.7 (a45f41d754e0) until v6.14, a write by the VMM only sets or clears
//! bits, like a write by the guest. A new vCPU has arbitrary bits set (observed on 6.12.107).
//! [`cpreg::plan::VcpuPlan::writes`] therefore first clears all bits. The register then holds the
//! plan's value on every kernel.
//!
//! Step 3 allocates no memory, because [`load`] lists all writes in advance. [`cpreg::plan`]
//! decides which values to write. The VMM loads the GIC and other devices between [`load`] and the
//! first run of the VM.

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::plan::{ExtensionAction, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, RefusedWrite};
use crate::host::Vcpu;
use crate::value;

/// Maximum number of VM-wide registers in KVM's ABI.
///
/// These are 56 ID registers, MIDR_EL1, REVIDR_EL1, AIDR_EL1, CTR_EL0, the PSCI version, three
/// workarounds and four bitmaps.
pub const MAX_VM_WIDE_REGISTERS: usize = 68;

/// Result of a load in which KVM accepted every write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// Number of registers that were written.
    pub written_registers: usize,
    /// Number of system calls.
    pub calls: usize,
    /// Values that KVM accepted without an error but does not hold.
    pub mismatches: Vec<Mismatch>,
}

/// Register for which KVM accepted one value and returns another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Number of the vCPU; `None` for a VM-wide register.
    pub vcpu: Option<usize>,
    /// Id of the register.
    pub register: RegisterId,
    /// Value that was written.
    pub written_value: Value,
    /// Value that the register holds.
    pub current_value: Value,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            register,
            written_value,
            current_value,
            ..
        } = self;
        match self.vcpu {
            Some(vcpu) => write!(f, "vCPU {vcpu}: ")?,
            None => f.write_str("the VM: ")?,
        }
        write!(
            f,
            "{register} ({:#018x}) accepted {written_value} without an error but holds {current_value}",
            register.raw()
        )
    }
}

/// Executes a plan on all vCPUs of a VM.
///
/// The VM must be initialised (`KVM_ARM_VCPU_INIT`) with the features of the plan's destination,
/// with the GIC and the PMU set up, and must never have run. The caller may finalize SVE only if
/// the vector lengths are those of the plan.
///
/// After an error the caller must not run any vCPU of the VM. After success the guest sees the
/// values in [`LoadSummary::mismatches`], if any.
///
/// # Errors
/// Returns the first failure. [`Error::is_vm_untouched`] returns `true` if the load wrote no
/// register.
pub fn load(plan: &Plan, vcpus: &[impl Vcpu]) -> Result<LoadSummary, Error> {
    execute_plan(plan, vcpus, |refused_write| {
        Err(ErrorKind::Refused(Box::new(refused_write)).into())
    })
}

/// Executes a plan like [`load`]; `on_refusal` decides if the execution continues after a refused
/// write.
///
/// # Errors
/// Returns the errors of [`load`], and the error of `on_refusal`.
pub(crate) fn execute_plan<V: Vcpu>(
    plan: &Plan,
    vcpus: &[V],
    on_refusal: impl FnMut(RefusedWrite) -> Result<(), Error>,
) -> Result<LoadSummary, Error> {
    let writes = check_plan(plan, vcpus.len())?;
    let vm_wide = vm_wide_writes(&writes)?;
    let mut loader = Loader {
        vcpus,
        summary: LoadSummary::default(),
        on_refusal,
    };
    for (number, (vcpu_plan, writes)) in plan.vcpus.iter().zip(&writes).enumerate() {
        let mut decisions = vcpu_plan.decisions.iter();
        let has_sve = decisions
            .any(|decision| decision.register == RegisterId::SVE_VLS && decision.is_listed);
        loader.load_vector_lengths(number, has_sve, writes)?;
    }
    for (number, id, value) in &vm_wide {
        loader.write(*number, *id, value)?;
    }
    for (number, writes) in writes.iter().enumerate() {
        for (id, value) in writes {
            let is_per_vcpu = RegisterKind::from_id(*id).scope() == Scope::Vcpu;
            if is_per_vcpu && *id != RegisterId::SVE_VLS {
                loader.write(number, *id, value)?;
            }
        }
    }
    for (number, id, value) in &vm_wide {
        loader.verify(None, *number, *id, value)?;
    }
    for (number, writes) in writes.iter().enumerate() {
        if let Some((id, value)) = writes.iter().find(|(id, _)| *id == RegisterId::PMCR_EL0) {
            loader.verify(Some(number), number, *id, value)?;
        }
    }
    let mut counters = Vec::new();
    for (number, writes) in writes.iter().enumerate() {
        for (id, value) in writes {
            if RegisterKind::from_id(*id).scope() == Scope::VmCounter && !counters.contains(id) {
                counters.push(*id);
                loader.write(number, *id, value)?;
            }
        }
    }
    Ok(loader.summary)
}

/// Writes to each vCPU, in the plan's order.
type Writes<'a> = Vec<Vec<(RegisterId, &'a Value)>>;

/// Checks the plan as far as possible without a write, and returns its writes.
fn check_plan(plan: &Plan, vcpus: usize) -> Result<Writes<'_>, Error> {
    match plan.outcome() {
        PlanOutcome::Ready => {}
        outcome => return Err(ErrorKind::NotReady(outcome).into()),
    }
    if plan.vcpus.len() != vcpus {
        return Err(ErrorKind::VcpuCount {
            plan: plan.vcpus.len(),
            vm: vcpus,
        }
        .into());
    }
    let mut all_writes = Vec::with_capacity(vcpus);
    for (vcpu, vcpu_plan) in plan.vcpus.iter().enumerate() {
        let mut extensions = vcpu_plan.extensions.iter();
        let loaded_extension = extensions.find(|extension| {
            matches!(
                extension.action,
                ExtensionAction::Copy | ExtensionAction::Set(_)
            )
        });
        if let Some(extension) = loaded_extension {
            return Err(ErrorKind::Extension {
                vcpu,
                name: extension.name.clone(),
            }
            .into());
        }
        let writes = vcpu_plan.writes();
        if let Some((id, value)) = writes
            .iter()
            .find(|(id, value)| !value::has_register_width(*id, value))
        {
            return Err(ErrorKind::Width {
                vcpu,
                register: *id,
                value: (*value).clone(),
            }
            .into());
        }
        all_writes.push(writes);
    }
    Ok(all_writes)
}

/// Returns each VM-wide register once, with the number of the first vCPU to which the plan writes
/// the register, and its value.
fn vm_wide_writes<'a>(writes: &Writes<'a>) -> Result<Vec<(usize, RegisterId, &'a Value)>, Error> {
    let mut vm_wide: Vec<(usize, RegisterId, &Value)> = Vec::with_capacity(MAX_VM_WIDE_REGISTERS);
    for (number, writes) in writes.iter().enumerate() {
        for (id, value) in writes {
            if RegisterKind::from_id(*id).scope() != Scope::Vm {
                continue;
            }
            match vm_wide.iter().find(|(_, known_id, _)| known_id == id) {
                Some((_, _, known_value)) if known_value == value => {}
                Some((first, ..)) => {
                    return Err(ErrorKind::ConflictingValues {
                        register: *id,
                        vcpus: [*first, number],
                    }
                    .into());
                }
                None => vm_wide.push((number, *id, *value)),
            }
        }
    }
    Ok(vm_wide)
}

struct Loader<'a, V, F> {
    vcpus: &'a [V],
    summary: LoadSummary,
    on_refusal: F,
}

impl<V: Vcpu, F: FnMut(RefusedWrite) -> Result<(), Error>> Loader<'_, V, F> {
    fn load_vector_lengths(
        &mut self,
        number: usize,
        has_sve: bool,
        writes: &[(RegisterId, &Value)],
    ) -> Result<(), Error> {
        let lengths = writes.iter().find(|(id, _)| *id == RegisterId::SVE_VLS);
        if !has_sve && lengths.is_none() {
            return Ok(());
        }
        if let Some((id, value)) = lengths {
            self.write(number, *id, value)?;
        }
        let Some(vcpu) = self.vcpus.get(number) else {
            return Ok(());
        };
        self.summary.calls += 1;
        match vcpu.finalize_sve() {
            // EPERM: the VMM has already finalized SVE.
            Ok(()) | Err(Errno::EPERM) => Ok(()),
            Err(errno) => Err(ErrorKind::FinalizeLoaded {
                vcpu: number,
                errno,
                written_registers: self.summary.written_registers,
            }
            .into()),
        }
    }

    fn write(&mut self, number: usize, id: RegisterId, value: &Value) -> Result<(), Error> {
        let Some(vcpu) = self.vcpus.get(number) else {
            return Ok(());
        };
        self.summary.calls += 1;
        let Err(errno) = value::write(vcpu, id, value) else {
            self.summary.written_registers += 1;
            return Ok(());
        };
        self.summary.calls += 1;
        let current_value = value::read(vcpu, id);
        if id == RegisterId::SVE_VLS && errno == Errno::EPERM && current_value.as_ref() == Ok(value)
        {
            // The VMM has finalized the vCPU with the same lengths.
            return Ok(());
        }
        (self.on_refusal)(RefusedWrite {
            vcpu: number,
            register: id,
            written_value: value.clone(),
            current_value,
            errno,
            written_registers: self.summary.written_registers,
        })
    }

    /// Reads a register back through vCPU `number` and records a mismatch.
    ///
    /// `reported_vcpu` is `None` for a VM-wide register.
    fn verify(
        &mut self,
        reported_vcpu: Option<usize>,
        number: usize,
        id: RegisterId,
        written_value: &Value,
    ) -> Result<(), Error> {
        let Some(vcpu) = self.vcpus.get(number) else {
            return Ok(());
        };
        self.summary.calls += 1;
        let current_value = value::read(vcpu, id).map_err(|errno| ErrorKind::ReadBack {
            vcpu: number,
            register: id,
            errno,
        })?;
        if current_value != *written_value {
            self.summary.mismatches.push(Mismatch {
                vcpu: reported_vcpu,
                register: id,
                written_value: written_value.clone(),
                current_value,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
