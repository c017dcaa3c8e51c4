//! [`GuestState`]: model of everything that the guest sees of its machine.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::CheckName;

/// A 64-bit value, `"0x10003"` in JSON.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Hexadecimal(pub u64);

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl From<Hexadecimal> for String {
    fn from(value: Hexadecimal) -> Self {
        value.to_string()
    }
}

impl TryFrom<String> for Hexadecimal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix("0x");
        let value = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        value
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no hexadecimal number"))
    }
}

/// Everything that a program sees of the guest's machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuestState {
    /// Linux's identifier of the boot.
    pub boot_id: String,
    /// Release of the guest's kernel.
    pub kernel_release: String,
    /// Counter (CNTVCT_EL0) at the end of the observation.
    pub counter: Hexadecimal,
    /// CPUs of the program, with the registers that it reads there.
    pub cpus: Vec<CpuState>,
    /// Frequency with which the kernel computes time from the counter; null if not measured.
    pub kernel_frequency: Option<FrequencyMeasurement>,
    /// Rate of the kernel's clock against the real-time clock; null if not measured.
    pub clock_rate: Option<RateMeasurement>,
    /// Order of counter values that several CPUs read one after the other.
    pub counter_order: CounterOrder,
    /// Number of bytes that one `DC ZVA` cleared; null if the instruction is prohibited.
    pub zva_bytes: Option<u32>,
    /// SVE vector lengths that the kernel offers; empty without SVE.
    pub vector_lengths: Vec<VectorLength>,
    /// AT_HWCAP.
    pub hwcap: Hexadecimal,
    /// AT_HWCAP2.
    pub hwcap2: Hexadecimal,
    /// ID registers as the kernel emulates reads of them; empty without HWCAP_CPUID.
    pub id_registers: BTreeMap<String, Hexadecimal>,
    /// Instructions that HWCAP states and that cpreg executed.
    pub features: Vec<FeatureState>,
    /// Execution of patched code; null if not observed.
    pub code: Option<CodeState>,
    /// Subjects that were not observed.
    pub unobserved: Vec<Unobserved>,
}

/// Registers that a program pinned to a CPU reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CpuState {
    /// Number of the CPU.
    pub cpu: u32,
    /// CNTFRQ_EL0 in hertz.
    pub counter_frequency: u64,
    /// CTR_EL0.
    pub ctr: Hexadecimal,
    /// DCZID_EL0.
    pub dczid: Hexadecimal,
    /// MIDR_EL1 that the CPU reads now; null without HWCAP_CPUID.
    pub midr: Option<Hexadecimal>,
    /// MIDR_EL1 that the kernel read when the CPU came online; null if sysfs lacks it.
    pub kernel_midr: Option<Hexadecimal>,
    /// REVIDR_EL1 that the kernel read when the CPU came online; null if sysfs lacks it.
    pub kernel_revidr: Option<Hexadecimal>,
}

/// A measured frequency with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FrequencyMeasurement {
    /// Frequency in hertz.
    pub hertz: u64,
    /// Uncertainty in hertz: the frequency is in the range `hertz` ± `uncertainty`.
    pub uncertainty: u64,
}

/// Ratio of two clocks with its uncertainty, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RateMeasurement {
    /// Time of the kernel's clock for a second of the real-time clock, in microseconds.
    pub millionths: u64,
    /// Uncertainty in microseconds.
    pub uncertainty: u64,
}

/// Order of counter values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CounterOrder {
    /// Number of pairs of values that were compared.
    pub compared: u64,
    /// Number of values that were lower than the value read before.
    pub backward: u64,
    /// Greatest difference by which a value was lower.
    pub max_backward_ticks: u64,
}

/// A vector length that the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VectorLength {
    /// Length in bytes that the kernel states (`PR_SVE_SET_VL`).
    pub kernel: u32,
    /// Length in bytes that `RDVL` states with that setting.
    pub rdvl: u32,
    /// Number of bytes that a store of a vector wrote with that setting.
    pub stored: u32,
    /// Signal that ended the process with that setting; null if none did.
    pub signal: Option<i32>,
}

/// Execution of an instruction that HWCAP states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureState {
    /// Linux's name of the HWCAP bit, in lower case: `atomics`.
    pub name: String,
    /// `true` if the CPU executed the instruction.
    #[serde(rename = "executed")]
    pub is_executed: bool,
}

/// Execution of patched code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CodeState {
    /// Patches with the cache maintenance that CTR_EL0 requires.
    pub maintained: StaleCount,
    /// New pages that were written, and made executable by `mprotect`.
    pub protected: StaleCount,
    /// Patches without cache maintenance. Old code is no error here: it shows that the hardware
    /// needs maintenance.
    pub unmaintained: StaleCount,
    /// Signal that ended the execution; null if none did.
    pub signal: Option<i32>,
}

/// Number of rounds of patching, and of executions of old code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StaleCount {
    /// Number of rounds.
    pub rounds: u64,
    /// Number of rounds that executed old code.
    pub stale: u64,
}

/// A subject that was not observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unobserved {
    /// Check that lacks the observation.
    pub check: CheckName,
    /// `true` if the guest lacks the subject; `false` if the observation failed.
    #[serde(rename = "absent")]
    pub is_absent: bool,
    /// Reason, in words.
    pub reason: String,
}

/// Observations during a move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchState {
    /// Number of samples.
    pub samples: u64,
    /// Duration by the guest's clock, in milliseconds.
    pub milliseconds: u64,
    /// Greatest time between two samples by the guest's clock, in milliseconds. The guest's clock
    /// stops while the guest is stopped.
    pub max_gap_milliseconds: u64,
    /// Order of the counter values of all samples.
    pub counter_order: CounterOrder,
    /// Number of samples in which a pointer had another signature; null without pointer
    /// authentication.
    pub changed_signatures: Option<u64>,
    /// Registers that changed during the watch, the first changes only.
    pub changes: Vec<RegisterChange>,
}

/// A register that changed between two samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegisterChange {
    /// Check that the change concerns.
    pub check: CheckName,
    /// Name of the register.
    pub register: String,
    /// Number of the sample with the new value.
    pub sample: u64,
    /// CPU that read the new value.
    pub cpu: u32,
    /// Value of the first sample.
    pub before: Hexadecimal,
    /// Value of this sample.
    pub after: Hexadecimal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_values_round_trip() {
        let parse = |text: &str| Hexadecimal::try_from(text.to_owned());
        assert_eq!(parse("0x8444c004"), Ok(Hexadecimal(0x8444_c004)));
        assert_eq!(Hexadecimal(u64::MAX).to_string(), "0xffffffffffffffff");
        for text in ["8444", "0x", "0x1ffffffffffffffff", "-0x1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
