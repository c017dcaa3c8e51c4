//! The JSON document of a policy, `cpreg.run-policy/1`.
//!
//! Ids and numbers are hexadecimal texts, because some JSON readers lose bits of large numbers.

use std::ffi::OsString;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, IgnoreConsent, SetConsent};
use cpreg::register::{RegisterId, parse_hexadecimal};
use cpreg::severity::Severity;
use cpreg_hosts::hardware::HardwareJson;
use serde::{Deserialize, Serialize};

use crate::policy::{Candidate, HostFacts, POLICY_SCHEMA, Policy};

/// Error in the document of a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not JSON, or lacks a member.
    #[error("the policy is not a JSON document of {POLICY_SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    /// The document has another schema.
    #[error("the policy has the schema {0}; this library reads {POLICY_SCHEMA}")]
    Schema(String),
    /// A member has an invalid text.
    #[error("the policy's member {member} has the invalid text `{text}`")]
    Member {
        /// Name of the member.
        member: &'static str,
        /// Text of the member.
        text: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyJson {
    schema: String,
    /// `null` if the VMM's arguments decide.
    receiving: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<CandidateJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drop: Vec<String>,
    #[serde(default, skip_serializing_if = "ConsentsJson::is_empty")]
    consents: ConsentsJson,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    born_with: Vec<BitsJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel_release: Option<String>,
    host: HardwareMembers,
    source: HardwareMembers,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateJson {
    register: String,
    features: Vec<String>,
}

#[derive(Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConsentsJson {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<IgnoreJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drop: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<BitsJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_up_to: Option<String>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IgnoreJson {
    register: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BitsJson {
    register: String,
    mask: String,
    value: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HardwareMembers {
    emulated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<HardwareJson>,
}

impl Policy {
    /// Returns the policy as a JSON document on one line.
    ///
    /// `receiving` says if the VMM starts to receive a VM. With `None` the VMM's arguments decide.
    pub fn to_json(&self, receiving: Option<bool>) -> String {
        let document = PolicyJson {
            schema: POLICY_SCHEMA.to_owned(),
            receiving,
            candidates: self.candidates.iter().map(candidate_json).collect(),
            drop: self.drop.iter().copied().map(id_text).collect(),
            consents: ConsentsJson::from_consents(&self.consents),
            born_with: self.born_with.iter().map(bits_json).collect(),
            kernel_release: self.host.kernel_release.clone(),
            host: HardwareMembers::from_facts(self.host.hardware),
            source: HardwareMembers::from_facts(self.source_hardware),
        };
        // Texts, numbers and lists always serialise.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// Reads the JSON document of a policy, for a VMM with these arguments.
    ///
    /// # Errors
    /// Returns an error for a document that is not a policy.
    pub fn from_json(
        text: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, PolicyError> {
        let document: PolicyJson = serde_json::from_str(text)?;
        if document.schema != POLICY_SCHEMA {
            return Err(PolicyError::Schema(document.schema));
        }
        let candidates = document.candidates.iter().map(CandidateJson::to_candidate);
        let born_with = document.born_with.iter().map(BitsJson::to_consent);
        Ok(Self {
            is_receiving: document
                .receiving
                .unwrap_or_else(|| starts_to_receive(arguments)),
            candidates: candidates.collect::<Result<_, _>>()?,
            drop: parse_ids("drop", &document.drop)?,
            consents: document.consents.to_consents()?,
            born_with: born_with.collect::<Result<_, _>>()?,
            host: HostFacts {
                kernel_release: document.kernel_release,
                hardware: document.host.to_facts()?,
            },
            source_hardware: document.source.to_facts()?,
        })
    }
}

/// Returns `true` if the arguments are those of a QEMU that starts to receive a VM.
fn starts_to_receive(arguments: impl IntoIterator<Item = OsString>) -> bool {
    const OPTIONS: [&str; 4] = ["-incoming", "--incoming", "-loadvm", "--loadvm"];
    let mut arguments = arguments.into_iter();
    arguments.any(|argument| OPTIONS.iter().any(|option| argument == *option))
}

fn id_text(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

fn parse_number(member: &'static str, text: &str) -> Result<u64, PolicyError> {
    parse_hexadecimal(text).ok_or_else(|| PolicyError::Member {
        member,
        text: text.to_owned(),
    })
}

fn parse_id(member: &'static str, text: &str) -> Result<RegisterId, PolicyError> {
    parse_number(member, text).map(RegisterId::from_raw)
}

fn parse_ids(member: &'static str, texts: &[String]) -> Result<Vec<RegisterId>, PolicyError> {
    texts.iter().map(|text| parse_id(member, text)).collect()
}

fn candidate_json(candidate: &Candidate) -> CandidateJson {
    let features = candidate.features.iter();
    CandidateJson {
        register: id_text(candidate.register),
        features: features.map(ToString::to_string).collect(),
    }
}

impl CandidateJson {
    fn to_candidate(&self) -> Result<Candidate, PolicyError> {
        let features = self.features.iter().map(|names| {
            Features::from_names(names).ok_or_else(|| PolicyError::Member {
                member: "features",
                text: names.clone(),
            })
        });
        Ok(Candidate {
            register: parse_id("register", &self.register)?,
            features: features.collect::<Result<_, _>>()?,
        })
    }
}

fn bits_json(consent: &SetConsent) -> BitsJson {
    BitsJson {
        register: id_text(consent.register),
        mask: format!("{:#x}", consent.mask),
        value: format!("{:#x}", consent.value),
    }
}

impl BitsJson {
    fn to_consent(&self) -> Result<SetConsent, PolicyError> {
        Ok(SetConsent {
            register: parse_id("register", &self.register)?,
            mask: parse_number("mask", &self.mask)?,
            value: parse_number("value", &self.value)?,
        })
    }
}

impl ConsentsJson {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn from_consents(consents: &Consents) -> Self {
        let ignore = consents.ignore.iter().map(|ignore| IgnoreJson {
            register: id_text(ignore.register),
            value: ignore.condition.map(|(value, _)| format!("{value:#x}")),
            mask: ignore.condition.map(|(_, mask)| format!("{mask:#x}")),
        });
        Self {
            ignore: ignore.collect(),
            drop: consents
                .drop_registers
                .iter()
                .copied()
                .map(id_text)
                .collect(),
            set: consents.set.iter().map(bits_json).collect(),
            accept: consents.accept.iter().copied().map(id_text).collect(),
            accept_up_to: consents
                .accept_up_to
                .map(|severity| severity.name().to_owned()),
        }
    }

    fn to_consents(&self) -> Result<Consents, PolicyError> {
        let ignore = self.ignore.iter().map(|ignore| {
            let condition = match (&ignore.value, &ignore.mask) {
                (Some(value), Some(mask)) => {
                    Some((parse_number("value", value)?, parse_number("mask", mask)?))
                }
                _ => None,
            };
            Ok(IgnoreConsent {
                register: parse_id("register", &ignore.register)?,
                condition,
            })
        });
        let accept_up_to = self.accept_up_to.as_ref().map(|name| {
            // Nothing accepts a fatal change.
            let severity = Severity::from_name(name);
            let severity = severity.filter(|severity| *severity < Severity::Fatal);
            severity.ok_or_else(|| PolicyError::Member {
                member: "accept_up_to",
                text: name.clone(),
            })
        });
        Ok(Consents {
            ignore: ignore.collect::<Result<_, PolicyError>>()?,
            drop_registers: parse_ids("drop", &self.drop)?,
            set: self
                .set
                .iter()
                .map(BitsJson::to_consent)
                .collect::<Result<_, _>>()?,
            accept: parse_ids("accept", &self.accept)?,
            accept_up_to: accept_up_to.transpose()?,
            drop_extensions: Vec::new(),
        })
    }
}

impl HardwareMembers {
    fn from_facts(facts: HardwareFacts) -> Self {
        Self {
            emulated: facts.is_emulated,
            hardware: HardwareJson::from_facts(HardwareFacts {
                is_emulated: false,
                ..facts
            }),
        }
    }

    fn to_facts(&self) -> Result<HardwareFacts, PolicyError> {
        let facts = self
            .hardware
            .as_ref()
            .map_or(Ok(HardwareFacts::UNKNOWN), |hardware| {
                hardware
                    .to_facts("the policy")
                    .map_err(|error| PolicyError::Member {
                        member: "hardware",
                        text: error.to_string(),
                    })
            });
        Ok(HardwareFacts {
            is_emulated: self.emulated,
            ..facts?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let bits = SetConsent {
            register: RegisterId::PSCI_VERSION,
            mask: u64::MAX,
            value: 0x1_0001,
        };
        Policy {
            is_receiving: true,
            candidates: vec![Candidate {
                register: RegisterId::PIR_EL1,
                features: vec![Features::NONE, Features::PMU | Features::SVE],
            }],
            drop: vec![RegisterId::VENDOR_HYP_BMAP_2],
            consents: Consents {
                ignore: vec![IgnoreConsent {
                    register: RegisterId::TCR2_EL1,
                    condition: Some((1, 3)),
                }],
                drop_registers: vec![RegisterId::PIR_EL1],
                set: vec![bits],
                accept: vec![RegisterId::PSCI_VERSION],
                accept_up_to: Some(Severity::Medium),
                drop_extensions: Vec::new(),
            },
            born_with: vec![bits],
            host: HostFacts {
                kernel_release: Some("6.12.107+deb13".to_owned()),
                hardware: HardwareFacts {
                    is_emulated: true,
                    dczid: Some(4),
                    ..HardwareFacts::UNKNOWN
                },
            },
            source_hardware: HardwareFacts::UNKNOWN,
        }
    }

    #[test]
    fn a_policy_is_read_as_it_was_written() {
        let json = policy().to_json(Some(true));
        let read = Policy::from_json(&json, []).expect("a policy");
        assert_eq!(read.to_json(Some(true)), json);
        assert_eq!(format!("{read:?}"), format!("{:?}", policy()));
    }

    #[test]
    fn a_broken_policy_is_an_error() {
        let json = policy().to_json(Some(true));
        for (from, to) in [
            ("run-policy/1", "run-policy/9"),
            ("0x10001", "one"),
            ("medium", "fatal"),
            ("pmu,sve", "pmu,mmx"),
            ("\"receiving\":true", "\"receiving\":true,\"more\":1"),
            ("\"receiving\":true", "\"receiving\":1"),
        ] {
            assert!(json.contains(from), "{from}");
            assert!(
                Policy::from_json(&json.replace(from, to), []).is_err(),
                "{to}"
            );
        }
        assert!(Policy::from_json("", []).is_err());
    }

    #[test]
    fn the_arguments_decide_if_the_policy_does_not() {
        let json = policy().to_json(None);
        let receives = |arguments: &[&str]| {
            let arguments = arguments.iter().map(OsString::from);
            let policy = Policy::from_json(&json, arguments).expect("a policy");
            policy.is_receiving
        };
        assert!(receives(&["qemu", "-incoming", "defer"]));
        assert!(receives(&["qemu", "--loadvm", "one"]));
        assert!(!receives(&["qemu", "-name", "incoming"]));
    }
}
