//! Registers that are named, and vCPUs that fail without a name.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use cpreg::destination::Accelerator;
use cpreg::destination::kernel::Kind as RegisterKind;
use cpreg::errno::Errno;
use cpreg::register::RegisterId;
use cpreg::remedy::Remedy;
use cpreg::tolerance::{Difference, Tolerances};

use super::count::general_causes;
use super::explanation::{Cause, Concerned, Explanation, Kind, cause, reason};
use crate::failure::Failure;
use crate::message::{NamedRegister, Symptom};

pub(super) fn only_in_input(failure: &Failure, registers: Vec<Concerned>) -> Explanation {
    let mut named: Vec<String> = registers
        .iter()
        .filter(|register| register.difference == Some(Difference::OnlyInInput))
        .map(|register| register.register.to_string())
        .collect();
    let count = named.len();
    named.truncate(8);
    let mut list = named.join(", ");
    if count > 8 {
        list = format!("{list} and {} more", count - 8);
    }
    let is_qemu = !failure.has_no_list();
    let mut means = format!(
        "the VM has {} that the destination's list has not got: {list}",
        if count == 1 {
            "a register"
        } else {
            "registers"
        }
    );
    if is_qemu {
        means += ". QEMU 11 names each of them; 11.1 and later tolerate a few that are known to be harmless";
    } else {
        means += ". This program writes every register that was saved and stops at the first that KVM has not got; there may be more";
    }
    let refused = |register: &Concerned| register.difference == Some(Difference::ValueNotTaken);
    if registers.iter().any(refused) {
        means +=
            ". Besides, KVM there does not take the values of others, which is listed with them";
    }
    let mut causes = histories(&registers, Difference::OnlyInInput);
    if is_qemu && !failure.symptoms().any(Symptom::ends) {
        causes.push(cause(
            "if the VM runs nevertheless: QEMU 11.1 forgets this failure when a tolerated register follows in the list, and what the register held is lost",
            "recorded with QEMU 11.1.3",
        ));
    }
    Explanation {
        kind: Kind::ONLY_IN_INPUT,
        means,
        causes,
        registers,
        settle: if is_qemu {
            vec![Remedy::CHECK, Remedy::Tolerances, Remedy::Convert]
        } else {
            vec![Remedy::Tolerances, Remedy::Compare]
        },
    }
}

/// What happened to these registers, when, from the table of tolerances; each once.
fn histories(registers: &[Concerned], difference: Difference) -> Vec<Cause> {
    let tolerances = Tolerances::default();
    let mut causes: Vec<Cause> = Vec::new();
    for register in registers {
        if register.difference != Some(difference) {
            continue;
        }
        let entry = register
            .tolerance
            .and_then(|entry| tolerances.entries().get(entry));
        for change in entry.map_or(&[][..], |entry| &entry.history) {
            let source = if change.commit.is_empty() {
                change.release.to_string()
            } else {
                format!("{} ({})", change.release, change.commit)
            };
            let new = cause(format!("{}: {}", register.register, change.what), source);
            if !causes.contains(&new) {
                causes.push(new);
            }
        }
    }
    causes
}

pub(super) fn value_not_taken(failure: &Failure, registers: Vec<Concerned>) -> Explanation {
    let unknown = |symptom: &Symptom| matches!(symptom, Symptom::UnknownToKvm { .. });
    let hidden = failure.symptoms().any(unknown);
    let taken = |symptom: &Symptom| matches!(symptom, Symptom::NotTaken { .. });
    let mut means = String::new();
    if failure.symptoms().any(taken) {
        // Of a program that compares no lists, and whose line ends before the error.
        let either = |symptom: &Symptom| {
            matches!(
                symptom,
                Symptom::NotTaken {
                    error: None,
                    is: None,
                    ..
                }
            )
        };
        means += if failure.has_no_list() && failure.symptoms().any(either) {
            "KVM on the destination has not got these registers, or does not take the VM's values: the error that would tell is missing (ENOENT, `No such file or directory`: it has not got the register)"
        } else {
            "KVM on the destination does not take the VM's values of these registers"
        };
        let busy = failure.symptoms().any(|symptom| {
            matches!(
                symptom,
                Symptom::NotTaken {
                    error: Some(Errno::EBUSY),
                    ..
                }
            )
        });
        if busy {
            means += "; where the error is `Device or resource busy` the VM had already run there, and the register cannot change any more";
        }
    }
    if hidden {
        if !means.is_empty() {
            means += ". ";
        }
        means += "`unknown to KVM`: the register was in the destination's list, and an ID register of the VM that was written before has hidden it";
    }
    let mut causes = histories(&registers, Difference::ValueNotTaken);
    let kinds = || {
        registers
            .iter()
            .filter_map(|register| register.register.id)
            .map(RegisterKind::of)
    };
    let of_the_core = |kind| {
        matches!(
            kind,
            RegisterKind::CacheSize(_)
                | RegisterKind::Identification
                | RegisterKind::Implementation
                | RegisterKind::CacheLevels
                | RegisterKind::CacheType
        )
    };
    if kinds().any(|kind| matches!(kind, RegisterKind::CacheSize(_))) {
        causes.push(cause(
            "caches: KVM before 6.3 takes only the geometry of the host's own; later kernels show a made-up one and take others",
            "Linux v6.3 (7af0c2534f4c)",
        ));
    }
    if kinds().any(|kind| matches!(kind, RegisterKind::Implementation)) {
        causes.push(cause(
            "another CPU: KVM takes no other MIDR_EL1, REVIDR_EL1 and AIDR_EL1 than the host's; from 6.15 on a program may ask for that",
            "Linux v6.15 (3adaee783061)",
        ));
    }
    if kinds().any(|kind| matches!(kind, RegisterKind::Identification)) {
        causes.push(cause(
            "ID registers: KVM before 6.7 takes nothing but its own value; later kernels take a lower one in more and more fields",
            "Linux v6.7 (56d77aa8bdf5, d5a32b60dc18, 8cfd5be88ebe), v6.12 (78c4446b5f95)",
        ));
    }
    let moved = |symptom: &Symptom| {
        matches!(
            symptom,
            Symptom::SectionFailed { .. } | Symptom::LoadFailed { .. }
        )
    };
    if !failure.has_no_list() && kinds().any(of_the_core) && !failure.symptoms().any(moved) {
        causes.push(two_kinds_of_cores());
    }
    Explanation {
        kind: Kind::VALUE_NOT_TAKEN,
        means,
        causes,
        registers,
        settle: if failure.has_no_list() {
            vec![Remedy::Compare]
        } else {
            vec![Remedy::CHECK, Remedy::Compare, Remedy::Convert]
        },
    }
}

fn two_kinds_of_cores() -> Cause {
    cause(
        "if no VM was being moved: on a machine with two kinds of cores QEMU reads a register on one and writes it back on another; keep it on one kind (taskset, vcpupin)",
        "QEMU issue 1595",
    )
}

pub(super) fn psci(failure: &Failure, registers: Vec<Concerned>) -> Explanation {
    let version = failure.symptoms().find_map(|symptom| match symptom {
        Symptom::NoSuchPsci { version } => Some(version.as_str()),
        _ => None,
    });
    let which = version.map_or_else(String::new, |version| format!(" {version}"));
    Explanation {
        kind: Kind::PSCI_VERSION,
        means: format!(
            "the destination was told by `kvm-psci-version` to give the guest PSCI{which}, and its kernel has not got that version. The setting belongs on the source: a version that all hosts have, from the VM's start on"
        ),
        causes: psci_history(),
        registers,
        settle: vec![
            Remedy::Show {
                register: Some(RegisterId::PSCI_VERSION),
            },
            Remedy::Check {
                accept: Some(RegisterId::PSCI_VERSION),
            },
        ],
    }
}

fn psci_history() -> Vec<Cause> {
    let register = NamedRegister::of(RegisterId::PSCI_VERSION, "");
    let tolerance = Tolerances::default().find(
        RegisterId::PSCI_VERSION,
        Difference::ValueNotTaken,
        Some(Accelerator::Kvm),
    );
    histories(
        &[Concerned {
            register,
            difference: Some(Difference::ValueNotTaken),
            value: None,
            is: None,
            hidden: false,
            tolerance,
        }],
        Difference::ValueNotTaken,
    )
}

/// What names neither register nor device.
pub(super) fn unnamed(failure: &Failure, registers: Vec<Concerned>) -> Explanation {
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
        Symptom::SomeRegister { error, .. } => Some(*error),
        _ => None,
    });
    if let Some(error) = some_register {
        return Explanation {
            kind: Kind::CPU_SECTION,
            means: format!(
                "a register of the VM could not be written{}, and the program does not say which. It stops at the first one; there may be more",
                match error {
                    Some(Errno::ENOENT) => ": KVM on the destination has not got it".to_string(),
                    Some(Errno::EINVAL) =>
                        ": KVM on the destination does not take the value".to_string(),
                    error => reason(error),
                }
            ),
            causes: general_causes(),
            registers,
            settle: vec![Remedy::Compare],
        };
    }
    if find(|symptom| matches!(symptom, Symptom::PutFailed { .. })) {
        let mut causes = vec![
            cause(
                "PSCI_VERSION: 1.3 from Linux 6.13 and later into 6.12 and earlier, 1.1 into 5.17 and earlier",
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
            "KVM on the destination refused at least one register's value when all were written to it. This QEMU does not say which; 10.2 and later do"
        } else {
            causes.insert(0, two_kinds_of_cores());
            "KVM refused at least one register's value when QEMU wrote a vCPU's registers to it. No line says that a VM was being loaded. This QEMU does not say which register; 10.2 and later do"
        };
        return Explanation {
            kind: Kind::VALUE_NOT_TAKEN,
            means: means.to_string(),
            causes,
            registers,
            settle: vec![
                Remedy::CHECK,
                Remedy::Probe,
                Remedy::Rehearse,
                Remedy::Convert,
            ],
        };
    }
    if is_cpu {
        let mut causes = Vec::new();
        let means = match error {
            Some(Errno::ENOENT) => "the CPU state has a part that the destination's QEMU does not know; up to 10.2 it does not say which".to_string(),
            Some(Errno::EINVAL) => {
                causes.extend(general_causes());
                "a vCPU's state could not be read or taken over: more registers than the destination has, a register that it has not got, or a value that it does not take. Other lines of the same load say which".to_string()
            }
            _ => {
                causes.push(cause(
                    "the VM has a register that the destination has not got, below the largest that it has",
                    "recorded; QEMU up to 10.2 compares the two lists in ascending order",
                ));
                causes.push(cause(
                    "a value that it does not take: PSCI_VERSION, an ID register, the caches",
                    "recorded under KVM and under TCG",
                ));
                causes.push(cause(
                    "under TCG into QEMU 5.2: the CPU's features, which later versions send as 0",
                    "recorded with QEMU 5.2",
                ));
                "a vCPU's registers were read and could not be taken over. QEMU up to 10.2 does not say which register it was".to_string()
            }
        };
        return Explanation {
            kind: Kind::CPU_SECTION,
            means,
            causes,
            registers,
            settle: vec![
                Remedy::CHECK,
                Remedy::Probe,
                Remedy::Rehearse,
                Remedy::Convert,
            ],
        };
    }
    if failure.symptoms().all(Symptom::is_warning) {
        let tcg = registers
            .iter()
            .any(|register| register.register.accelerator == Some(Accelerator::Tcg));
        return Explanation {
            kind: Kind::WARNINGS,
            means: if tcg {
                "the destination has registers that the VM lacks. Under emulation they do not keep their reset value: they are 0 afterwards, and one that must not change fails the load".to_string()
            } else {
                "the destination has registers that the VM lacks; they keep the value that KVM resets them to. That fails no load".to_string()
            },
            causes: histories(&registers, Difference::OnlyAtDestination),
            registers,
            settle: vec![Remedy::CHECK],
        };
    }
    let vcpu =
        find(|symptom| matches!(symptom, Symptom::VcpuNotRestored | Symptom::VcpuInit { .. }));
    Explanation {
        kind: if vcpu {
            Kind::CPU_SECTION
        } else {
            Kind::NO_REASON
        },
        means: if vcpu {
            "a vCPU's state could not be restored; the line does not say why".to_string()
        } else {
            format!(
                "the load failed{}; why stands in the lines before it, on the destination",
                reason(error)
            )
        },
        causes: if vcpu {
            general_causes()
        } else {
            vec![cause(
                "QEMU prints the reason before this line, to its standard error; libvirt keeps it in /var/log/libvirt/qemu/VM.log of the destination",
                "libvirt hands on the last line only",
            )]
        },
        registers,
        settle: if vcpu {
            vec![Remedy::Compare]
        } else {
            vec![Remedy::CHECK, Remedy::Rehearse, Remedy::Report]
        },
    }
}
