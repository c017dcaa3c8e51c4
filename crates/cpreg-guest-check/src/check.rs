//! Model of a check's result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of a check.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(with = "String")]
pub enum CheckName {
    /// The record is of the same boot.
    Boot,
    /// The counter's frequency is the one with which the kernel computes time.
    CounterFrequency,
    /// The kernel's clock and the real-time clock have the same rate.
    ClockRate,
    /// The counter never goes backwards, on all CPUs.
    CounterOrder,
    /// `DC ZVA` clears the block that DCZID_EL0 states.
    ZvaBlock,
    /// The CPU has the SVE vector lengths that the kernel found at boot.
    VectorLengths,
    /// Patched code is executed, not the code before it.
    CodeCoherence,
    /// CTR_EL0 is unchanged, and the same on all CPUs.
    CacheType,
    /// The CPU executes the instructions that HWCAP states.
    Features,
    /// ID registers and HWCAP state the same.
    IdRegisters,
    /// MIDR_EL1 is the one that the kernel read at boot, and the kernel's REVIDR_EL1 that of the
    /// record.
    CpuIdentity,
    /// Pointers have the signatures that they had before the move.
    PointerSignatures,
}

impl CheckName {
    /// Returns the name in reports: `counter-frequency`.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::CounterFrequency => "counter-frequency",
            Self::ClockRate => "clock-rate",
            Self::CounterOrder => "counter-order",
            Self::ZvaBlock => "zva-block",
            Self::VectorLengths => "vector-lengths",
            Self::CodeCoherence => "code-coherence",
            Self::CacheType => "cache-type",
            Self::Features => "features",
            Self::IdRegisters => "id-registers",
            Self::CpuIdentity => "cpu-identity",
            Self::PointerSignatures => "pointer-signatures",
        }
    }
}

/// Result of a check, or of all checks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(with = "String")]
pub enum CheckResult {
    /// The guest lacks the subject of the check.
    Absent,
    /// No difference was found.
    Unchanged,
    /// The check was not possible.
    Unknown,
    /// A difference was found.
    Found,
}

impl CheckResult {
    /// Returns the result of all checks: the most serious one.
    pub fn of_all(checks: &[Check]) -> Self {
        let results = checks.iter().map(|check| check.result);
        results.max().unwrap_or(Self::Absent).max(Self::Unchanged)
    }

    /// Returns the exit status of the program.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Absent | Self::Unchanged => 0,
            Self::Found => 1,
            Self::Unknown => 3,
        }
    }

    /// Returns the word in a report.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Unchanged => "unchanged",
            Self::Unknown => "unknown",
            Self::Found => "found",
        }
    }
}

/// A check with its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Name of the check.
    pub name: CheckName,
    /// `"unchanged"`, `"found"`, `"unknown"`, or `"absent"` if the guest lacks the subject.
    pub result: CheckResult,
    /// Reason of the result, in words: the values, and the effect of a difference.
    pub reason: String,
}

impl Check {
    /// Returns a check with its result and reason.
    pub fn new(name: CheckName, result: CheckResult, reason: impl Into<String>) -> Self {
        Self {
            name,
            result,
            reason: reason.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_more_serious_than_a_missing_observation() {
        let of = |results: &[CheckResult]| {
            let check = |result: &CheckResult| Check::new(CheckName::Boot, *result, "");
            CheckResult::of_all(&results.iter().map(check).collect::<Vec<_>>()).exit_status()
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[CheckResult::Absent, CheckResult::Unchanged]), 0);
        assert_eq!(of(&[CheckResult::Unknown, CheckResult::Unchanged]), 3);
        assert_eq!(of(&[CheckResult::Unknown, CheckResult::Found]), 1);
    }

    #[test]
    fn names_are_the_same_in_text_and_json() {
        for name in [
            CheckName::Boot,
            CheckName::ZvaBlock,
            CheckName::PointerSignatures,
        ] {
            let json = serde_json::to_string(&name).expect("JSON");
            assert_eq!(json, format!("\"{}\"", name.text()));
        }
        for result in [
            CheckResult::Absent,
            CheckResult::Unchanged,
            CheckResult::Unknown,
            CheckResult::Found,
        ] {
            let json = serde_json::to_string(&result).expect("JSON");
            assert_eq!(json, format!("\"{}\"", result.text()));
        }
    }
}
