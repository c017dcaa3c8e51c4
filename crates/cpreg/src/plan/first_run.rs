//! Features that KVM silently removes when the guest first runs, although KVM accepted every write.
//!
//! Linux 7.3 removes ID_AA64MMFR3_EL1.S1PIE from a guest without ID_AA64ISAR2_EL1.ATS1A. The guest
//! then loses PIR_EL1 and PIRE0_EL1.
//!
//! QEMU keeps both registers in its list, and fails to read them after the first run. The VM runs,
//! but QEMU can neither save nor migrate it: it stops the guest, and repeats `Failed to get
//! registers: Invalid argument` (QEMU 10.0, `cargo xtask lab busy-guest --convert --cpu max`).
//!
//! The removal was observed on 7.3.4 and not on 7.2.12, on an emulated CPU (docs/kvm-matrix.md).
//! With ATS1A set in the loaded state the guest keeps S1PIE. KVM shows guests ATS1A since 7.2, so
//! guests of older kernels lack ATS1A.

use alloc::borrow::Cow;
use alloc::vec;

use super::fatal_change::FatalChange;
use super::{Action, Decisions, Reason, VcpuPlan, VcpuSet, VisibleChange};
use crate::destination::{Accelerator, Destination, DestinationVcpu, Loader};
use crate::register::{RegisterId, Value};
use crate::remedy::Remedy;
use crate::severity::{Severity, Usage};
use crate::tolerance::condition::RESET_POISON;
use crate::vm::Vcpu;

/// Lowest bit of ID_AA64MMFR3_EL1.S1PIE.
const S1PIE: u8 = 8;
/// Lowest bit of ID_AA64ISAR2_EL1.ATS1A.
pub(super) const ATS1A: u8 = 60;

/// Returns the change by which the guest on one vCPU would lose S1PIE, if it would.
pub(super) fn lost_feature(
    destination: &Destination,
    number: usize,
    decisions: &Decisions,
) -> Option<VisibleChange> {
    if destination.accelerator != Some(Accelerator::Kvm) {
        return None;
    }
    let destination_vcpu = destination.vcpu(number)?;
    let is_certain = is_linux_7_3(destination_vcpu)?;
    let s1pie = planned_value(decisions, RegisterId::ID_AA64MMFR3_EL1)? >> S1PIE & 0xf;
    let without_ats1a = planned_value(decisions, RegisterId::ID_AA64ISAR2_EL1)? >> ATS1A & 0xf == 0;
    (s1pie != 0 && without_ats1a).then(|| VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(RegisterId::ID_AA64MMFR3_EL1),
        field: Some(Cow::Borrowed("S1PIE")),
        from: Some(s1pie),
        to: Some(0),
        severity: Severity::High,
        description: Cow::Borrowed(if is_certain {
            "KVM of Linux 7.3 accepts the value, but removes S1PIE, PIR_EL1 and PIRE0_EL1 from a \
             guest without ATS1A when it first runs"
        } else {
            "KVM of Linux 7.3 (the destination may run it) accepts the value, but removes S1PIE, \
             PIR_EL1 and PIRE0_EL1 from a guest without ATS1A when it first runs"
        }),
        remedy: Some(Remedy::SetField {
            register: RegisterId::ID_AA64ISAR2_EL1,
            field: "ATS1A",
            value: 1,
        }),
    })
}

/// Returns `true` if a guest would lose a feature, and the loader is not known. If it is QEMU, it
/// could not save the VM again.
pub(super) fn may_prevent_saving(destination: &Destination, vcpus: &[VcpuPlan]) -> bool {
    let mut vcpus = vcpus.iter().enumerate();
    destination.loader.is_none()
        && vcpus.any(|(number, plan)| lost_feature(destination, number, &plan.decisions).is_some())
}

/// Refuses a vCPU that would lose S1PIE, if it uses S1PIE, or if the loader is QEMU, which could
/// not save the VM again.
pub(super) fn refuse_lost_feature(
    destination: &Destination,
    number: usize,
    vcpu: &Vcpu,
    decisions: &mut Decisions,
) {
    let lost = lost_feature(destination, number, decisions).and_then(|change| change.from);
    let Some(from) = lost else {
        return;
    };
    let reason = if uses_s1pie(vcpu) {
        Reason::FatalChange(vec![lost_s1pie(from)])
    } else if destination.loader.is_some_and(Loader::is_qemu) {
        Reason::RemovedAtFirstRun
    } else {
        return;
    };
    let id = RegisterId::ID_AA64MMFR3_EL1;
    if let Some(decision) = decisions.find_mut(id) {
        decision.action = Action::Refuse;
        decision.reason = reason;
    }
}

/// Returns the loss of S1PIE, which had the value `from`, by a guest that uses it.
const fn lost_s1pie(from: u64) -> FatalChange {
    FatalChange {
        field: "S1PIE",
        from,
        to: 0,
        usage: Usage::InUse,
        consequence: "KVM of Linux 7.3 removes PIR_EL1 and PIRE0_EL1 when the guest first runs, \
                      because the guest lacks ID_AA64ISAR2_EL1.ATS1A",
    }
}

/// Returns `true` if these changes are the loss of S1PIE, which ATS1A prevents.
pub(super) fn is_lost_feature(changes: &[FatalChange]) -> bool {
    matches!(changes, [change] if *change == lost_s1pie(change.from))
}

/// Returns `true` if a vCPU has enabled S1PIE (TCR2_EL1.PIE) or has written its registers.
fn uses_s1pie(vcpu: &Vcpu) -> bool {
    const PIE: u64 = 1 << 1;
    let value = |id| vcpu.registers.get_u64(id).unwrap_or(0);
    let is_written = |id| ![0, RESET_POISON].contains(&value(id));
    value(RegisterId::TCR2_EL1) & PIE != 0
        || is_written(RegisterId::PIR_EL1)
        || is_written(RegisterId::PIRE0_EL1)
}

/// Returns `Some(true)` if the host certainly runs Linux 7.3 or later, and `Some(false)` if the
/// host may run 7.3. Returns `None` if the list shows no sign of 7.3.
///
/// The evidence is PMMIR_EL1, which 7.3 lists for vCPUs with a PMU. For vCPUs without a PMU,
/// ID_AA64ISAR2_EL1.ATS1A shows 7.2 or later.
fn is_linux_7_3(destination_vcpu: &DestinationVcpu) -> Option<bool> {
    let has = |id| destination_vcpu.get(id).is_some();
    let ats1a = destination_vcpu.value(RegisterId::ID_AA64ISAR2_EL1)? >> ATS1A & 0xf;
    match (has(RegisterId::PMMIR_EL1), has(RegisterId::PMCR_EL0)) {
        (true, _) => Some(true),
        (false, false) if ats1a != 0 => Some(false),
        _ => None,
    }
}

/// Returns the value of a register of at most 64 bits after the load, if known.
fn planned_value(decisions: &Decisions, id: RegisterId) -> Option<u64> {
    let decision = decisions.find(id)?;
    decision.loaded_value().and_then(Value::as_u64)
}
