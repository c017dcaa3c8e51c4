//! Explanation of failures that name neither a register nor a device: vCPUs that failed for an
//! unnamed register, and loads that failed without a reason.

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
use super::registers::histories;
use super::{front_end, start};
use crate::failure::LoadFailure;
use crate::message::{LoadInput, Symptom};

/// Explains a failure of which no line names a register or a device.
pub(super) fn explain_unnamed_register(
    failure: &LoadFailure,
    registers: Vec<AffectedRegister>,
) -> Explanation {
    let has_symptom = |is_match: fn(&Symptom) -> bool| failure.symptoms().any(is_match);
    let error = failure.load_error();
    let is_cpu = failure.symptoms().any(|symptom| match symptom {
        Symptom::SectionFailed { device, .. } => device == "cpu",
        Symptom::FieldFailed { section, .. } | Symptom::HookFailed { section, .. } => {
            section == "cpu" || section.starts_with("cpu/")
        }
        _ => false,
    });
    let register_error = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::UnnamedRegister { error, .. } => Some(*error),
        _ => None,
    });
    let explanation = if let Some(error) = register_error {
        explain_register_error(error)
    } else if has_symptom(|symptom| matches!(symptom, Symptom::PutFailed { .. })) {
        if !is_cpu && start::is_failed_start(failure) {
            start::explain_put_failed(failure)
        } else {
            explain_put_failed(is_cpu)
        }
    } else if is_cpu {
        explain_cpu_section(error, failure.settings.cpu_model.as_deref())
    } else if failure.symptoms().all(Symptom::is_warning) {
        explain_warnings(&registers)
    } else if has_symptom(|symptom| {
        matches!(symptom, Symptom::VcpuNotRestored | Symptom::VcpuInit { .. })
    }) {
        Explanation::new(
            FailureKind::CPU_SECTION,
            "a vCPU's state could not be restored; the line has no reason",
            general_causes(),
            vec![Remedy::Compare],
        )
    } else if error.is_none()
        && let Some(explanation) = front_end::explain(failure)
    {
        explanation
    } else {
        let is_snapshot = |symptom: &Symptom| {
            matches!(
                symptom,
                Symptom::LoadFailed {
                    input: LoadInput::Snapshot,
                    ..
                }
            )
        };
        explain_no_reason(error, failure.symptoms().any(is_snapshot))
    };
    explanation.with_registers(registers)
}

fn explain_register_error(error: Option<Errno>) -> Explanation {
    let error = match error {
        Some(Errno::ENOENT) => ": KVM at the destination lacks it".to_string(),
        Some(Errno::EINVAL) => ": KVM at the destination does not accept the value".to_string(),
        error => error_suffix(error),
    };
    Explanation::new(
        FailureKind::CPU_SECTION,
        format!(
            "a register of the VM could not be written{error}. The program does not name it, and \
             stops at the first one; there may be more"
        ),
        general_causes(),
        vec![Remedy::Compare],
    )
}

fn explain_put_failed(is_cpu: bool) -> Explanation {
    let causes = vec![
        cause(
            "PSCI_VERSION: 1.3 from Linux 6.13 and later into 6.12 and earlier, 1.1 into 5.17 and \
             earlier",
            "recorded; Linux v6.13 (8be82d536a9f), v5.18 (512865d83fd9)",
        ),
        cause(
            "an ID register with another value in the destination's kernel or CPU",
            "recorded; Linux accepts lower values from v6.7 on",
        ),
        cause(
            "the geometry of the caches (CCSIDR_EL1) into Linux 6.2 and earlier",
            "recorded; Linux v6.3 (7af0c2534f4c)",
        ),
    ];
    let meaning = if is_cpu {
        "KVM at the destination refused the value of at least one register when QEMU wrote all of \
         them. This QEMU does not name the register; 10.2 and later do"
    } else {
        "KVM refused the value of at least one register when QEMU wrote a vCPU's registers. No \
         line shows that a VM was being started or loaded. This QEMU does not name the register; \
         10.2 and later do"
    };
    Explanation::new(
        FailureKind::VALUE_NOT_ACCEPTED,
        meaning,
        causes,
        two_host_remedies(),
    )
}

fn explain_cpu_section(error: Option<Errno>, cpu_model: Option<&str>) -> Explanation {
    let (meaning, causes) = match error {
        Some(Errno::ENOENT) => (
            "the CPU state has a subsection that the destination's QEMU does not know; QEMU up to \
             10.2 does not name it",
            Vec::new(),
        ),
        Some(Errno::EINVAL) => (
            "a vCPU's state could not be read or applied: more registers than the destination \
             has, a register that it lacks, or a value that it does not accept. Other lines of \
             the same load have the reason",
            general_causes(),
        ),
        _ => (
            "a vCPU's registers were read, but could not be applied. QEMU up to 10.2 does not \
             name the register",
            hook_causes(cpu_model),
        ),
    };
    let explanation = Explanation::new(
        FailureKind::CPU_SECTION,
        meaning,
        causes,
        two_host_remedies(),
    );
    if matches!(error, Some(Errno::ENOENT)) {
        return explanation.with_command(
            "qemu-system-aarch64 --version",
            "shows the version; the destination needs the source's or a later one",
        );
    }
    match (error, cpu_model) {
        (Some(Errno::EPERM), None | Some("max")) => explanation.with_command(
            "qemu-system-aarch64 -cpu help",
            "lists the named CPU models; -cpu neoverse-n1 makes the next VM independent of QEMU's \
             version, which -cpu max does not",
        ),
        _ => explanation,
    }
}

/// Returns the cause that is usual under TCG: another QEMU version with `-cpu max`.
fn max_cause(is_certain: bool) -> Cause {
    let condition = if is_certain { "" } else { "with `-cpu max`: " };
    cause(
        format!(
            "{condition}`max` has other features in every QEMU version, so a VM with it loads only \
             into the version that saved it. Use the same QEMU; give the next VM a named model"
        ),
        "recorded with QEMU 5.2, 7.2, 10.0 and 11.1",
    )
}

fn hook_causes(cpu_model: Option<&str>) -> Vec<Cause> {
    let max = match cpu_model {
        Some("max") => Some(max_cause(true)),
        None => Some(max_cause(false)),
        Some(_) => None,
    };
    let mut causes: Vec<Cause> = max.into_iter().collect();
    causes.extend([
        cause(
            "the VM has a register that the destination lacks, with an id below the largest that \
             the destination has",
            "recorded; QEMU up to 10.2 compares the two lists in ascending order",
        ),
        cause(
            "a value that the destination does not accept: PSCI_VERSION, an ID register, the \
             caches",
            "recorded under KVM and under TCG",
        ),
        cause(
            "under TCG into QEMU 5.2: the CPU's features, which later versions send as 0",
            "recorded with QEMU 5.2",
        ),
    ]);
    causes
}

fn explain_warnings(registers: &[AffectedRegister]) -> Explanation {
    let is_tcg =
        |register: &AffectedRegister| register.register.accelerator == Some(Accelerator::Tcg);
    let meaning = if registers.iter().any(is_tcg) {
        "the destination has registers that the VM lacks. Under emulation they do not keep their \
         reset value: they are 0 after the load, and a register that must not change fails the load"
    } else {
        "the destination has registers that the VM lacks; they keep KVM's reset value. This does \
         not fail a load"
    };
    let causes = histories(registers, RegisterDifference::DestinationOnly);
    Explanation::new(FailureKind::WARNINGS, meaning, causes, vec![Remedy::CHECK])
}

fn explain_no_reason(error: Option<Errno>, is_snapshot: bool) -> Explanation {
    let error = error_suffix(error);
    if is_snapshot {
        return Explanation::new(
            FailureKind::NO_REASON,
            format!(
                "the saved state did not load{error}; QEMU prints the reason before this line, to \
                 its standard error"
            ),
            vec![
                cause(
                    "another QEMU than the one that saved the VM, with another machine version or \
                     CPU model, or other devices",
                    "QEMU's migration/savevm.c",
                ),
                cause(
                    "on a Mac: another release of macOS or another processor",
                    "UTM issue 3979, Multipass issue 5083",
                ),
            ],
            vec![Remedy::SHOW, Remedy::CHECK],
        )
        .with_command(
            "qemu-system-aarch64 … -loadvm SNAPSHOT",
            "loads the state from a terminal, with the VM's other options: the lines before this \
             one have the reason",
        );
    }
    Explanation::new(
        FailureKind::NO_REASON,
        format!("the load failed{error}; the reason is in the lines before, at the destination"),
        vec![cause(
            "QEMU prints the reason before this line, to its standard error; libvirt keeps it in \
             /var/log/libvirt/qemu/VM.log of the destination",
            "libvirt reports only the last line",
        )],
        vec![Remedy::CHECK, Remedy::Rehearse, Remedy::Report],
    )
}

/// Returns the remedies for a failure whose cause lies in the register lists and values of the two
/// hosts.
fn two_host_remedies() -> Vec<Remedy> {
    vec![
        Remedy::CHECK,
        Remedy::Probe,
        Remedy::Rehearse,
        Remedy::Convert,
    ]
}
