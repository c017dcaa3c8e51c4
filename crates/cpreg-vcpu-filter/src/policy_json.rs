//! The JSON document of a policy, `cpreg.run-policy/1`.
//!
//! Ids and numbers are hexadecimal texts, because some JSON readers lose bits of large numbers.

use std::ffi::OsString;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, IgnoreConsent, SetConsent};
use cpreg::severity::Severity;
use cpreg_hosts::hardware::HardwareJson;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Candidate, HostFacts, LogFormat, LogOutput, LogTarget, Policy};
use crate::policy_text::{POLICY_SCHEMA, PolicyError, id_text, parse_id, parse_ids, parse_number};
use crate::tolerance_json::ToleranceJson;

/// Decisions about a VMM's calls, made before the VMM starts.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyJson {
    /// `"cpreg.run-policy/1"`.
    #[schemars(extend("const" = POLICY_SCHEMA))]
    schema: String,
    /// `true` if the VMM starts to receive a VM; null if the VMM's arguments decide.
    #[serde(default)]
    receiving: Option<bool>,
    /// Registers that an incoming VM may have. A VMM that receives a VM lists those that the host
    /// lacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<CandidateJson>,
    /// Ids of registers that the VMM does not list, if it does not start to receive a VM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    drop: Vec<String>,
    /// Changes of the incoming VM that the user accepts.
    #[serde(default, skip_serializing_if = "ConsentsJson::is_empty")]
    consents: ConsentsJson,
    /// Tolerances of the operator, in the order of precedence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tolerances: Vec<ToleranceJson>,
    /// Settings that each vCPU gets after its initialisation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    born_with: Vec<BitsJson>,
    /// Log of events beside standard error; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log: Option<LogJson>,
    /// Kernel release of this host (`uname -r`); `cpreg run` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernel_release: Option<String>,
    /// Properties of this host; `cpreg run` sets them.
    #[serde(default)]
    host: HardwareMembers,
    /// Properties of the host that the VM ran on.
    #[serde(default)]
    source: HardwareMembers,
}

/// Log of events.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogJson {
    /// Path of the file; absent for a descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Number of the descriptor; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    descriptor: Option<i32>,
    /// `"text"` or `"json"`.
    format: String,
}

/// Register that an incoming VM may have.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CandidateJson {
    /// Id of the register.
    register: String,
    /// Smallest sets of features with which a guest has the register: `"none"`, `"pmu,sve"`.
    features: Vec<String>,
}

/// Changes that the user accepts.
#[derive(Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ConsentsJson {
    /// Registers whose loss the user accepts (`--ignore`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<IgnoreJson>,
    /// Ids of registers to leave out of the VM (`--drop`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drop: Vec<String>,
    /// Bits to set in the VM (`--set`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    set: Vec<BitsJson>,
    /// Ids of registers whose proposed value the user accepts (`--accept`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accept: Vec<String>,
    /// Highest severity that the user accepts: `"low"` or `"medium"`; absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_up_to: Option<String>,
}

/// Register whose loss the user accepts.
#[derive(PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct IgnoreJson {
    /// Id of the register.
    register: String,
    /// Value with which the register is ignored; absent for every value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Compared bits of the value; absent for every value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mask: Option<String>,
}

/// Bits of a register, and their value.
#[derive(PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BitsJson {
    /// Id of the register.
    register: String,
    /// Mask of the bits.
    mask: String,
    /// Value of the bits.
    value: String,
}

/// Properties of a host that guests see and that no register list holds.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HardwareMembers {
    /// `true` if an emulator runs the host.
    emulated: bool,
    /// Known properties of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hardware: Option<HardwareJson>,
}

impl Policy {
    /// Returns the policy as a JSON document on one line.
    ///
    /// `receiving` says if the VMM starts to receive a VM. With `None` the VMM's arguments decide.
    ///
    /// # Errors
    /// Returns an error if an operator's tolerance has a form that no file can have, or the path of
    /// the log is not UTF-8.
    pub fn to_json(&self, receiving: Option<bool>) -> Result<String, PolicyError> {
        let tolerances = self.operator_entries.iter().map(ToleranceJson::from_entry);
        let document = PolicyJson {
            schema: POLICY_SCHEMA.to_owned(),
            receiving,
            candidates: self.candidates.iter().map(candidate_json).collect(),
            drop: self.drop.iter().copied().map(id_text).collect(),
            consents: ConsentsJson::from_consents(&self.consents),
            tolerances: tolerances.collect::<Result<_, _>>()?,
            born_with: self.born_with.iter().map(bits_json).collect(),
            log: self.log.as_ref().map(LogJson::from_target).transpose()?,
            kernel_release: self.host.kernel_release.clone(),
            host: HardwareMembers::from_facts(self.host.hardware),
            source: HardwareMembers::from_facts(self.source_hardware),
        };
        Ok(serde_json::to_string(&document)?)
    }

    /// Reads the JSON document of a policy, for a VMM with these arguments.
    ///
    /// # Errors
    /// Returns an error for a document that is not a policy.
    pub fn from_json(
        text: &str,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, PolicyError> {
        let (mut policy, receiving) = Self::parse(text)?;
        policy.is_receiving = receiving.unwrap_or_else(|| starts_to_receive(arguments));
        Ok(policy)
    }

    /// Reads the JSON document of a policy. Returns the policy, and the member `receiving`.
    ///
    /// # Errors
    /// Returns an error for a document that is not a policy.
    pub fn parse(text: &str) -> Result<(Self, Option<bool>), PolicyError> {
        let document: PolicyJson = serde_json::from_str(text)?;
        if document.schema != POLICY_SCHEMA {
            return Err(PolicyError::Schema(document.schema));
        }
        let candidates = document.candidates.iter().map(CandidateJson::to_candidate);
        let tolerances = document.tolerances.iter().map(ToleranceJson::to_entry);
        let born_with = document.born_with.iter().map(BitsJson::to_consent);
        let policy = Self {
            is_receiving: document.receiving.unwrap_or(false),
            candidates: candidates.collect::<Result<_, _>>()?,
            drop: parse_ids("drop", &document.drop)?,
            consents: document.consents.to_consents()?,
            operator_entries: tolerances.collect::<Result<_, _>>()?,
            born_with: born_with.collect::<Result<_, _>>()?,
            log: document.log.as_ref().map(LogJson::to_target).transpose()?,
            host: HostFacts {
                kernel_release: document.kernel_release,
                hardware: document.host.to_facts()?,
            },
            source_hardware: document.source.to_facts()?,
        };
        Ok((policy, document.receiving))
    }
}

impl LogJson {
    fn from_target(target: &LogTarget) -> Result<Self, PolicyError> {
        let (file, descriptor) = match &target.output {
            LogOutput::File(path) => {
                let text = path.to_str().ok_or_else(|| PolicyError::Member {
                    member: "log",
                    text: path.display().to_string(),
                })?;
                (Some(text.to_owned()), None)
            }
            LogOutput::Descriptor(descriptor) => (None, Some(*descriptor)),
        };
        let format = match target.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        Ok(Self {
            file,
            descriptor,
            format: format.to_owned(),
        })
    }

    fn to_target(&self) -> Result<LogTarget, PolicyError> {
        let invalid = |text: &str| PolicyError::Member {
            member: "log",
            text: text.to_owned(),
        };
        let output = match (&self.file, self.descriptor) {
            (Some(file), None) => LogOutput::File(file.into()),
            (None, Some(descriptor)) => LogOutput::Descriptor(descriptor),
            _ => return Err(invalid("file or descriptor")),
        };
        let format = match self.format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            other => return Err(invalid(other)),
        };
        Ok(LogTarget { output, format })
    }
}

/// Returns `true` if the arguments are those of a QEMU that starts to receive a VM.
fn starts_to_receive(arguments: impl IntoIterator<Item = OsString>) -> bool {
    const OPTIONS: [&str; 4] = ["-incoming", "--incoming", "-loadvm", "--loadvm"];
    let mut arguments = arguments.into_iter();
    arguments.any(|argument| OPTIONS.iter().any(|option| argument == *option))
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
    use cpreg::register::RegisterId;
    use cpreg::tolerance::{Category, Condition, RegisterSelector, Tolerance, Tolerances};

    use super::*;

    fn policy() -> Policy {
        let bits = SetConsent {
            register: RegisterId::PSCI_VERSION,
            mask: u64::MAX,
            value: 0x1_0001,
        };
        let entry = Tolerance {
            is_operator_entry: true,
            ..Tolerances::default().entries()[0].clone()
        };
        let entry = Tolerance {
            registers: RegisterSelector::Ids(vec![RegisterId::TCR2_EL1].into()),
            condition: Condition::Always,
            visible_effect: None,
            category: Category::Operator,
            remedy: None,
            history: Vec::new(),
            ..entry
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
            operator_entries: vec![entry],
            born_with: vec![bits],
            log: Some(LogTarget {
                output: LogOutput::Descriptor(3),
                format: LogFormat::Json,
            }),
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
        let json = policy().to_json(Some(true)).expect("a document");
        let read = Policy::from_json(&json, []).expect("a policy");
        assert_eq!(read.to_json(Some(true)).expect("a document"), json);
        assert_eq!(format!("{read:?}"), format!("{:?}", policy()));
    }

    #[test]
    fn a_broken_policy_is_an_error() {
        let json = policy().to_json(Some(true)).expect("a document");
        for (from, to) in [
            ("run-policy/1", "run-policy/9"),
            ("0x10001", "one"),
            ("medium", "fatal"),
            ("source-only", "both"),
            ("\"format\":\"json\"", "\"format\":\"xml\""),
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
        let json = policy().to_json(None).expect("a document");
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
