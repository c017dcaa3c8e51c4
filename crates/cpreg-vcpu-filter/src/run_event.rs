//! [`RunEvent`]: a line of the log of `cpreg run`, schema `cpreg.run-event/1`.

use std::fmt;

use cpreg::register::{RegisterId, Value};
use cpreg_kvm::errno::describe_write_error;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::policy_text::id_text;
use crate::refusal::BlockingRegister;

/// Schema of a line of the log.
pub const EVENT_SCHEMA: &str = "cpreg.run-event/1";

/// Event in the VM of a VMM that `cpreg run` started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "the library fills it")]
pub struct RunEvent {
    /// `"cpreg.run-event/1"`.
    #[schemars(extend("const" = EVENT_SCHEMA))]
    pub schema: String,
    /// Time in seconds since 1970.
    pub time: f64,
    /// Process id of the VMM.
    pub process: u32,
    /// The event.
    #[serde(flatten)]
    pub event: RunEventDetails,
}

/// Event with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RunEventDetails {
    /// The VMM has the list of registers.
    Listed {
        /// Registers that the host lacks and the VMM lists.
        remembered: Vec<RegisterName>,
        /// Registers of the host that the VMM does not list.
        dropped: Vec<RegisterName>,
    },
    /// A vCPU has its settings.
    SettingsMade {
        /// The settings.
        settings: Vec<SettingJson>,
    },
    /// The kernel did not accept settings.
    SettingsRefused {
        /// Number of the vCPU.
        vcpu: usize,
        /// The settings that it did not accept.
        settings: Vec<SettingJson>,
    },
    /// The VMM wrote a value that differs from a setting.
    SettingReplaced {
        /// Number of the vCPU.
        vcpu: usize,
        /// Register and value.
        register: RegisterValue,
    },
    /// A vCPU holds the values of the plan.
    Loaded {
        /// Number of the vCPU.
        vcpu: usize,
        /// Incoming registers that were left out.
        ignored: Vec<RegisterValue>,
        /// Registers that hold another value than the incoming one.
        changed: Vec<ChangedValue>,
    },
    /// The VM is refused.
    Refused {
        /// Registers that block the load.
        registers: Vec<BlockingJson>,
        /// Properties of the hosts that block the load, in words.
        hardware: Vec<String>,
    },
    /// The log of the process is full; later events are missing.
    Truncated,
}

/// Register by id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "an id has one name")]
pub struct RegisterName {
    /// Id of the register.
    pub id: String,
    /// Name of the register.
    pub name: String,
}

/// Register and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "a register has one value")]
pub struct RegisterValue {
    /// Id of the register.
    pub id: String,
    /// Name of the register.
    pub name: String,
    /// Value; null if it is secret.
    pub value: Option<String>,
    /// `true` for a pointer-authentication key; else absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// Register with two values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "a change has two values")]
pub struct ChangedValue {
    /// Id of the register.
    pub id: String,
    /// Name of the register.
    pub name: String,
    /// Incoming value; null if it is secret.
    pub from: Option<String>,
    /// Value that the vCPU holds; null if it is secret.
    pub to: Option<String>,
    /// `true` for a pointer-authentication key; else absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// Setting of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "a setting is bits of a register")]
pub struct SettingJson {
    /// Id of the register.
    pub id: String,
    /// Name of the register.
    pub name: String,
    /// Mask of the bits.
    pub mask: String,
    /// Value of the bits.
    pub value: String,
    /// Reason of the kernel, in words; absent if the kernel accepted the setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Register that blocks the load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::exhaustive_structs, reason = "a view of `BlockingRegister`")]
pub struct BlockingJson {
    /// Numbers of the vCPUs, as ranges: `"0-3,5"`.
    pub vcpus: String,
    /// Id of the register.
    pub id: String,
    /// Name of the register.
    pub name: String,
    /// Value of the VM; null if not known or secret.
    pub source: Option<String>,
    /// Value of the host; null if the host lacks the register, or the value is not known or secret.
    pub destination: Option<String>,
    /// `true` for a pointer-authentication key; else absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Reason, in words.
    pub reason: String,
    /// Remedy, in words; null if there is none.
    pub remedy: Option<String>,
}

impl RunEvent {
    /// Returns the event of this process at this time, in seconds since 1970.
    pub fn new(time: f64, process: u32, event: RunEventDetails) -> Self {
        Self {
            schema: EVENT_SCHEMA.to_owned(),
            time,
            process,
            event,
        }
    }
}

impl RunEventDetails {
    /// Returns the event as JSON members.
    pub fn from_event(event: &Event) -> Self {
        let setting = |setting: &cpreg::plan::SetConsent, reason| SettingJson {
            id: id_text(setting.register),
            name: setting.register.to_string(),
            mask: format!("{:#x}", setting.mask),
            value: format!("{:#x}", setting.value),
            reason,
        };
        match event {
            Event::Listed {
                remembered,
                dropped,
            } => Self::Listed {
                remembered: remembered.iter().copied().map(register_name).collect(),
                dropped: dropped.iter().copied().map(register_name).collect(),
            },
            Event::SettingsMade { settings } => Self::SettingsMade {
                settings: settings.iter().map(|it| setting(it, None)).collect(),
            },
            Event::SettingsRefused { vcpu, settings } => Self::SettingsRefused {
                vcpu: *vcpu,
                settings: settings
                    .iter()
                    .map(|failed| {
                        let id = failed.setting.register;
                        let reason = describe_write_error(failed.errno, id).to_owned();
                        setting(&failed.setting, Some(reason))
                    })
                    .collect(),
            },
            Event::SettingReplaced {
                vcpu,
                register,
                value,
            } => Self::SettingReplaced {
                vcpu: *vcpu,
                register: register_value(*register, &Value::U64(*value)),
            },
            Event::Loaded {
                vcpu,
                ignored,
                changed,
            } => Self::Loaded {
                vcpu: *vcpu,
                ignored: ignored
                    .iter()
                    .map(|(id, value)| register_value(*id, value))
                    .collect(),
                changed: changed
                    .iter()
                    .map(|changed| ChangedValue {
                        id: id_text(changed.register),
                        name: changed.register.to_string(),
                        from: public_value(changed.register, Some(&changed.from)),
                        to: public_value(changed.register, Some(&changed.to)),
                        secret: changed.register.is_secret(),
                    })
                    .collect(),
            },
            Event::Refused(refusal) => Self::Refused {
                registers: refusal.registers.iter().map(blocking).collect(),
                hardware: refusal.hardware.clone(),
            },
        }
    }
}

impl fmt::Display for RegisterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, public_text(self.value.as_ref()))
    }
}

impl fmt::Display for ChangedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [from, to] = [&self.from, &self.to].map(|value| public_text(value.as_ref()));
        write!(f, "{}: {from} to {to}", self.name)
    }
}

/// Returns the text of a value that is absent if it is a secret of the guest.
fn public_text(value: Option<&String>) -> &str {
    value.map_or("(secret)", String::as_str)
}

/// Returns the texts of a list, separated by commas; `none` for an empty list.
pub fn join(items: &[impl ToString]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

fn blocking(register: &BlockingRegister) -> BlockingJson {
    let id = register.register;
    BlockingJson {
        vcpus: crate::refusal::ranges(&register.vcpus).replace(' ', ""),
        id: id_text(id),
        name: id.to_string(),
        source: public_value(id, register.source.as_ref()),
        destination: public_value(id, register.destination.as_ref()),
        secret: id.is_secret(),
        reason: register.reason.clone(),
        remedy: register.remedy.clone(),
    }
}

fn register_name(id: RegisterId) -> RegisterName {
    RegisterName {
        id: id_text(id),
        name: id.to_string(),
    }
}

fn register_value(id: RegisterId, value: &Value) -> RegisterValue {
    RegisterValue {
        id: id_text(id),
        name: id.to_string(),
        value: public_value(id, Some(value)),
        secret: id.is_secret(),
    }
}

/// Returns the value as text, unless it is a secret of the guest.
fn public_value(id: RegisterId, value: Option<&Value>) -> Option<String> {
    value.filter(|_| !id.is_secret()).map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ChangedRegister;

    #[test]
    fn a_line_is_read_as_it_was_written_and_hides_secrets() {
        let key = RegisterId::APIAKEYLO_EL1;
        let event = Event::Loaded {
            vcpu: 3,
            ignored: vec![
                (key, Value::U64(0x1234)),
                (RegisterId::PIR_EL1, Value::U64(9)),
            ],
            changed: vec![ChangedRegister {
                register: key,
                from: Value::U64(0x1234),
                to: Value::U64(0x5678),
            }],
        };
        let line = RunEvent::new(1.5, 7, RunEventDetails::from_event(&event));
        let json = serde_json::to_string(&line).expect("JSON");
        let read: RunEvent = serde_json::from_str(&json).expect("an event");
        assert_eq!(read, line);
        assert!(!json.contains("1234") && !json.contains("5678"), "{json}");
        assert!(json.contains(r#""event":"loaded","vcpu":3"#), "{json}");
        assert!(json.contains(r#""value":"0x9""#), "{json}");
    }
}
