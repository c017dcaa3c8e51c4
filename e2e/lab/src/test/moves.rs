//! Tests of the example VMM: its guest makes live round trips between each two kernels, over TCP or
//! a serial line. A refusal must have the expected reasons and come before any change, and the
//! guest must then continue at the source.
//!
//! [`EXPECTED`] lists the expected outcomes. Any other outcome or reason is a failure.

use super::fixture::{Fixture, RESULTS};
use crate::evaluate::MoveOutcome;
use crate::host_pair::HostPair;
use crate::migrate::describe_attempt;
use crate::trips::{MoveAttempt, Trip, TripRunner};
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::kernels::Kernel;

/// Consents of successive attempts.
const CONSENTS: [Option<&str>; 2] = [None, Some("low")];

/// Expected outcome of a move from one kernel to another: the names of the registers that block it.
/// A list is empty if the guest moves.
struct Expected {
    cpu: &'static str,
    source: &'static str,
    destination: &'static str,
    /// Blockers without consent.
    blockers: &'static [&'static str],
    /// Blockers with `--accept low`, if the attempt without consent was refused.
    blockers_with_low: &'static [&'static str],
    /// Blockers on the way back, if the guest moved.
    return_blockers: &'static [&'static str],
}

/// Expectations by CPU model and kernels. The two kernels differ in these registers:
///
/// | | |
/// |---|---|
/// | PSCI_VERSION | 1.3 since v6.13 |
/// | CCSIDR_EL1, CLIDR_EL1 | synthesised since v6.3; earlier the machine's own, and fixed |
/// | other registers | features that only the newer kernel gives to guests (`max` has most) |
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
        blockers: &["FPMR", "ID_AA64MMFR1_EL1"],
        blockers_with_low: &[],
        return_blockers: &["FPMR", "ID_AA64MMFR1_EL1", "ID_AA64PFR2_EL1"],
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
        blockers: &["FPMR", "PIRE0_EL1", "PIR_EL1", "SCTLR2_EL1", "TCR2_EL1"],
        blockers_with_low: &[],
        return_blockers: &[
            "FPMR",
            "ID_AA64MMFR3_EL1",
            "ID_AA64PFR2_EL1",
            "SCTLR2_EL1",
            "TCR2_EL1",
        ],
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
        blockers: &["ID_AA64MMFR3_EL1", "SCTLR2_EL1"],
        // ATS1A, which 6.12 does not give to guests, keeps S1PIE.
        blockers_with_low: &[],
        return_blockers: &["ID_AA64ISAR2_EL1", "ID_AA64MMFR3_EL1", "SCTLR2_EL1"],
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

/// Boots two hosts, and tests the moves between them.
pub(crate) fn test(fixture: &Fixture<'_>, kernels: [&Kernel; 2], cpu: &Cpu) {
    let program = fixture.programs.join("cpreg-vmm");
    let pair = TripRunner {
        hosts: HostPair {
            lab: fixture.lab,
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
        has_return: true,
        vcpus: 1,
    });
    let directions = [kernels, [kernels[1], kernels[0]]];
    let name = |[from, to]: [&Kernel; 2]| format!("{} -> {} on {cpu}", from.version, to.version);
    match pair.run(&trips) {
        Ok(results) => {
            for (direction, attempts) in directions.into_iter().zip(results) {
                let outcome = attempts.and_then(|attempts| check(direction, cpu, &attempts));
                fixture.tally.count(&name(direction), outcome);
            }
        }
        Err(error) => {
            for direction in directions {
                fixture
                    .tally
                    .count(&name(direction), Err(error.to_string().into()));
            }
        }
    }
}

/// Checks the outcome of a trip.
fn check([from, to]: [&Kernel; 2], cpu: &Cpu, attempts: &[MoveAttempt]) -> Result<()> {
    let (from, to, cpu) = (&from.version, &to.version, cpu.to_string());
    let mut entries = EXPECTED.iter();
    let expected = entries.find(|expected| {
        (expected.cpu, expected.source, expected.destination) == (&*cpu, from, to)
    });
    let expected = expected.ok_or("EXPECTED has no entry for these hosts: add one")?;
    let found: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.outbound.blockers())
        .collect();
    let mut expected_blockers = vec![expected.blockers];
    if !expected.blockers.is_empty() {
        expected_blockers.push(expected.blockers_with_low);
    }
    let inbound = attempts.last().and_then(|attempt| attempt.inbound.as_ref());
    let return_blockers = inbound.map(MoveOutcome::blockers).unwrap_or_default();
    if found == expected_blockers && return_blockers == expected.return_blockers {
        return Ok(());
    }
    let descriptions: Vec<_> = attempts.iter().map(describe_attempt).collect();
    Err(format!(
        "  expected blockers, without consent and with --accept low: {expected_blockers:?}, \
         and on the way back {:?}\n  found:\n    {}",
        expected.return_blockers,
        descriptions.join("\n    ")
    )
    .into())
}
