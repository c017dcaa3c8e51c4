//! [`FactProgram`]: a program that reads, as a guest, the properties of its host that no register
//! list holds.
//!
//! A prober loads the program into the memory of a VM that is thrown away, runs it on one vCPU, and
//! reads the results from the VM's memory. `data/fact-program.s` is the source. The program
//! accesses only the memory of [`FactProgram::MEMORY_LEN`] bytes at its address, system registers,
//! and GICD_IIDR.
//!
//! `cpreg-kvm` runs the program in a VM of its own, and `cpreg-qemu` in the user's QEMU.

use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFacts, PmuEvents, VectorLengths};

/// Assembled `data/fact-program.s`.
const CODE: &[u8] = include_bytes!("../data/fact-program.bin");
/// Offset of the address of the GIC's distributor.
const DISTRIBUTOR_OFFSET: usize = 8;

/// A program that reads the properties of its host, as bytes for the memory of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactProgram {
    code: Vec<u8>,
}

/// Properties that the program has read, and registers that identify the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactReadings {
    /// Properties of the host, as a guest sees them.
    pub facts: HardwareFacts,
    /// MIDR_EL1.
    pub midr: u64,
    /// REVIDR_EL1.
    pub revidr: u64,
    /// CTR_EL0.
    pub ctr: u64,
}

/// State of a program in a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramState {
    /// The program has not finished.
    Running,
    /// The program has finished.
    Done(FactReadings),
    /// The program reads nothing, because its vCPU does not run at EL1.
    OtherLevel,
}

/// Value of the first word of the results when all results are in memory.
const DONE: u64 = 1;
/// Value of that word if the vCPU does not run at EL1.
const OTHER_LEVEL: u64 = 3;
/// Status of a result whose register the guest could read.
const READ: u64 = 1;

impl FactProgram {
    /// Number of bytes of memory that the program needs. The address must be a multiple of 4 KiB.
    pub const MEMORY_LEN: usize = 8 << 10;
    /// Offset of the results in this memory.
    pub const RESULTS_OFFSET: usize = 4 << 10;
    /// Number of bytes of the results: the state, and a status and a value for each property.
    pub const RESULTS_LEN: usize = 8 + PROPERTY_COUNT * 16;

    /// Creates the program for a VM whose GICv3 has its distributor at this physical address.
    ///
    /// Without an address the program does not read GICD_IIDR.
    pub fn new(distributor: Option<u64>) -> Self {
        let mut code = CODE.to_vec();
        let place = code.get_mut(DISTRIBUTOR_OFFSET..DISTRIBUTOR_OFFSET + 8);
        if let (Some(place), Some(address)) = (place, distributor) {
            place.copy_from_slice(&address.to_le_bytes());
        }
        Self { code }
    }

    /// Returns the bytes of the program. The first instruction is at offset 0.
    pub fn code(&self) -> &[u8] {
        &self.code
    }
}

/// Number of properties that the program reads.
const PROPERTY_COUNT: usize = 12;

impl ProgramState {
    /// Returns the state of the program according to its results.
    pub fn from_results(results: &[u8]) -> Self {
        let mut words = results
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        match words.next() {
            Some(DONE) => {}
            Some(OTHER_LEVEL) => return Self::OtherLevel,
            _ => return Self::Running,
        }
        let mut properties = [None; PROPERTY_COUNT];
        for property in &mut properties {
            let (Some(status), Some(value)) = (words.next(), words.next()) else {
                return Self::Running;
            };
            *property = (status == READ).then_some(value);
        }
        Self::Done(FactReadings::new(properties))
    }
}

impl FactReadings {
    /// Creates the readings from the properties, in the program's order.
    fn new(properties: [Option<u64>; PROPERTY_COUNT]) -> Self {
        let [
            frequency,
            ctr,
            dczid,
            midr,
            revidr,
            // ID_AA64MMFR0_EL1 is in every register list.
            _,
            pmceid0,
            pmceid1,
            gmid,
            icc_ctlr,
            lengths,
            iidr,
        ] = properties;
        let number = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
        let lengths = lengths.and_then(|bits| u16::try_from(bits).ok());
        Self {
            facts: HardwareFacts {
                counter_frequency: number(frequency).filter(|frequency| *frequency != 0),
                vector_lengths: lengths
                    .filter(|bits| bits & 1 != 0)
                    .map(VectorLengths::from_bits),
                dczid,
                is_emulated: false,
                gic: icc_ctlr.map(|value| Gic::V3(GicLimits::from_icc_ctlr(value))),
                gmid,
                pmu_events: pmceid0
                    .zip(pmceid1)
                    .map(|(pmceid0, pmceid1)| PmuEvents { pmceid0, pmceid1 }),
                gicd_iidr: number(iidr),
                uses_lpis: None,
            },
            midr: midr.unwrap_or(0),
            revidr: revidr.unwrap_or(0),
            ctr: ctr.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns results with these statuses and values.
    fn results(state: u64, properties: &[(u64, u64)]) -> Vec<u8> {
        let pairs = properties
            .iter()
            .flat_map(|(status, value)| [*status, *value]);
        std::iter::once(state)
            .chain(pairs)
            .flat_map(u64::to_le_bytes)
            .collect()
    }

    #[test]
    fn the_code_fits_below_the_results() {
        let program = FactProgram::new(Some(0x0800_0000));
        assert!(program.code().len() <= FactProgram::RESULTS_OFFSET);
        assert_eq!(program.code()[8..16], 0x0800_0000_u64.to_le_bytes());
        // `b begin`, over the address.
        assert_eq!(program.code()[..4], 0x1400_0004_u32.to_le_bytes());
        assert_eq!(FactProgram::new(None).code()[8..16], [0; 8]);
    }

    #[test]
    fn undefined_reads_are_unknown_facts() {
        let mut properties = [(2, 0); PROPERTY_COUNT];
        let bytes = |properties: &[_]| ProgramState::from_results(&results(DONE, properties));
        let ProgramState::Done(readings) = bytes(&properties) else {
            panic!("not done");
        };
        assert_eq!(readings.facts, HardwareFacts::UNKNOWN);
        properties[0] = (1, 24_000_000);
        properties[3] = (1, 0x413f_d0c1);
        properties[6] = (1, 0x7fff);
        properties[8] = (1, 6);
        properties[11] = (1, 0x4b00_343b);
        let ProgramState::Done(readings) = bytes(&properties) else {
            panic!("not done");
        };
        assert_eq!(readings.midr, 0x413f_d0c1);
        assert_eq!(
            readings.facts,
            HardwareFacts {
                counter_frequency: Some(24_000_000),
                gmid: Some(6),
                gicd_iidr: Some(0x4b00_343b),
                ..HardwareFacts::UNKNOWN
            }
        );
    }

    #[test]
    fn unfinished_results_are_no_readings() {
        let all = [(1, 1); PROPERTY_COUNT];
        let state = |state, properties: &[_]| {
            let bytes = results(state, properties);
            ProgramState::from_results(&bytes)
        };
        assert_eq!(state(0, &all), ProgramState::Running);
        assert_eq!(state(DONE, &all[1..]), ProgramState::Running);
        assert_eq!(state(OTHER_LEVEL, &[]), ProgramState::OtherLevel);
        assert_eq!(ProgramState::from_results(&[1; 7]), ProgramState::Running);
        assert_eq!(results(DONE, &all).len(), FactProgram::RESULTS_LEN);
    }
}
