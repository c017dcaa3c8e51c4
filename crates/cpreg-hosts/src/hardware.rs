//! [`HardwareJson`]: the member `hardware` of profiles and recorded hosts.

use std::ops::RangeInclusive;

use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFact, HardwareFacts, PmuEvents, VectorLengths};
use cpreg::register::{Value, parse_hexadecimal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// Properties of the host that guests see and that no register list holds. A member that is absent
/// is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HardwareJson {
    /// Frequency of the system counter (CNTFRQ_EL0) in hertz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    counter_frequency_hz: Option<u64>,
    /// SVE vector lengths of guests with SVE, as in KVM_REG_ARM64_SVE_VLS: bit n stands for
    /// (n + 1) * 128 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector_lengths: Option<String>,
    /// DCZID_EL0, with the block size of `DC ZVA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dczid: Option<String>,
    /// Fixed fields of ICC_CTLR_EL1 of a GICv3: PRIbits, IDbits, SEIS and A3V. `none` for a VM with
    /// another interrupt controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icc_ctlr_el1: Option<String>,
    /// GMID_EL1 of a guest with MTE: bits 3:0 are the binary logarithm of the number of 4-byte
    /// words whose tags LDGM and STGM access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gmid_el1: Option<String>,
    /// PMCEID0_EL0 and PMCEID1_EL0 of a guest with a PMU: the common events that it can count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pmceid_el0: Option<[String; 2]>,
    /// GICD_IIDR of the GICv3: implementer, and revision in bits 15:12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gicd_iidr: Option<String>,
}

/// Bits of DCZID_EL0: block size (BS) and DZP.
const DCZID_MASK: u64 = 0x1f;
/// Value of `icc_ctlr_el1` for an interrupt controller that is no GICv3.
const NO_GICV3: &str = "none";
/// Maximum of DCZID_EL0.BS, 2048 bytes.
const MAX_BLOCK_SIZE: u64 = 9;
/// Possible values of GMID_EL1: blocks of 16 to 256 bytes.
const TAG_BLOCKS: RangeInclusive<u64> = 2..=6;

impl HardwareJson {
    /// Returns the member for these facts, or `None` if no fact is known.
    pub fn from_facts(facts: HardwareFacts) -> Option<Self> {
        (facts != HardwareFacts::UNKNOWN).then(|| Self {
            counter_frequency_hz: facts.counter_frequency.map(u64::from),
            vector_lengths: facts
                .vector_lengths
                .map(|lengths| format!("{:#x}", lengths.bits())),
            dczid: facts.dczid.map(|dczid| format!("{dczid:#x}")),
            icc_ctlr_el1: facts.gic.map(|gic| match gic {
                Gic::V3(limits) => format!("{:#x}", limits.bits()),
                Gic::Other => NO_GICV3.to_owned(),
            }),
            gmid_el1: facts.gmid.map(|gmid| format!("{gmid:#x}")),
            pmceid_el0: facts
                .pmu_events
                .map(|events| [events.pmceid0, events.pmceid1].map(|it| format!("{it:#x}"))),
            gicd_iidr: facts.gicd_iidr.map(|iidr| format!("{iidr:#x}")),
        })
    }

    /// Returns the facts. `document` names the kind of document for errors.
    ///
    /// # Errors
    /// Returns an error if a fact has a value that no CPU has.
    pub fn to_facts(&self, document: &str) -> Result<HardwareFacts, Error> {
        let counter_frequency = self.counter_frequency_hz.map(|frequency| {
            u32::try_from(frequency)
                .ok()
                .filter(|frequency| *frequency != 0)
                .ok_or_else(|| {
                    impossible_value(
                        document,
                        member_path(HardwareFact::CounterFrequency),
                        &frequency.to_string(),
                        "a counter has 1 to 4294967295 Hz",
                    )
                })
        });
        let vector_lengths = self.vector_lengths.as_ref().map(|text| {
            let value = parse_hexadecimal(text).map(Value::U64);
            let lengths = value.as_ref().and_then(VectorLengths::from_value);
            lengths.ok_or_else(|| {
                impossible_value(
                    document,
                    member_path(HardwareFact::VectorLengths),
                    text,
                    "a set of vector lengths has 16 bits, 0x1 to 0xffff, and bit 0 is set",
                )
            })
        });
        let dczid = self.dczid.as_ref().map(|text| {
            let dczid = parse_hexadecimal(text);
            dczid
                .filter(|dczid| dczid & !DCZID_MASK == 0 && dczid & 0xf <= MAX_BLOCK_SIZE)
                .ok_or_else(|| {
                    impossible_value(
                        document,
                        member_path(HardwareFact::ZeroingBlock),
                        text,
                        "DCZID_EL0 has a block size of 0 to 9 in bits 3:0, and DZP in bit 4",
                    )
                })
        });
        let gic = self.icc_ctlr_el1.as_ref().map(|text| {
            parse_gic(text).ok_or_else(|| {
                impossible_value(
                    document,
                    member_path(HardwareFact::GicLimits),
                    text,
                    "ICC_CTLR_EL1 has PRIbits of 3 to 7 in bits 10:8, IDbits of 0 or 1 in bits \
                     13:11, SEIS in bit 14, and A3V in bit 15; `none` stands for no GICv3",
                )
            })
        });
        let gmid = self.gmid_el1.as_ref().map(|text| {
            let gmid = parse_hexadecimal(text);
            gmid.filter(|gmid| TAG_BLOCKS.contains(gmid))
                .ok_or_else(|| {
                    impossible_value(
                        document,
                        member_path(HardwareFact::TagBlock),
                        text,
                        "GMID_EL1 has a block size of 2 to 6 in bits 3:0",
                    )
                })
        });
        let pmu_events = self.pmceid_el0.as_ref().map(|[pmceid0, pmceid1]| {
            let parse = |text: &String| {
                parse_hexadecimal(text).ok_or_else(|| {
                    let path = member_path(HardwareFact::PmuEvents0);
                    impossible_value(document, path, text, "PMCEID0_EL0 has 64 bits, 0x…")
                })
            };
            let (pmceid0, pmceid1) = (parse(pmceid0)?, parse(pmceid1)?);
            Ok(PmuEvents { pmceid0, pmceid1 })
        });
        let gicd_iidr = self.gicd_iidr.as_ref().map(|text| {
            let iidr = parse_hexadecimal(text).and_then(|iidr| u32::try_from(iidr).ok());
            iidr.ok_or_else(|| {
                let path = member_path(HardwareFact::GicRevision);
                impossible_value(document, path, text, "GICD_IIDR has 32 bits, 0x…")
            })
        });
        Ok(HardwareFacts {
            counter_frequency: counter_frequency.transpose()?,
            vector_lengths: vector_lengths.transpose()?,
            dczid: dczid.transpose()?,
            is_emulated: false,
            gic: gic.transpose()?,
            gmid: gmid.transpose()?,
            pmu_events: pmu_events.transpose()?,
            gicd_iidr: gicd_iidr.transpose()?,
            uses_lpis: None,
        })
    }
}

/// Returns the interrupt controller in the member `icc_ctlr_el1`.
fn parse_gic(text: &str) -> Option<Gic> {
    if text == NO_GICV3 {
        return Some(Gic::Other);
    }
    let value = parse_hexadecimal(text)?;
    let limits = GicLimits::from_icc_ctlr(value);
    (limits.bits() == value && limits.is_possible()).then_some(Gic::V3(limits))
}

/// Returns the error for a value that no CPU has; `possible` describes the possible values.
fn impossible_value(document: &str, path: &str, text: &str, possible: &str) -> Error {
    let message = format!("{document}: {path}: invalid value `{text}`: {possible}");
    Error::new(ErrorKind::Member, message).with_path(path)
}

/// Returns the error for a fact in `hardware` that differs from a register with this path.
pub(crate) fn contradictory_fact(
    document: &str,
    fact: HardwareFact,
    stated: u64,
    register: &str,
    value: u64,
) -> Error {
    let member = member_path(fact);
    let message = format!(
        "{document}: {member} is {stated:#x}, but {register} is {value:#x}; one of them is wrong"
    );
    Error::new(ErrorKind::Member, message).with_path(member)
}

/// Returns the path of the member with a fact.
const fn member_path(fact: HardwareFact) -> &'static str {
    match fact {
        HardwareFact::CounterFrequency => "hardware.counter_frequency_hz",
        HardwareFact::VectorLengths => "hardware.vector_lengths",
        HardwareFact::ZeroingBlock => "hardware.dczid",
        HardwareFact::GicLimits => "hardware.icc_ctlr_el1",
        HardwareFact::TagBlock => "hardware.gmid_el1",
        HardwareFact::PmuEvents0 | HardwareFact::PmuEvents1 => "hardware.pmceid_el0",
        HardwareFact::GicRevision => "hardware.gicd_iidr",
        _ => "hardware",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<HardwareFacts, Error> {
        let hardware: HardwareJson = serde_json::from_str(json).expect("the members");
        hardware.to_facts("profile")
    }

    #[test]
    fn facts_round_trip() {
        let json = r#"{"counter_frequency_hz":25000000,"vector_lengths":"0x3","dczid":"0x4","icc_ctlr_el1":"0x8c00","gmid_el1":"0x6","pmceid_el0":["0x7fff0f1f","0xf2ae7f"],"gicd_iidr":"0x4b00343b"}"#;
        let facts = parse(json).expect("possible values");
        assert_eq!(facts.counter_frequency, Some(25_000_000));
        assert_eq!(facts.vector_lengths.map(VectorLengths::bits), Some(3));
        assert_eq!(facts.dczid, Some(4));
        let limits = GicLimits::from_icc_ctlr(0x8c00);
        assert_eq!(facts.gic, Some(Gic::V3(limits)));
        assert_eq!((facts.gmid, facts.gicd_iidr), (Some(6), Some(0x4b00_343b)));
        let events = facts.pmu_events.expect("events");
        assert_eq!((events.pmceid0, events.pmceid1), (0x7fff_0f1f, 0xf2_ae7f));
        let none = parse(r#"{"icc_ctlr_el1":"none"}"#).expect("no GICv3");
        assert_eq!(none.gic, Some(Gic::Other));
        assert_eq!(
            HardwareJson::from_facts(none).and_then(|it| it.icc_ctlr_el1),
            Some("none".to_owned())
        );
        let hardware = HardwareJson::from_facts(facts).expect("known facts");
        assert_eq!(serde_json::to_string(&hardware).expect("JSON"), json);
        assert_eq!(parse("{}").expect("no fact"), HardwareFacts::UNKNOWN);
        assert_eq!(HardwareJson::from_facts(HardwareFacts::UNKNOWN), None);
    }

    #[test]
    fn impossible_values_are_errors_with_the_path() {
        for (member, values) in [
            ("counter_frequency_hz", &["0", "4294967296"][..]),
            (
                "vector_lengths",
                &["\"0x0\"", "\"0x2\"", "\"0x10001\"", "\"3\""],
            ),
            ("dczid", &["\"0x20\"", "\"0xa\"", "\"4\""]),
            ("gmid_el1", &["\"0x0\"", "\"0x7\"", "\"6\""]),
            ("gicd_iidr", &["\"0x100000000\"", "\"43b\""]),
            (
                "icc_ctlr_el1",
                &[
                    "\"0x0\"",
                    "\"0x8200\"",
                    "\"0x9400\"",
                    "\"0x8401\"",
                    "\"0x18400\"",
                    "\"8400\"",
                    "\"None\"",
                ],
            ),
        ] {
            for value in values {
                let error = parse(&format!("{{\"{member}\":{value}}}")).expect_err(value);
                assert_eq!(error.kind(), ErrorKind::Member);
                assert_eq!(error.path(), Some(&*format!("hardware.{member}")));
                let begin = format!(
                    "profile: hardware.{member}: invalid value `{}`: ",
                    value.trim_matches('"')
                );
                assert!(error.to_string().starts_with(&begin), "{error}");
            }
        }
    }
}
