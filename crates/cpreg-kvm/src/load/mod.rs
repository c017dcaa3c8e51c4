//! [`load`]: a plan carried out on the vCPUs of a VM that was made for it and has not run.
//!
//! | step | what | on |
//! |---|---|---|
//! | 1 | SVE's vector lengths, then `KVM_ARM_VCPU_FINALIZE` | each vCPU |
//! | 2 | what belongs to the VM: PSCI's version, workarounds, bitmaps of services, ID registers | once, on the first vCPU |
//! | 3 | the rest, PMCR_EL0 before the other registers of the PMU | each vCPU in turn |
//! | 4 | what was written in step 2, and PMCR_EL0, read again | |
//! | 5 | counters, which run on from then | once, on the first vCPU |
//!
//! Number of system calls: one for each register that is written; one for each of step 2 that is read again, at most
//! [`MAX_VM_WIDE_REGISTERS`] for a VM; and for each vCPU one for its PMCR_EL0 and one to finalize SVE, if it has them. A plan that is not ready
//! makes none.
//!
//! Between v6.7 (a45f41d754e0) and v6.14 the PMU's setting registers add bits and its clearing ones take bits away, and a fresh vCPU has bits that
//! stand for nothing (seen on 6.12.107). So a plan gives a register that clears all ones wherever the one that sets is written as well, after it: that leaves
//! the plan's value on every kernel.
//!
//! In step 3 nothing is allocated: what a plan writes is put in order before the first write. What is written and why does not
//! live here ([`cpreg::plan`]), nor the GIC and other devices, which are loaded after this and before the VM runs.

use cpreg::destination::kernel::{RegisterKind, Scope};
use cpreg::plan::{ExtensionAction, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind, RefusedWrite};
use crate::host::Vcpu;
use crate::value;

/// The most VM-wide registers that KVM's ABI has: 56 ID registers, MIDR_EL1, REVIDR_EL1, AIDR_EL1, CTR_EL0, the PSCI version, three
/// workarounds and four bitmaps.
pub const MAX_VM_WIDE_REGISTERS: usize = 68;

/// A plan was carried out: every write was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadSummary {
    /// How many registers were written.
    pub written_registers: usize,
    /// How many system calls that took in all.
    pub calls: usize,
    /// What KVM took without an error and does not hold.
    pub mismatches: Vec<Mismatch>,
}

/// A register that took a value and reads differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which vCPU; `None` for what belongs to the VM.
    pub vcpu: Option<usize>,
    /// Which register.
    pub register: RegisterId,
    /// What was written.
    pub written_value: Value,
    /// What it holds.
    pub current_value: Value,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            register,
            written_value: wrote,
            current_value: holds,
            ..
        } = self;
        match self.vcpu {
            Some(vcpu) => write!(f, "vCPU {vcpu}: ")?,
            None => f.write_str("the VM: ")?,
        }
        write!(
            f,
            "{register} ({:#018x}) took {wrote} without an error and holds {holds}",
            register.raw()
        )
    }
}

/// Carries out a plan on all vCPUs of a VM: initialised (`KVM_ARM_VCPU_INIT`) with the features that the plan's destination has, with the
/// GIC and the PMU set up, never run; SVE finalized only if the vector lengths are to be those that it then has.
///
/// Whatever goes wrong, no vCPU of the VM may be run then. After success the guest can see [`LoadSummary::differences`].
///
/// # Errors
/// What stood in the way; whether anything was written is in it.
pub fn load(plan: &Plan, vcpus: &[impl Vcpu]) -> Result<LoadSummary, Error> {
    execute_plan(plan, vcpus, |refused| {
        Err(ErrorKind::Refused(Box::new(refused)).into())
    })
}

/// As [`load`], with a say in whether to go on after a refused write.
///
/// # Errors
/// As [`load`], and what `on_refusal` says.
pub(crate) fn execute_plan<V: Vcpu>(
    plan: &Plan,
    vcpus: &[V],
    on_refusal: impl FnMut(RefusedWrite) -> Result<(), Error>,
) -> Result<LoadSummary, Error> {
    let writes = check_plan(plan, vcpus.len())?;
    let wide = vm_wide_writes(&writes)?;
    let mut loader = Loader {
        vcpus,
        summary: LoadSummary::default(),
        on_refusal,
    };
    for (number, (vcpu_plan, writes)) in plan.vcpus.iter().zip(&writes).enumerate() {
        let mut decisions = vcpu_plan.decisions.iter();
        let has_sve = decisions.any(|it| it.register == RegisterId::SVE_VLS && it.is_listed);
        loader.load_vector_lengths(number, has_sve, writes)?;
    }
    for (number, id, value) in &wide {
        loader.write(*number, *id, value)?;
    }
    for (number, writes) in writes.iter().enumerate() {
        for (id, value) in writes {
            let is_own = RegisterKind::from_id(*id).scope() == Scope::Vcpu;
            if is_own && *id != RegisterId::SVE_VLS {
                loader.write(number, *id, value)?;
            }
        }
    }
    for (number, id, value) in &wide {
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

/// What is to be written to each vCPU, in the plan's order.
type Writes<'a> = Vec<Vec<(RegisterId, &'a Value)>>;

/// What can be seen to be wrong before anything is touched.
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
    let mut all = Vec::with_capacity(vcpus);
    for (vcpu, plan) in plan.vcpus.iter().enumerate() {
        let mut extensions = plan.extensions.iter();
        let loaded = extensions
            .find(|it| matches!(it.action, ExtensionAction::Copy | ExtensionAction::Set(_)));
        if let Some(extension) = loaded {
            return Err(ErrorKind::Extension {
                vcpu,
                name: extension.name.clone(),
            }
            .into());
        }
        let writes = plan.writes();
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
        all.push(writes);
    }
    Ok(all)
}

/// What belongs to the VM, each register once, with the first vCPU that the plan writes it to.
fn vm_wide_writes<'a>(writes: &Writes<'a>) -> Result<Vec<(usize, RegisterId, &'a Value)>, Error> {
    let mut wide: Vec<(usize, RegisterId, &Value)> = Vec::with_capacity(MAX_VM_WIDE_REGISTERS);
    for (number, writes) in writes.iter().enumerate() {
        for (id, value) in writes {
            if RegisterKind::from_id(*id).scope() != Scope::Vm {
                continue;
            }
            match wide.iter().find(|(_, known, _)| known == id) {
                Some((_, _, known)) if known == value => {}
                Some((first, ..)) => {
                    return Err(ErrorKind::ConflictingValues {
                        register: *id,
                        vcpus: [*first, number],
                    }
                    .into());
                }
                None => wide.push((number, *id, *value)),
            }
        }
    }
    Ok(wide)
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
            // EPERM: the VMM has done it.
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
        let holds = value::read(vcpu, id);
        if id == RegisterId::SVE_VLS && errno == Errno::EPERM && holds.as_ref() == Ok(value) {
            // The VMM has finalized the vCPU with these very lengths.
            return Ok(());
        }
        (self.on_refusal)(RefusedWrite {
            vcpu: number,
            register: id,
            written_value: value.clone(),
            current_value: holds,
            errno,
            written_registers: self.summary.written_registers,
        })
    }

    fn verify(
        &mut self,
        reported: Option<usize>,
        number: usize,
        id: RegisterId,
        wrote: &Value,
    ) -> Result<(), Error> {
        let Some(vcpu) = self.vcpus.get(number) else {
            return Ok(());
        };
        self.summary.calls += 1;
        let holds = value::read(vcpu, id).map_err(|errno| ErrorKind::ReadBack {
            vcpu: number,
            register: id,
            errno,
        })?;
        if holds != *wrote {
            self.summary.mismatches.push(Mismatch {
                vcpu: reported,
                register: id,
                written_value: wrote.clone(),
                current_value: holds,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
