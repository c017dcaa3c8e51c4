//! [`ReportDevice`]: the device to which the guest reports.
//!
//! The device has no state to migrate, because the guest reports everything again.
//!
//! | offset | value that the guest writes, 64 bits |
//! |---|---|
//! | 0x00 | number of rounds |
//! | 0x08, 0x10 | number of interrupts of CNTV, and of CNTP |
//! | 0x18 | address of the name of the register or event that the next three values describe |
//! | 0x20, 0x28 | expected value, and found value |
//! | 0x30 | meaning: 1 broken, 2 noticed, 3 an exception (ESR_EL1, ELR_EL1) |

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Guest physical address of the device, which occupies one page.
pub const REPORT_BASE: u64 = 0x0900_0000;
/// Size of the device.
pub const REPORT_SIZE: u64 = 0x1000;

/// Progress of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of rounds.
    pub rounds: u64,
    /// Number of interrupts of the virtual timer.
    pub virtual_ticks: u64,
    /// Number of interrupts of the physical timer.
    pub physical_ticks: u64,
}

/// A difference or exception that a vCPU reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number of the vCPU.
    pub vcpu: usize,
    /// `true` if the guest lost something.
    pub is_broken: bool,
    /// Name of the register or event.
    pub name: String,
    /// Expected value, or ESR_EL1 of an exception.
    pub expected: u64,
    /// Found value, or ELR_EL1 of an exception.
    pub found: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            name,
            expected,
            found,
            ..
        } = self;
        if name == "exception" {
            write!(
                f,
                "vCPU {vcpu}: an exception, ESR_EL1 {expected:#x} at {found:#x}"
            )
        } else if self.is_broken {
            write!(
                f,
                "vCPU {vcpu}: {name} should be {expected:#x} and is {found:#x}"
            )
        } else {
            write!(
                f,
                "vCPU {vcpu} notices: {name} was {expected:#x}, is {found:#x}"
            )
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Registers {
    progress: Progress,
    name: u64,
    expected: u64,
    found: u64,
}

#[derive(Debug, Default)]
struct State {
    vcpus: Vec<Registers>,
    findings: Vec<Finding>,
}

/// Maximum number of findings kept. The guest may report without limit.
const MAX_FINDINGS: usize = 1024;

/// Device to which vCPU threads write.
#[derive(Debug)]
pub struct ReportDevice(Mutex<State>);

impl ReportDevice {
    /// Creates the device of a VM with `vcpus` vCPUs.
    pub fn new(vcpus: usize) -> Self {
        Self(Mutex::new(State {
            vcpus: vec![Registers::default(); vcpus],
            findings: Vec::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles a write of a vCPU. `name` reads a name from the guest's memory.
    pub fn write(
        &self,
        vcpu: usize,
        offset: u64,
        value: u64,
        name: impl FnOnce(u64) -> Option<String>,
    ) {
        let state = &mut *self.state();
        let Some(registers) = state.vcpus.get_mut(vcpu) else {
            return;
        };
        match offset {
            0x00 => registers.progress.rounds = value,
            0x08 => registers.progress.virtual_ticks = value,
            0x10 => registers.progress.physical_ticks = value,
            0x18 => registers.name = value,
            0x20 => registers.expected = value,
            0x28 => registers.found = value,
            0x30 if state.findings.len() < MAX_FINDINGS => {
                let name = name(registers.name);
                state.findings.push(Finding {
                    vcpu,
                    is_broken: value != 2,
                    name: name.unwrap_or_else(|| format!("{:#x}", registers.name)),
                    expected: registers.expected,
                    found: registers.found,
                });
            }
            _ => {}
        }
    }

    /// Returns the progress of each vCPU.
    pub fn progress(&self) -> Vec<Progress> {
        let state = self.state();
        state.vcpus.iter().map(|vcpu| vcpu.progress).collect()
    }

    /// Returns the findings since the last call.
    pub fn take_findings(&self) -> Vec<Finding> {
        std::mem::take(&mut self.state().findings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_and_progress_are_recorded() {
        let report = ReportDevice::new(2);
        report.write(1, 0x08, 7, |_| None);
        report.write(1, 0x18, 0x1000, |_| None);
        report.write(1, 0x20, 1, |_| None);
        report.write(1, 0x28, 2, |_| None);
        report.write(1, 0x30, 1, |address| {
            (address == 0x1000).then(|| "TPIDR_EL1".to_owned())
        });
        report.write(9, 0x30, 1, |_| None);
        assert_eq!(report.progress()[1].virtual_ticks, 7);
        let findings = report.take_findings();
        assert_eq!(findings.len(), 1);
        assert_eq!(
            findings[0].to_string(),
            "vCPU 1: TPIDR_EL1 should be 0x1 and is 0x2"
        );
        assert!(report.take_findings().is_empty());
    }

    #[test]
    fn number_of_findings_is_limited() {
        let report = ReportDevice::new(1);
        for _ in 0..2 * MAX_FINDINGS {
            report.write(0, 0x30, 2, |_| None);
        }
        assert_eq!(report.take_findings().len(), MAX_FINDINGS);
    }
}
