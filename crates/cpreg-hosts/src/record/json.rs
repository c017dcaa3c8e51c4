//! The file of a recorded host, `cpreg.host/1`: JSON, written with one register a line.
//!
//! | member | what it holds |
//! |---|---|
//! | `schema` | `"cpreg.host/1"` |
//! | `identity` | `release` and `version` (`uname -r`, `-v`), `midr`, `cpu`, `mode`, `emulated` |
//! | `capabilities` | what `KVM_CHECK_EXTENSION` says, by the capability's name; those that are 0 are left out |
//! | `guests` | the sets of vCPU features that were recorded: `features` (`"pmu,sve"`, `"none"`), `tells_writable` |
//! | `registers` | what a fresh vCPU has; a line each, and a line more where guests differ |
//! | `writable` | the bits of ID registers that user space may change, for guests of which the kernel tells |
//!
//! | member of a register | what it holds |
//! |---|---|
//! | `id`, `name` | which |
//! | `guests` | the guests of which this is said; all, if it is not there |
//! | `at_reset` | `"0x…"`; `"poison"`: no value; `"counts"`: it runs on. Not there if reading failed |
//! | `errno` | why reading failed |
//! | `differs_by_vcpu` | `true` if another vCPU of the VM held something else |
//! | `write_back` | the errno of writing back what was read, where that failed |
//! | `trials` | values that were tried, each `[value, errno]`, or `[value, errno, reads]` where it then read neither what a success nor what a refusal lets expect |
//!
//! 64-bit numbers are strings, `"0x…"`. Names are for people and are not read back. Unknown members are ignored.
//! What one and the same line says of many guests takes many times its room once it is read, so there are limits ([`MOST_REGISTERS`],
//! [`MOST_TRIALS`]); no recording comes near them.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, parse_hexadecimal};
use serde::{Deserialize, Serialize};

use super::{Guest, HostRecord, Identity, Register, Trial};
use crate::history::AtReset;
use crate::schema;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.host/1";

/// No file is larger.
pub const MOST_BYTES: u64 = 16 << 20;
/// The most registers of all guests together.
pub const MOST_REGISTERS: usize = 1 << 17;
/// The most trials of all registers of all guests together.
pub const MOST_TRIALS: usize = 1 << 20;

#[derive(Deserialize)]
struct File {
    schema: String,
    identity: IdentityFile,
    #[serde(default)]
    capabilities: BTreeMap<String, i32>,
    guests: Vec<GuestFile>,
    registers: Vec<RegisterFile>,
    #[serde(default)]
    writable: Vec<WritableFile>,
}

#[derive(Serialize, Deserialize)]
struct IdentityFile {
    release: String,
    version: String,
    midr: String,
    cpu: String,
    #[serde(default)]
    mode: String,
    emulated: bool,
}

#[derive(Serialize, Deserialize)]
struct GuestFile {
    features: String,
    tells_writable: bool,
}

#[derive(Serialize, Deserialize)]
struct RegisterFile {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_reset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errno: Option<u16>,
    #[serde(default, skip_serializing_if = "is_default")]
    differs_by_vcpu: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    write_back: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    trials: Vec<TrialFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guests: Option<Vec<String>>,
}

/// Value, errno, and what was read, if that does not go without saying.
#[derive(Serialize, Deserialize)]
struct TrialFile(
    String,
    u16,
    #[serde(default, skip_serializing_if = "Option::is_none")] Option<String>,
);

#[derive(Serialize, Deserialize)]
struct WritableFile {
    id: String,
    #[serde(default)]
    name: String,
    bits: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guests: Option<Vec<String>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const POISON: &str = "poison";
const COUNTS: &str = "counts";

/// A file is no recorded host, or not one that this version reads.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecordError {
    /// It is not the JSON that a recorded host is.
    Json(serde_json::Error),
    /// It is of another schema.
    Schema(String),
    /// A member holds what it cannot hold.
    Member {
        /// Where: `registers[3].at_reset`.
        path: String,
        /// What stands there.
        text: String,
    },
    /// Something is said a second time.
    Twice {
        /// Where it is said again.
        path: String,
        /// Of what.
        what: String,
    },
    /// It holds more than any recording.
    TooMuch {
        /// Where the last that fits has been read.
        path: String,
        /// Of what, and how many there may be.
        what: String,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "not a recorded host: {error}"),
            Self::Schema(schema) => write!(
                f,
                "a recorded host of schema `{schema}`, where this cpreg reads `{SCHEMA}`: record the host again, or read it with the cpreg that wrote it"
            ),
            Self::Member { path, text } => {
                write!(f, "recorded host: {path} holds `{text}`, which it cannot")
            }
            Self::Twice { path, what } => {
                write!(f, "recorded host: {path} says a second time what {what} is")
            }
            Self::TooMuch { path, what } => {
                write!(f, "recorded host: with {path} there are more than {what}")
            }
        }
    }
}

impl std::error::Error for RecordError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether a JSON document says that it is a recorded host, of whichever version; also one that is cut off, if it is as we write it.
pub fn is_record(json: &[u8]) -> bool {
    schema::is(json, "cpreg.host/")
}

impl HostRecord {
    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, a member is malformed, or there is more in it than any recording has.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecordError> {
        let file: File = match serde_json::from_slice(bytes) {
            Ok(file) => file,
            Err(error) => {
                // Of another version nothing more is known than that.
                return Err(match schema::of(bytes) {
                    Some(schema) if schema != SCHEMA => RecordError::Schema(schema),
                    _ => RecordError::Json(error),
                });
            }
        };
        if file.schema != SCHEMA {
            return Err(RecordError::Schema(file.schema));
        }
        Reading::default().read(&file)
    }

    /// Writes it: registers of a guest in the order of their ids.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no record brings about.
    pub fn to_json(&self) -> Result<String, RecordError> {
        let line = |text: &mut String, separator: &mut &str, json: serde_json::Result<String>| {
            let _ = write!(text, "{separator}{}", json?);
            *separator = ",\n";
            Ok(())
        };
        let write = || {
            let identity = serde_json::to_string(&IdentityFile::of(&self.identity))?;
            let capabilities = serde_json::to_string(&self.capabilities)?;
            let mut text = format!(
                "{{\"schema\":\"{SCHEMA}\",\n\"identity\":{identity},\n\"capabilities\":{capabilities},\n\"guests\":["
            );
            let mut separator = "\n";
            for (features, guest) in &self.guests {
                let guest = GuestFile {
                    features: features.to_string(),
                    tells_writable: guest.writable.is_some(),
                };
                line(&mut text, &mut separator, serde_json::to_string(&guest))?;
            }
            text.push_str("],\n\"registers\":[");
            separator = "\n";
            for (id, said) in self.said_of_registers() {
                for (register, guests) in said {
                    let register = RegisterFile::of(id, register, self.which(&guests));
                    line(&mut text, &mut separator, serde_json::to_string(&register))?;
                }
            }
            text.push_str("],\n\"writable\":[");
            separator = "\n";
            for (id, masks) in self.said_of_masks() {
                for (bits, guests) in masks {
                    let writable = WritableFile {
                        id: digits(id),
                        name: id.to_string(),
                        bits: format!("{bits:#x}"),
                        guests: self.which(&guests),
                    };
                    line(&mut text, &mut separator, serde_json::to_string(&writable))?;
                }
            }
            text.push_str("]}\n");
            Ok(text)
        };
        write().map_err(RecordError::Json)
    }

    /// Of each register what is said of it, and of which guests.
    fn said_of_registers(&self) -> BTreeMap<RegisterId, Vec<(&Register, Vec<Features>)>> {
        let mut all: BTreeMap<RegisterId, Vec<(&Register, Vec<Features>)>> = BTreeMap::new();
        for (features, guest) in &self.guests {
            for register in &guest.registers {
                let said = all.entry(register.id).or_default();
                match said.iter_mut().find(|(known, _)| *known == register) {
                    Some((_, guests)) => guests.push(*features),
                    None => said.push((register, vec![*features])),
                }
            }
        }
        all
    }

    /// Of each ID register the writable bits, and of which guests that is said.
    fn said_of_masks(&self) -> BTreeMap<RegisterId, BTreeMap<u64, Vec<Features>>> {
        let mut all: BTreeMap<RegisterId, BTreeMap<u64, Vec<Features>>> = BTreeMap::new();
        for (features, guest) in &self.guests {
            for (id, bits) in guest.writable.iter().flatten() {
                let masks = all.entry(*id).or_default();
                masks.entry(*bits).or_default().push(*features);
            }
        }
        all
    }

    /// The guests by name; `None` for all.
    fn which(&self, guests: &[Features]) -> Option<Vec<String>> {
        let names = || guests.iter().map(ToString::to_string).collect();
        (guests.len() != self.guests.len()).then(names)
    }
}

/// All 16 digits, as in all JSON of cpreg's.
fn digits(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

impl IdentityFile {
    fn of(identity: &Identity) -> Self {
        Self {
            release: identity.release.clone(),
            version: identity.version.clone(),
            midr: format!("{:#x}", identity.midr),
            cpu: identity.cpu.clone(),
            mode: identity.mode.clone(),
            emulated: identity.emulated,
        }
    }
}

impl RegisterFile {
    fn of(id: RegisterId, register: &Register, guests: Option<Vec<String>>) -> Self {
        let own = own_value(&register.at_reset);
        let (at_reset, errno) = match &register.at_reset {
            AtReset::Value(value) => (Some(value.to_string()), None),
            AtReset::Poison => (Some(POISON.to_owned()), None),
            AtReset::Counts => (Some(COUNTS.to_owned()), None),
            AtReset::Unreadable(errno) => (None, Some(*errno)),
        };
        let trials = register.trials.iter().map(|trial| {
            let is_expected = expected(trial.value, trial.errno, own) == Some(trial.reads);
            let reads = (!is_expected).then(|| format!("{:#x}", trial.reads));
            TrialFile(format!("{:#x}", trial.value), trial.errno, reads)
        });
        Self {
            id: digits(id),
            name: id.to_string(),
            at_reset,
            errno,
            differs_by_vcpu: register.differs_by_vcpu,
            write_back: register.write_back,
            trials: trials.collect(),
            guests,
        }
    }
}

/// What a register of 64 bits held, if that was a value.
pub(crate) fn own_value(at_reset: &AtReset) -> Option<u64> {
    match at_reset {
        AtReset::Value(value) => value.as_u64(),
        _ => None,
    }
}

/// What is read after a trial: what was written, if it was taken; else what the register held, if that is known.
pub(crate) const fn expected(value: u64, errno: u16, own: Option<u64>) -> Option<u64> {
    if errno == 0 { Some(value) } else { own }
}

/// What is read so far.
#[derive(Default)]
struct Reading {
    /// By the names that the file uses.
    guests: BTreeMap<String, Features>,
    registers: BTreeMap<Features, BTreeMap<RegisterId, Register>>,
    writable: BTreeMap<Features, Option<BTreeMap<RegisterId, u64>>>,
    register_count: usize,
    trial_count: usize,
}

type Read<T> = Result<T, RecordError>;

fn member(path: impl Into<String>, text: &str) -> RecordError {
    RecordError::Member {
        path: path.into(),
        text: text.to_owned(),
    }
}

impl Reading {
    fn read(mut self, file: &File) -> Read<HostRecord> {
        let identity = &file.identity;
        let midr = parse_hexadecimal(&identity.midr)
            .ok_or_else(|| member("identity.midr", &identity.midr))?;
        for (at, guest) in file.guests.iter().enumerate() {
            self.guest(at, guest)?;
        }
        for (at, register) in file.registers.iter().enumerate() {
            self.register(at, register)?;
        }
        for (at, writable) in file.writable.iter().enumerate() {
            self.writable(at, writable)?;
        }
        let mut registers = self.registers;
        let guests = self.writable.into_iter().map(|(features, writable)| {
            let registers = registers.remove(&features).unwrap_or_default();
            let guest = Guest {
                registers: registers.into_values().collect(),
                writable,
            };
            (features, guest)
        });
        Ok(HostRecord {
            identity: Identity {
                release: identity.release.clone(),
                version: identity.version.clone(),
                midr,
                cpu: identity.cpu.clone(),
                mode: identity.mode.clone(),
                emulated: identity.emulated,
            },
            capabilities: file.capabilities.clone(),
            guests: guests.collect(),
        })
    }

    fn guest(&mut self, at: usize, guest: &GuestFile) -> Read<()> {
        let path = || format!("guests[{at}].features");
        let features =
            Features::from_names(&guest.features).ok_or_else(|| member(path(), &guest.features))?;
        let writable = guest.tells_writable.then(BTreeMap::new);
        if self.writable.insert(features, writable).is_some() {
            return Err(RecordError::Twice {
                path: path(),
                what: guest.features.clone(),
            });
        }
        self.guests.insert(guest.features.clone(), features);
        Ok(())
    }

    /// The guests that a line is about.
    fn which(&self, names: Option<&[String]>, path: impl Fn() -> String) -> Read<Vec<Features>> {
        let Some(names) = names else {
            return Ok(self.guests.values().copied().collect());
        };
        let named = names.iter().enumerate().map(|(number, name)| {
            let known = self.guests.get(name).copied();
            known.ok_or_else(|| member(format!("{}.guests[{number}]", path()), name))
        });
        named.collect()
    }

    fn register(&mut self, at: usize, file: &RegisterFile) -> Read<()> {
        let line = || format!("registers[{at}]");
        let path = |name: &str| format!("registers[{at}].{name}");
        let register = register(file, path)?;
        for features in self.which(file.guests.as_deref(), line)? {
            self.register_count += 1;
            self.trial_count = self.trial_count.saturating_add(register.trials.len());
            let limits = [
                (self.register_count, MOST_REGISTERS, "registers"),
                (self.trial_count, MOST_TRIALS, "trials"),
            ];
            for (count, most, what) in limits {
                if count > most {
                    return Err(RecordError::TooMuch {
                        path: line(),
                        what: format!("{most} {what}"),
                    });
                }
            }
            let own = self.registers.entry(features).or_default();
            if own.insert(register.id, register.clone()).is_some() {
                return Err(RecordError::Twice {
                    path: line(),
                    what: format!("{} for guests with the features {features}", register.id),
                });
            }
        }
        Ok(())
    }

    fn writable(&mut self, at: usize, file: &WritableFile) -> Read<()> {
        let line = || format!("writable[{at}]");
        let id = parse_hexadecimal(&file.id).ok_or_else(|| member(line() + ".id", &file.id))?;
        let id = RegisterId::from_raw(id);
        let bits =
            parse_hexadecimal(&file.bits).ok_or_else(|| member(line() + ".bits", &file.bits))?;
        let all = self.which(file.guests.as_deref(), line)?;
        for features in all {
            let Some(Some(masks)) = self.writable.get_mut(&features) else {
                let text = features.to_string();
                return Err(member(line() + ".guests", &text));
            };
            if masks.insert(id, bits).is_some() {
                return Err(RecordError::Twice {
                    path: line(),
                    what: format!("writable of {id} for guests with the features {features}"),
                });
            }
        }
        Ok(())
    }
}

/// What one line says of a register; `path` gives that of one of its members.
fn register(file: &RegisterFile, path: impl Fn(&str) -> String) -> Read<Register> {
    let id = parse_hexadecimal(&file.id).ok_or_else(|| member(path("id"), &file.id))?;
    let id = RegisterId::from_raw(id);
    let at_reset = match (file.at_reset.as_deref(), file.errno) {
        (Some(POISON), None) => AtReset::Poison,
        (Some(COUNTS), None) => AtReset::Counts,
        (Some(text), None) => {
            let value = Value::parse(id, text).ok_or_else(|| member(path("at_reset"), text))?;
            AtReset::Value(value)
        }
        (None, Some(errno)) => AtReset::Unreadable(errno),
        (Some(text), Some(_)) => return Err(member(path("at_reset"), text)),
        (None, None) => return Err(member(path("at_reset"), "")),
    };
    let own = own_value(&at_reset);
    let trials = file.trials.iter().enumerate().map(|(number, trial)| {
        let TrialFile(text, errno, reads) = trial;
        let path = || path(&format!("trials[{number}]"));
        let value = parse_hexadecimal(text).ok_or_else(|| member(path(), text))?;
        let reads = match reads {
            Some(reads) => parse_hexadecimal(reads).ok_or_else(|| member(path(), reads))?,
            None => expected(value, *errno, own).ok_or_else(|| member(path(), text))?,
        };
        Ok(Trial {
            value,
            errno: *errno,
            reads,
        })
    });
    Ok(Register {
        id,
        trials: trials.collect::<Read<_>>()?,
        at_reset,
        differs_by_vcpu: file.differs_by_vcpu,
        write_back: file.write_back,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::made::{any_record, sorted};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_recorded_comes_back(record in any_record()) {
            let json = record.to_json().expect("JSON");
            prop_assert!(is_record(json.as_bytes()));
            let back = HostRecord::from_json(json.as_bytes()).expect("a recorded host");
            prop_assert_eq!(&back, &record);
            prop_assert_eq!(back.to_json().expect("JSON"), json);
        }

        /// Damaged files give an error or a record, and nothing else.
        #[test]
        fn damage_is_no_panic(record in any_record(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let mut json = record.to_json().expect("JSON").into_bytes();
            let at = at.index(json.len());
            json[at] = with;
            let _ = HostRecord::from_json(&json);
            // The last bytes are `}` and a line's end, which may be missing.
            json.truncate(at.min(json.len() - 2));
            prop_assert!(HostRecord::from_json(&json).is_err());
        }
    }

    /// One register for two guests, and one for one of them.
    fn made() -> String {
        let register = |id, at_reset| Register {
            id,
            at_reset,
            differs_by_vcpu: false,
            write_back: 0,
            trials: vec![Trial {
                value: 1,
                errno: 22,
                reads: 5,
            }],
        };
        let value = AtReset::Value(Value::Small(5));
        let guest = |more: Option<Register>| Guest {
            registers: sorted(
                [register(RegisterId::SCTLR_EL1, value.clone())]
                    .into_iter()
                    .chain(more),
            ),
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, 0xf)])),
        };
        let pmcr = register(RegisterId::PMCR_EL0, AtReset::Poison);
        let record = HostRecord {
            identity: Identity {
                emulated: true,
                ..Identity::default()
            },
            capabilities: BTreeMap::from([("KVM_CAP_ARM_PMU_V3".to_owned(), 1)]),
            guests: BTreeMap::from([
                (Features::NONE, guest(None)),
                (Features::PMU, guest(Some(pmcr))),
            ]),
        };
        record.to_json().expect("JSON")
    }

    #[test]
    fn what_guests_share_stands_there_once() {
        assert_eq!(
            made(),
            r#"{"schema":"cpreg.host/1",
"identity":{"release":"","version":"","midr":"0x0","cpu":"","mode":"","emulated":true},
"capabilities":{"KVM_CAP_ARM_PMU_V3":1},
"guests":[
{"features":"none","tells_writable":true},
{"features":"pmu","tells_writable":true}],
"registers":[
{"id":"0x603000000013c080","name":"SCTLR_EL1","at_reset":"0x5","trials":[["0x1",22]]},
{"id":"0x603000000013dce0","name":"PMCR_EL0","at_reset":"poison","trials":[["0x1",22,"0x5"]],"guests":["pmu"]}],
"writable":[
{"id":"0x603000000013c020","name":"ID_AA64PFR0_EL1","bits":"0xf"}]}
"#
        );
    }

    #[test]
    fn what_is_malformed_is_named() {
        let error = |from: &str, to: &str| {
            let json = made().replacen(from, to, 1);
            assert_ne!(json, made(), "{from}");
            let error = HostRecord::from_json(json.as_bytes()).expect_err("malformed");
            error.to_string()
        };
        let cannot = |path: &str, text: &str| {
            format!("recorded host: {path} holds `{text}`, which it cannot")
        };
        assert_eq!(
            error("\"0x5\"", "\"5\""),
            cannot("registers[0].at_reset", "5")
        );
        assert_eq!(
            error("\"at_reset\":\"0x5\",", ""),
            cannot("registers[0].at_reset", "")
        );
        assert_eq!(
            error("[[\"0x1\",22]]", "[[\"0x1\",22],[\"0x11\",0,\"y\"]]"),
            cannot("registers[0].trials[1]", "y")
        );
        assert_eq!(
            error(",\"0x5\"]]", "]]"),
            cannot("registers[1].trials[0]", "0x1")
        );
        assert_eq!(
            error("[\"pmu\"]", "[\"sve\"]"),
            cannot("registers[1].guests[0]", "sve")
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"avx\""),
            cannot("guests[1].features", "avx")
        );
        assert_eq!(
            error(
                "pmu\",\"tells_writable\":true",
                "pmu\",\"tells_writable\":false"
            ),
            cannot("writable[0].guests", "pmu")
        );
        assert_eq!(
            error("0x603000000013dce0", "0x603000000013c080"),
            "recorded host: registers[1] says a second time what SCTLR_EL1 for guests with the features pmu is"
        );
        assert_eq!(
            error("\"features\":\"pmu\"", "\"features\":\"none\""),
            "recorded host: guests[1].features says a second time what none is"
        );
        assert!(error("host/1", "host/9").contains("of schema `cpreg.host/9`"));
        assert!(
            HostRecord::from_json(b"{}")
                .expect_err("nothing in it")
                .to_string()
                .starts_with("not a recorded host: missing field `schema`")
        );
        assert!(is_record(&made().as_bytes()[..40]));
        assert!(!is_record(br#"{"schema": "cpreg.profile/1"}"#));
    }

    /// A small file cannot become a large thing.
    #[test]
    fn one_line_for_many_guests_is_bounded() {
        let mut trials = "[\"0x1\",0],".repeat(MOST_TRIALS / 2 + 1);
        trials.pop();
        let json = made().replacen("[\"0x1\",22]", &trials, 1);
        assert!((json.len() as u64) < MOST_BYTES);
        let error = HostRecord::from_json(json.as_bytes()).expect_err("too much");
        assert_eq!(
            error.to_string(),
            format!("recorded host: with registers[0] there are more than {MOST_TRIALS} trials")
        );
    }
}
