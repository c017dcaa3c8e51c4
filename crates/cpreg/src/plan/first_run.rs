//! What KVM changes without a word when the guest first runs, after every write was taken.
//!
//! | kernel | the guest loses | when |
//! |---|---|---|
//! | Linux 7.3 | ID_AA64MMFR3_EL1.S1PIE, and with it PIR_EL1 and PIRE0_EL1 | it has no ID_AA64ISAR2_EL1.ATS1A |
//!
//! Seen on 7.3.4 and not on 7.2.12, on an emulated CPU (docs/kvm-matrix.md); with ATS1A set in what is loaded it keeps S1PIE. KVM lists ATS1A to
//! guests since 7.2, so guests of older kernels do not have it.

use alloc::borrow::Cow;

use super::{Action, VcpuPlan, VcpuSet, VisibleChange};
use crate::destination::{Accelerator, Destination, DestinationVcpu};
use crate::register::{RegisterId, Value};
use crate::remedy::Remedy;
use crate::severity::Severity;

/// S1PIE's lowest bit in ID_AA64MMFR3_EL1.
const S1PIE: u8 = 8;
/// ATS1A's lowest bit in ID_AA64ISAR2_EL1.
const ATS1A: u8 = 60;

/// What the guest on one vCPU would lose.
pub(super) fn lost_feature(
    destination: &Destination,
    number: usize,
    plan: &VcpuPlan,
) -> Option<VisibleChange> {
    if destination.accelerator != Some(Accelerator::Kvm) {
        return None;
    }
    let host = destination.vcpu(number)?;
    let is_surely = is_linux_7_3(host)?;
    let pie = planned_value(plan, RegisterId::ID_AA64MMFR3_EL1)? >> S1PIE & 0xf;
    let without_ats1a = planned_value(plan, RegisterId::ID_AA64ISAR2_EL1)? >> ATS1A & 0xf == 0;
    (pie != 0 && without_ats1a).then(|| VisibleChange {
        vcpus: VcpuSet::default(),
        register: Some(RegisterId::ID_AA64MMFR3_EL1),
        field: Some(Cow::Borrowed("S1PIE")),
        from: Some(pie),
        to: Some(0),
        severity: Severity::High,
        description: Cow::Borrowed(if is_surely {
            "KVM of Linux 7.3 takes the value, and takes S1PIE, PIR_EL1 and PIRE0_EL1 from a \
             guest without ATS1A when it first runs"
        } else {
            "KVM of Linux 7.3, which this may be, takes the value, and takes S1PIE, PIR_EL1 and \
             PIRE0_EL1 from a guest without ATS1A when it first runs"
        }),
        remedy: Some(Remedy::SetField {
            register: RegisterId::ID_AA64ISAR2_EL1,
            field: "ATS1A",
            value: 1,
        }),
    })
}

/// Whether the host surely is 7.3 or later, by PMMIR_EL1, which is listed with a PMU; `None` if it surely is not.
fn is_linux_7_3(host: &DestinationVcpu) -> Option<bool> {
    let has = |id| host.get(id).is_some();
    let ats1a = host.value(RegisterId::ID_AA64ISAR2_EL1)? >> ATS1A & 0xf;
    match (has(RegisterId::PMMIR_EL1), has(RegisterId::PMCR_EL0)) {
        (true, _) => Some(true),
        (false, false) if ats1a != 0 => Some(false),
        _ => None,
    }
}

/// What a register of at most 64 bits holds once the plan is carried out, if that is known.
fn planned_value(plan: &VcpuPlan, id: RegisterId) -> Option<u64> {
    let decisions = &plan.decisions;
    let at = decisions
        .binary_search_by_key(&id, |decision| decision.register)
        .ok()?;
    let decision = &decisions[at];
    let value = match &decision.action {
        Action::Set(value) | Action::WriteReset(value) => Some(value),
        Action::KeepAtReset => decision.destination.as_ref(),
        _ => decision.source.as_ref(),
    };
    value.and_then(Value::as_u64)
}
