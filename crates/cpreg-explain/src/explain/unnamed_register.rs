//! What names neither register nor device: vCPUs that fail without a name, and loads that fail without a reason.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::errno::Errno;
use cpreg::remedy::Remedy;
use cpreg::tolerance::RegisterDifference;

use super::count::general_causes;
use super::explanation::{AffectedRegister, Cause, Explanation, FailureKind, cause, error_suffix};
use super::registers::{heterogeneous_cores_cause, histories};
use crate::failure::LoadFailure;
use crate::message::Symptom;

/// Explains a failure of which no line names a register or a device.
pub(super) fn explain_unnamed_register(
    failure: &LoadFailure,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    let find = |wanted: fn(&Symptom) -> bool| failure.symptoms().any(wanted);
    let error = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::LoadFailed { error } => *error,
        _ => None,
    });
    let is_cpu = failure.symptoms().any(|symptom| match symptom {
        Symptom::SectionFailed { device, .. } => device == "cpu",
        Symptom::FieldFailed { section, .. } | Symptom::HookFailed { section, .. } => {
            section == "cpu" || section.starts_with("cpu/")
        }
        _ => false,
    });
    let some_register = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::UnnamedRegister { error, .. } => Some(*error),
        _ => None,
    });
    let explanation = if let Some(error) = some_register {
        explain_some_register(error)
    } else if find(|symptom| matches!(symptom, Symptom::PutFailed { .. })) {
        explain_put_failed(is_cpu)
    } else if is_cpu {
        explain_cpu_section(error)
    } else if failure.symptoms().all(Symptom::is_warning) {
        explain_warnings(&registers)
    } else if find(|symptom| matches!(symptom, Symptom::VcpuNotRestored | Symptom::VcpuInit { .. }))
    {
        Explanation::new(
            FailureKind::CPU_SECTION,
            "a vCPU's state could not be restored; the line does not say why",
            general_causes(),
            vec![Remedy::Compare],
        )
    } else {
        explain_no_reason(error)
    };
    Explanation {
        registers,
        ..explanation
    }
}

fn explain_some_register(error: Option<Errno>) -> Explanation {
    let error = match error {
        Some(Errno::ENOENT) => ": KVM on the destination has not got it".to_string(),
        Some(Errno::EINVAL) => ": KVM on the destination does not take the value".to_string(),
        error => error_suffix(error),
    };
    Explanation::new(
        FailureKind::CPU_SECTION,
        format!(
            "a register of the VM could not be written{error}, and the program does not say which. \
             It stops at the first one; there may be more"
        ),
        general_causes(),
        vec![Remedy::Compare],
    )
}

fn explain_put_failed(is_cpu: bool) -> Explanation {
    let mut causes = vec![
        cause(
            "PSCI_VERSION: 1.3 from Linux 6.13 and later into 6.12 and earlier, 1.1 into 5.17 and \
             earlier",
            "recorded; Linux v6.13 (8be82d536a9f), v5.18 (512865d83fd9)",
        ),
        cause(
            "an ID register that the destination's kernel or CPU has otherwise",
            "recorded; Linux takes lower values from v6.7 on",
        ),
        cause(
            "the geometry of the caches (CCSIDR_EL1) into Linux 6.2 and earlier",
            "recorded; Linux v6.3 (7af0c2534f4c)",
        ),
    ];
    let means = if is_cpu {
        "KVM on the destination refused at least one register's value when all were written to \
         it. This QEMU does not say which; 10.2 and later do"
    } else {
        causes.insert(0, heterogeneous_cores_cause());
        "KVM refused at least one register's value when QEMU wrote a vCPU's registers to it. No \
         line says that a VM was being loaded. This QEMU does not say which register; 10.2 and \
         later do"
    };
    Explanation::new(
        FailureKind::VALUE_NOT_TAKEN,
        means,
        causes,
        two_host_remedies(),
    )
}

fn explain_cpu_section(error: Option<Errno>) -> Explanation {
    let (means, causes) = match error {
        Some(Errno::ENOENT) => (
            "the CPU state has a part that the destination's QEMU does not know; up to 10.2 it \
             does not say which",
            Vec::new(),
        ),
        Some(Errno::EINVAL) => (
            "a vCPU's state could not be read or taken over: more registers than the destination \
             has, a register that it has not got, or a value that it does not take. Other lines \
             of the same load say which",
            general_causes(),
        ),
        _ => (
            "a vCPU's registers were read and could not be taken over. QEMU up to 10.2 does not \
             say which register it was",
            hook_causes(),
        ),
    };
    Explanation::new(FailureKind::CPU_SECTION, means, causes, two_host_remedies())
}

fn hook_causes() -> Vec<Cause> {
    vec![
        cause(
            "the VM has a register that the destination has not got, below the largest that it has",
            "recorded; QEMU up to 10.2 compares the two lists in ascending order",
        ),
        cause(
            "a value that it does not take: PSCI_VERSION, an ID register, the caches",
            "recorded under KVM and under TCG",
        ),
        cause(
            "under TCG into QEMU 5.2: the CPU's features, which later versions send as 0",
            "recorded with QEMU 5.2",
        ),
    ]
}

fn explain_warnings(registers: &[AffectedRegister]) -> Explanation {
    let is_tcg =
        |register: &AffectedRegister| register.register.accelerator == Some(Accelerator::Tcg);
    let means = if registers.iter().any(is_tcg) {
        "the destination has registers that the VM lacks. Under emulation they do not keep their \
         reset value: they are 0 afterwards, and one that must not change fails the load"
    } else {
        "the destination has registers that the VM lacks; they keep the value that KVM resets \
         them to. That fails no load"
    };
    let causes = histories(registers, RegisterDifference::OnlyAtDestination);
    Explanation::new(FailureKind::WARNINGS, means, causes, vec![Remedy::CHECK])
}

fn explain_no_reason(error: Option<Errno>) -> Explanation {
    Explanation::new(
        FailureKind::NO_REASON,
        format!(
            "the load failed{}; why stands in the lines before it, on the destination",
            error_suffix(error)
        ),
        vec![cause(
            "QEMU prints the reason before this line, to its standard error; libvirt keeps it in \
             /var/log/libvirt/qemu/VM.log of the destination",
            "libvirt hands on the last line only",
        )],
        vec![Remedy::CHECK, Remedy::Rehearse, Remedy::Report],
    )
}

/// What settles a failure of which the two hosts' lists and values tell the cause.
fn two_host_remedies() -> Vec<Remedy> {
    vec![
        Remedy::CHECK,
        Remedy::Probe,
        Remedy::Rehearse,
        Remedy::Convert,
    ]
}
