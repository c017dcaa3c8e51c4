//! The example VMM's guest moves there and back between each two kernels, live, over TCP or a serial line; where it is refused, that is for the reasons which are
//! expected, before anything is touched, and it goes on where it is.
//!
//! What is expected stands in [`EXPECTED`]. A move that suddenly is refused, or is not, or for another reason, is a failure.

use super::fixture::{Fixture, RESULTS};
use crate::evaluate::MoveOutcome;
use crate::host_pair::HostPair;
use crate::migrate::describe_attempt;
use crate::trips::{MoveAttempt, Trip, TripRunner};
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// What is consented to, one after another while it is refused.
const CONSENTS: [Option<&str>; 2] = [None, Some("low")];

/// What stands in the way of a guest from one kernel on another, by name; nothing if it moves.
struct Expected {
    cpu: &'static str,
    source: &'static str,
    destination: &'static str,
    /// As it is.
    blockers: &'static [&'static str],
    /// With `--accept low`, if it was refused as it is.
    blockers_with_low: &'static [&'static str],
    /// On the way back, if it moved.
    return_blockers: &'static [&'static str],
}

/// Of each CPU model, from each kernel to each other. What the two ends disagree on:
///
/// | | |
/// |---|---|
/// | PSCI_VERSION | 1.3 since v6.13 |
/// | CCSIDR_EL1, CLIDR_EL1 | caches are made up by KVM since v6.3; before, they are the machine's and cannot be changed |
/// | the rest | features that the newer kernel gives to guests, and the older does not know (`max` has nearly all that there are) |
const EXPECTED: [Expected; 12] = [
    Expected {
        cpu: "neoverse-n1",
        source: "6.1.176",
        destination: "6.12.107",
        blockers: &[],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "neoverse-n1",
        source: "6.12.107",
        destination: "6.1.176",
        blockers: &[
            "CCSIDR_EL1[0]",
            "CCSIDR_EL1[1]",
            "CCSIDR_EL1[2]",
            "CLIDR_EL1",
            "ID_AA64DFR0_EL1",
        ],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "neoverse-n1",
        source: "6.1.176",
        destination: "7.3.4",
        blockers: &[],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "neoverse-n1",
        source: "7.3.4",
        destination: "6.1.176",
        blockers: &[
            "CCSIDR_EL1[0]",
            "CCSIDR_EL1[1]",
            "CCSIDR_EL1[2]",
            "CLIDR_EL1",
            "ID_AA64DFR0_EL1",
            "PSCI_VERSION",
        ],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "neoverse-n1",
        source: "6.12.107",
        destination: "7.3.4",
        blockers: &[],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "neoverse-n1",
        source: "7.3.4",
        destination: "6.12.107",
        blockers: &["PSCI_VERSION"],
        blockers_with_low: &[],
        return_blockers: &[],
    },
    Expected {
        cpu: "max",
        source: "6.1.176",
        destination: "6.12.107",
        blockers: &[
            "FPMR",
            "ID_AA64MMFR1_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "TCR2_EL1",
        ],
        blockers_with_low: &[],
        return_blockers: &[
            "FPMR",
            "ID_AA64MMFR1_EL1",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "TCR2_EL1",
        ],
    },
    Expected {
        cpu: "max",
        source: "6.12.107",
        destination: "6.1.176",
        blockers: &[
            "CCSIDR_EL1[0]",
            "CCSIDR_EL1[1]",
            "CCSIDR_EL1[2]",
            "CCSIDR_EL1[4]",
            "CLIDR_EL1",
            "FPMR",
            "ID_AA64DFR0_EL1",
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR1_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64MMFR1_EL1",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "ID_AA64ZFR0_EL1",
            "ID_DFR0_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "TCR2_EL1",
        ],
        blockers_with_low: &[
            "FPMR",
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR1_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64MMFR1_EL1",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "ID_AA64ZFR0_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "TCR2_EL1",
        ],
        return_blockers: &[],
    },
    Expected {
        cpu: "max",
        source: "6.1.176",
        destination: "7.3.4",
        blockers: &[
            "FPMR",
            "ID_AA64MMFR2_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "SCTLR2_EL1",
            "TCR2_EL1",
        ],
        blockers_with_low: &["ID_AA64MMFR2_EL1"],
        return_blockers: &[],
    },
    Expected {
        cpu: "max",
        source: "7.3.4",
        destination: "6.1.176",
        blockers: &[
            "CCSIDR_EL1[0]",
            "CCSIDR_EL1[1]",
            "CCSIDR_EL1[2]",
            "CCSIDR_EL1[4]",
            "CLIDR_EL1",
            "FPMR",
            "ID_AA64DFR0_EL1",
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR1_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64ISAR3_EL1",
            "ID_AA64MMFR1_EL1",
            "ID_AA64MMFR2_EL1",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "ID_AA64ZFR0_EL1",
            "ID_DFR0_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "PSCI_VERSION",
            "SCTLR2_EL1",
            "TCR2_EL1",
        ],
        blockers_with_low: &[
            "FPMR",
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR1_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64ISAR3_EL1",
            "ID_AA64MMFR1_EL1",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "ID_AA64ZFR0_EL1",
            "PIRE0_EL1",
            "PIR_EL1",
            "SCTLR2_EL1",
            "TCR2_EL1",
        ],
        return_blockers: &[],
    },
    Expected {
        cpu: "max",
        source: "6.12.107",
        destination: "7.3.4",
        blockers: &["ID_AA64MMFR2_EL1", "SCTLR2_EL1"],
        blockers_with_low: &["ID_AA64MMFR2_EL1"],
        return_blockers: &[],
    },
    Expected {
        cpu: "max",
        source: "7.3.4",
        destination: "6.12.107",
        blockers: &[
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64ISAR3_EL1",
            "ID_AA64MMFR2_EL1",
            "ID_AA64MMFR3_EL1",
            "PSCI_VERSION",
            "SCTLR2_EL1",
        ],
        blockers_with_low: &[
            "ID_AA64FPFR0_EL1",
            "ID_AA64ISAR2_EL1",
            "ID_AA64ISAR3_EL1",
            "ID_AA64MMFR3_EL1",
            "SCTLR2_EL1",
        ],
        return_blockers: &[],
    },
];

/// Boots two hosts, and tests what moves between them.
pub(crate) fn test(bench: &Fixture<'_>, kernels: [&Kernel; 2], cpu: &Cpu) {
    let program = bench.programs.join("cpreg-vmm");
    let pair = TripRunner {
        hosts: HostPair {
            lab: bench.lab,
            cpu,
            kernels,
            serial: HostPair::needs_serial(kernels),
            results: RESULTS,
        },
        program: &program,
    };
    let trips = [0, 1].map(|from| Trip {
        source_host: from,
        consents: CONSENTS.to_vec(),
        is_round_trip: true,
        vcpus: 1,
    });
    let ways = [kernels, [kernels[1], kernels[0]]];
    let name = |[from, to]: [&Kernel; 2]| format!("{} -> {} on {cpu}", from.version, to.version);
    match pair.run(&trips) {
        Ok(results) => {
            for (way, tries) in ways.into_iter().zip(results) {
                let outcome = tries.and_then(|tries| check(way, cpu, &tries));
                bench.tally.count(&name(way), outcome);
            }
        }
        Err(error) => {
            for way in ways {
                bench.tally.count(&name(way), Err(error.to_string().into()));
            }
        }
    }
}

/// Whether a trip went as expected.
fn check([from, to]: [&Kernel; 2], cpu: &Cpu, tries: &[MoveAttempt]) -> Result<()> {
    let (from, to, cpu) = (&from.version, &to.version, cpu.to_string());
    let mut all = EXPECTED.iter();
    let expected = all.find(|it| (it.cpu, it.source, it.destination) == (&*cpu, from, to));
    let expected = expected.ok_or("nothing is expected of it: add it to EXPECTED")?;
    let found: Vec<_> = tries
        .iter()
        .map(|tried| tried.outbound.blockers())
        .collect();
    let mut wanted = vec![expected.blockers];
    if !expected.blockers.is_empty() {
        wanted.push(expected.blockers_with_low);
    }
    let back = tries.last().and_then(|tried| tried.inbound.as_ref());
    let back = back.map(MoveOutcome::blockers).unwrap_or_default();
    if found == wanted && back == expected.return_blockers {
        return Ok(());
    }
    let told: Vec<_> = tries.iter().map(describe_attempt).collect();
    Err(format!(
        "  expected to be in the way, as it is and with --accept low: {wanted:?}, and back \
         {:?}\n  found:\n    {}",
        expected.return_blockers,
        told.join("\n    ")
    )
    .into())
}
