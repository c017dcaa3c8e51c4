//! [`HardwareJson`]: hardware facts in JSON documents.

use cpreg::hardware::{HardwareFacts, VectorLengths};
use cpreg::register::parse_hexadecimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{DocumentKind, Error};

/// Properties of a host that its guests see and that no register list holds.
///
/// A fact that is not known is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HardwareJson {
    /// Frequency of the system counter (`CNTFRQ_EL0`) in hertz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counter_frequency_hz: Option<u64>,
    /// SVE vector lengths of a guest with SVE, `"0x…"`. Bit `n` stands for `(n + 1) * 128` bits, as
    /// in `KVM_REG_ARM64_SVE_VLS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector_lengths: Option<String>,
    /// `DCZID_EL0`, the block size of `DC ZVA`, `"0x…"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dczid: Option<String>,
}

/// Bits of DCZID_EL0 that the architecture defines: DZP and BS.
const DCZID_BITS: u64 = 0x1f;

impl HardwareJson {
    /// Returns the members for these facts.
    pub fn from_facts(facts: HardwareFacts) -> Self {
        Self {
            counter_frequency_hz: facts.counter_frequency.map(u64::from),
            vector_lengths: facts
                .vector_lengths
                .map(|lengths| format!("{:#x}", lengths.bits())),
            dczid: facts.dczid.map(|dczid| format!("{dczid:#x}")),
        }
    }

    /// Returns the facts.
    ///
    /// # Errors
    /// Returns an error that names the member if a frequency is 0 or has more than 32 bits, if
    /// vector lengths lack the one of 128 bits or exceed 2048 bits, or if DCZID_EL0 has undefined
    /// bits.
    pub(crate) fn to_facts(&self, document: DocumentKind) -> Result<HardwareFacts, Error> {
        let frequency = self.counter_frequency_hz.map(|frequency| {
            let valid = u32::try_from(frequency).ok();
            let valid = valid.filter(|frequency| *frequency != 0);
            let path = "hardware.counter_frequency_hz";
            valid.ok_or_else(|| document.member_error(path, &frequency.to_string()))
        });
        let lengths = self.vector_lengths.as_ref().map(|text| {
            let bits = parse_hexadecimal(text);
            let bits = bits.and_then(|bits| u16::try_from(bits).ok());
            let bits = bits.filter(|bits| bits & 1 == 1);
            bits.map(VectorLengths::from_bits)
                .ok_or_else(|| document.member_error("hardware.vector_lengths", text))
        });
        let dczid = self.dczid.as_ref().map(|text| {
            let value = parse_hexadecimal(text).filter(|value| value & !DCZID_BITS == 0);
            value.ok_or_else(|| document.member_error("hardware.dczid", text))
        });
        Ok(HardwareFacts {
            counter_frequency: frequency.transpose()?,
            vector_lengths: lengths.transpose()?,
            dczid: dczid.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: DocumentKind = DocumentKind {
        name: "profile",
        schema: "",
        version_hint: "",
    };

    #[test]
    fn facts_round_trip() {
        let facts = HardwareFacts {
            counter_frequency: Some(121_875_000),
            vector_lengths: Some(VectorLengths::from_bits(3)),
            dczid: Some(4),
        };
        for facts in [facts, HardwareFacts::UNKNOWN] {
            let json = HardwareJson::from_facts(facts);
            assert_eq!(json.to_facts(DOCUMENT).expect("facts"), facts);
        }
    }

    #[test]
    fn absurd_facts_are_errors_with_the_member() {
        for (member, value) in [
            ("counter_frequency_hz", "0"),
            ("counter_frequency_hz", "4294967296"),
            ("vector_lengths", "\"0x0\""),
            ("vector_lengths", "\"0x2\""),
            ("vector_lengths", "\"0x10001\""),
            ("vector_lengths", "\"128\""),
            ("dczid", "\"0x20\""),
        ] {
            let json = format!("{{\"{member}\": {value}}}");
            let json: HardwareJson = serde_json::from_str(&json).expect("JSON");
            let error = json.to_facts(DOCUMENT).expect_err("absurd");
            let text = value.trim_matches('"');
            assert_eq!(
                error.to_string(),
                format!("profile: hardware.{member}: invalid value `{text}`")
            );
        }
    }
}
