//! Guests in use: the device states that `cargo xtask lab busy-guest --states` saved, beside the
//! boot logs of the guests. Most have Linux; two have translation tables with other granules.
//!
//! A guest's kernel says in its log which features it uses. The rules about fatal changes must find
//! the same in the guest's registers.

use std::fs;
use std::path::PathBuf;

use cpreg::register::RegisterId;
use cpreg::severity::{GuestState, Severity, Usage, rate_fields};
use cpreg::vm::Vm;

use crate::fixtures::{file_names, unpack_file};
use crate::run::cpreg;

const ISAR0: RegisterId = RegisterId::sysreg(3, 0, 0, 6, 0);
const ISAR1: RegisterId = RegisterId::sysreg(3, 0, 0, 6, 1);
const ISAR2: RegisterId = RegisterId::sysreg(3, 0, 0, 6, 2);
const MMFR0: RegisterId = RegisterId::sysreg(3, 0, 0, 7, 0);
const MMFR1: RegisterId = RegisterId::sysreg(3, 0, 0, 7, 1);
const MMFR2: RegisterId = RegisterId::sysreg(3, 0, 0, 7, 2);
const MMFR3: RegisterId = RegisterId::sysreg(3, 0, 0, 7, 3);
const PFR0: RegisterId = RegisterId::sysreg(3, 0, 0, 4, 0);
const PFR1: RegisterId = RegisterId::sysreg(3, 0, 0, 4, 1);

/// Field with a lower value, and the line of Linux's log that says that the kernel uses the
/// feature.
struct Lowering {
    register: RegisterId,
    field: &'static str,
    to: u64,
    /// Text of the log; empty if the log says nothing.
    log: &'static str,
}

const fn lowering(
    register: RegisterId,
    field: &'static str,
    to: u64,
    log: &'static str,
) -> Lowering {
    Lowering {
        register,
        field,
        to,
        log,
    }
}

const LOWERINGS: [Lowering; 26] = [
    lowering(ISAR0, "Atomic", 0, "detected: LSE atomic instructions"),
    lowering(ISAR1, "APA", 0, "detected: Address authentication (arch"),
    lowering(ISAR1, "API", 0, "detected: Address authentication (IMP DEF"),
    lowering(ISAR1, "GPA", 0, ""),
    lowering(ISAR1, "GPI", 0, "detected: Generic authentication (IMP DEF"),
    lowering(ISAR2, "MOPS", 0, "detected: Memory Copy and Memory Set"),
    lowering(MMFR0, "TGran4", 0xf, "Linux 6.12.107+deb13-cloud-arm64"),
    lowering(MMFR0, "TGran16", 0, ""),
    lowering(MMFR0, "TGran64", 0xf, ""),
    lowering(MMFR0, "ASIDBits", 0, "ASID allocator initialised with"),
    lowering(MMFR0, "PARange", 2, ""),
    lowering(
        MMFR1,
        "HAFDBS",
        0,
        "detected: Hardware dirty bit management",
    ),
    lowering(MMFR1, "PAN", 0, "detected: Privileged Access Never"),
    lowering(MMFR1, "HPDS", 0, ""),
    lowering(MMFR2, "VARange", 0, ""),
    lowering(MMFR2, "UAO", 0, ""),
    lowering(MMFR2, "E0PD", 0, ""),
    lowering(MMFR3, "S1PIE", 0, "Stage-1 Permission Indirection"),
    lowering(MMFR3, "TCRX", 0, "Stage-1 Permission Indirection"),
    lowering(PFR0, "EL0", 1, "detected: 32-bit EL0 Support"),
    lowering(PFR0, "SVE", 0, "detected: Scalable Vector Extension"),
    lowering(PFR0, "CSV2", 0, ""),
    lowering(PFR0, "DIT", 0, ""),
    lowering(PFR1, "BT", 0, "detected: Branch Target Identification"),
    lowering(PFR1, "SSBS", 0, ""),
    lowering(PFR1, "MTE", 0, "detected: Memory Tagging Extension"),
];

fn folder() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/streams/busy"
    ))
}

/// Returns the guests with Linux: name, VM, log.
fn busy_guests() -> Vec<(String, Vm, String)> {
    let guests = all_guests().into_iter();
    guests
        .filter(|(.., log)| log.starts_with("Linux "))
        .collect()
}

/// Returns the guests that `cargo xtask lab busy-guest` saved: name, VM, log.
fn all_guests() -> Vec<(String, Vm, String)> {
    let names = file_names(&folder()).into_iter();
    let names = names.filter_map(|name| Some(name.strip_suffix(".stream.xz")?.to_owned()));
    let guests = names.map(|name| {
        let bytes = unpack_file(&folder().join(format!("{name}.stream.xz")));
        let stream = cpreg_stream::Stream::open(&bytes).expect("a stream");
        let log = fs::read_to_string(folder().join(format!("{name}.log"))).expect("a log");
        (name, stream.vm().expect("a VM"), log)
    });
    guests.collect()
}

/// Returns the severity of a lower value, and the use of the feature; `None` if the VM has no
/// higher value.
fn rate(vm: &Vm, guest: &GuestState, lowering: &Lowering) -> Option<(Severity, Usage)> {
    let value = vm.vcpus[0].registers.get_u64(lowering.register)?;
    let fields = lowering.register.fields_for_value(value);
    let field = fields.iter().find(|field| field.name() == lowering.field);
    let field = field.unwrap_or_else(|| panic!("no field {}", lowering.field));
    let to = field
        .insert(value, lowering.to)
        .expect("a value of the field");
    let (difference, rating) = rate_fields(lowering.register, value, to, guest).next()?;
    let is_lowered = field.rank(difference.to) < field.rank(difference.from);
    is_lowered.then_some((rating.severity, rating.usage))
}

/// Fields of the features that the log of a guest on Neoverse N1 reports.
const REPORTED_BY_NEOVERSE_N1: [&str; 6] = ["Atomic", "TGran4", "ASIDBits", "HAFDBS", "PAN", "EL0"];

/// Fields of the features that the log of a guest on QEMU's CPU `max` reports.
const REPORTED_BY_MAX: [&str; 13] = [
    "Atomic", "API", "GPI", "MOPS", "TGran4", "ASIDBits", "HAFDBS", "PAN", "S1PIE", "TCRX", "EL0",
    "SVE", "BT",
];

/// Returns the list for the CPU in the name of a guest.
fn by_cpu<'a>(guest: &str, neoverse_n1: &'a [&'a str], max: &'a [&'a str]) -> &'a [&'a str] {
    if guest.contains("neoverse-n1") {
        neoverse_n1
    } else {
        max
    }
}

/// Compares the rules with what the guest's own kernel says.
#[test]
fn features_that_the_guest_reports_are_in_use() {
    let guests = busy_guests();
    assert!(!guests.is_empty());
    for (name, vm, log) in guests {
        let guest = GuestState::from_vm(&vm, |_, value| value);
        let mut reported = Vec::new();
        for lowering in &LOWERINGS {
            if lowering.log.is_empty() || !log.contains(lowering.log) {
                continue;
            }
            let field = lowering.field;
            let rating = rate(&vm, &guest, lowering);
            let expected = Some((Severity::Fatal, Usage::InUse));
            assert_eq!(rating, expected, "{name}: {field}");
            reported.push(field);
        }
        let expected = by_cpu(&name, &REPORTED_BY_NEOVERSE_N1, &REPORTED_BY_MAX);
        assert_eq!(reported, expected, "{name}");
    }
}

const SEVERITIES_OF_NEOVERSE_N1: [&str; 13] = [
    "Atomic fatal",
    "TGran4 fatal",
    "TGran16 medium",
    "TGran64 medium",
    "ASIDBits fatal",
    "PARange fatal",
    "HAFDBS fatal",
    "PAN fatal",
    "HPDS medium",
    "UAO fatal",
    "EL0 fatal",
    "CSV2 high",
    "SSBS fatal",
];

const SEVERITIES_OF_MAX: [&str; 23] = [
    "Atomic fatal",
    "API fatal",
    "GPI fatal",
    "MOPS fatal",
    "TGran4 fatal",
    "TGran16 medium",
    "TGran64 medium",
    "ASIDBits fatal",
    "PARange fatal",
    "HAFDBS fatal",
    "PAN fatal",
    "HPDS medium",
    "VARange fatal",
    "UAO fatal",
    "E0PD fatal",
    "S1PIE fatal",
    "TCRX fatal",
    "EL0 fatal",
    "SVE fatal",
    "CSV2 high",
    "DIT fatal",
    "BT fatal",
    "SSBS fatal",
];

/// Linux has an ITS on both CPUs, and takes LPIs.
#[test]
fn linux_takes_lpis() {
    for (name, vm, _) in busy_guests() {
        assert_eq!(vm.source_hardware.uses_lpis, Some(true), "{name}");
    }
}

/// A guest uses the granule of its tables, and no other.
#[test]
fn only_the_granule_of_the_tables_is_in_use() {
    for (kib, granule) in [("16", "TGran16"), ("64", "TGran64")] {
        let name = format!("6.1.176__q10.0__neoverse-n1__granule-{kib}");
        let mut guests = all_guests().into_iter();
        let (_, vm, log) = guests.find(|(it, ..)| *it == name).expect("a guest");
        assert_eq!(log, format!("translation granule {kib} KiB\n"));
        let guest = GuestState::from_vm(&vm, |_, value| value);
        let granules = LOWERINGS.iter().filter(|it| it.field.starts_with("TGran"));
        let fatal = granules.filter(|lowering| {
            let (severity, _) = rate(&vm, &guest, lowering).expect("a granule that the CPU has");
            assert!(
                [Severity::Medium, Severity::Fatal].contains(&severity),
                "{name}"
            );
            severity == Severity::Fatal
        });
        let fatal: Vec<_> = fatal.map(|lowering| lowering.field).collect();
        assert_eq!(fatal, [granule], "{name}");
    }
}

/// Lists the severity of every rule for guests in use.
#[test]
fn rules_tell_used_and_unused_features_apart() {
    for (name, vm, _) in busy_guests() {
        let guest = GuestState::from_vm(&vm, |_, value| value);
        let rows = LOWERINGS.iter().filter_map(|lowering| {
            let (severity, _) = rate(&vm, &guest, lowering)?;
            Some(format!("{} {}", lowering.field, severity.name()))
        });
        let expected = by_cpu(&name, &SEVERITIES_OF_NEOVERSE_N1, &SEVERITIES_OF_MAX);
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{name}");
    }
}

/// Checks a guest in use with destinations that differ from its host in one field.
#[test]
fn destinations_without_a_used_feature_are_refused() {
    let guest = folder().join("7.3.4__q10.0__neoverse-n1__moved.stream.xz");
    let guest = guest.display().to_string();
    for (profile, alone, accepting) in [
        ("p-asid8", 1, 1),
        ("p-csv", 1, 1),
        ("p-dic1", 0, 0),
        ("p-el0", 1, 1),
        ("p-no32", 1, 1),
        ("p-no64k", 1, 0),
        ("p-nolse", 1, 1),
        ("p-pa", 1, 1),
    ] {
        let path = folder().join(format!("../../profiles-fatal/{profile}.json"));
        let path = path.display().to_string();
        for (consents, status) in [(&[][..], alone), (&["--accept", "medium"], accepting)] {
            let run = cpreg(&[&["check", &guest, &path], consents].concat());
            assert_eq!(run.status, Some(status), "{profile} {consents:?}: {run}");
        }
    }
}
