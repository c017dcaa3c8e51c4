//! [`HostRecord::from_json`], bounded: what one line says of many guests takes many times its room
//! once it is read.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, parse_hexadecimal};

use super::model::{
    COUNTER, DOCUMENT, GuestJson, HostDocument, POISON, RegisterJson, SCHEMA, TrialJson,
    WritableMaskJson,
};
use crate::error::{Error, ErrorKind};
use crate::record::register::{expected_read_back, reset_value};
use crate::record::{AtReset, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial};
use crate::schema;

/// No file is larger.
pub const MAX_DOCUMENT_LEN: u64 = 16 << 20;
/// The most registers of all guests together.
pub const MAX_REGISTERS: usize = 1 << 17;
/// The most trials of all registers of all guests together.
pub const MAX_TRIALS: usize = 1 << 20;

impl HostRecord {
    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, a member is malformed, or there is more in it than any recording has.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let file: HostDocument = match serde_json::from_slice(bytes) {
            Ok(file) => file,
            Err(error) => {
                // Of another version nothing more is known than that.
                return Err(match schema::parse_name(bytes) {
                    Some(schema) if schema != SCHEMA => DOCUMENT.schema_error(&schema),
                    _ => DOCUMENT.json_error(error),
                });
            }
        };
        if file.schema != SCHEMA {
            return Err(DOCUMENT.schema_error(&file.schema));
        }
        DocumentReader::default().read(&file)
    }
}

/// What is read so far.
#[derive(Default)]
struct DocumentReader {
    /// By the names that the file uses.
    guests: BTreeMap<String, Features>,
    registers: BTreeMap<Features, BTreeMap<RegisterId, RegisterRecord>>,
    writable: BTreeMap<Features, Option<BTreeMap<RegisterId, u64>>>,
    register_count: usize,
    trial_count: usize,
}

type ReadResult<T> = Result<T, Error>;

/// Returns the error for something that is said a second time.
fn duplicate_error(path: String, what: &str) -> Error {
    let message = format!("recorded host: {path} says a second time what {what} is");
    Error::new(ErrorKind::Duplicate, message).with_path(path)
}

impl DocumentReader {
    fn read(mut self, file: &HostDocument) -> ReadResult<HostRecord> {
        let identity = &file.identity;
        let midr = parse_hexadecimal(&identity.midr)
            .ok_or_else(|| DOCUMENT.member_error("identity.midr", &identity.midr))?;
        for (at, guest) in file.guests.iter().enumerate() {
            self.read_guest(at, guest)?;
        }
        for (at, register) in file.registers.iter().enumerate() {
            self.read_register(at, register)?;
        }
        for (at, writable) in file.writable.iter().enumerate() {
            self.read_writable_mask(at, writable)?;
        }
        let mut registers = self.registers;
        let guests = self.writable.into_iter().map(|(features, writable)| {
            let registers = registers.remove(&features).unwrap_or_default();
            let guest = GuestRecord {
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

    fn read_guest(&mut self, at: usize, guest: &GuestJson) -> ReadResult<()> {
        let path = || format!("guests[{at}].features");
        let features = Features::from_names(&guest.features)
            .ok_or_else(|| DOCUMENT.member_error(path(), &guest.features))?;
        let writable = guest.has_writable_masks.then(BTreeMap::new);
        if self.writable.insert(features, writable).is_some() {
            return Err(duplicate_error(path(), &guest.features));
        }
        self.guests.insert(guest.features.clone(), features);
        Ok(())
    }

    /// The guests that a line is about.
    fn guest_features(
        &self,
        names: Option<&[String]>,
        path: impl Fn() -> String,
    ) -> ReadResult<Vec<Features>> {
        let Some(names) = names else {
            return Ok(self.guests.values().copied().collect());
        };
        let named = names.iter().enumerate().map(|(number, name)| {
            let known = self.guests.get(name).copied();
            known.ok_or_else(|| DOCUMENT.member_error(format!("{}.guests[{number}]", path()), name))
        });
        named.collect()
    }

    fn read_register(&mut self, at: usize, file: &RegisterJson) -> ReadResult<()> {
        let line = || format!("registers[{at}]");
        let path = |name: &str| format!("registers[{at}].{name}");
        let register = parse_register(file, path)?;
        for features in self.guest_features(file.guests.as_deref(), line)? {
            self.register_count += 1;
            self.trial_count = self.trial_count.saturating_add(register.trials.len());
            let limits = [
                (self.register_count, MAX_REGISTERS, "registers"),
                (self.trial_count, MAX_TRIALS, "trials"),
            ];
            for (count, most, what) in limits {
                if count > most {
                    let line = line();
                    let message =
                        format!("recorded host: with {line} there are more than {most} {what}");
                    return Err(Error::new(ErrorKind::TooLarge, message).with_path(line));
                }
            }
            let own = self.registers.entry(features).or_default();
            if own.insert(register.id, register.clone()).is_some() {
                let what = format!("{} for guests with the features {features}", register.id);
                return Err(duplicate_error(line(), &what));
            }
        }
        Ok(())
    }

    fn read_writable_mask(&mut self, at: usize, file: &WritableMaskJson) -> ReadResult<()> {
        let line = || format!("writable[{at}]");
        let id = parse_hexadecimal(&file.id)
            .ok_or_else(|| DOCUMENT.member_error(line() + ".id", &file.id))?;
        let id = RegisterId::from_raw(id);
        let bits = parse_hexadecimal(&file.bits)
            .ok_or_else(|| DOCUMENT.member_error(line() + ".bits", &file.bits))?;
        let all = self.guest_features(file.guests.as_deref(), line)?;
        for features in all {
            let Some(Some(masks)) = self.writable.get_mut(&features) else {
                let text = features.to_string();
                return Err(DOCUMENT.member_error(line() + ".guests", &text));
            };
            if masks.insert(id, bits).is_some() {
                let what = format!("writable of {id} for guests with the features {features}");
                return Err(duplicate_error(line(), &what));
            }
        }
        Ok(())
    }
}

/// What one line says of a register; `path` gives that of one of its members.
fn parse_register(
    file: &RegisterJson,
    path: impl Fn(&str) -> String,
) -> ReadResult<RegisterRecord> {
    let id =
        parse_hexadecimal(&file.id).ok_or_else(|| DOCUMENT.member_error(path("id"), &file.id))?;
    let id = RegisterId::from_raw(id);
    let at_reset = match (file.at_reset.as_deref(), file.errno) {
        (Some(POISON), None) => AtReset::Poison,
        (Some(COUNTER), None) => AtReset::Counter,
        (Some(text), None) => {
            let value = Value::parse(id, text)
                .ok_or_else(|| DOCUMENT.member_error(path("at_reset"), text))?;
            AtReset::Value(value)
        }
        (None, Some(errno)) => AtReset::Unreadable(errno),
        (Some(text), Some(_)) => return Err(DOCUMENT.member_error(path("at_reset"), text)),
        (None, None) => return Err(DOCUMENT.member_error(path("at_reset"), "")),
    };
    let own = reset_value(&at_reset);
    let trials = file.trials.iter().enumerate().map(|(number, trial)| {
        let TrialJson(text, errno, reads) = trial;
        let path = || path(&format!("trials[{number}]"));
        let value = parse_hexadecimal(text).ok_or_else(|| DOCUMENT.member_error(path(), text))?;
        let reads = match reads {
            Some(reads) => {
                parse_hexadecimal(reads).ok_or_else(|| DOCUMENT.member_error(path(), reads))?
            }
            None => expected_read_back(value, *errno, own)
                .ok_or_else(|| DOCUMENT.member_error(path(), text))?,
        };
        Ok(WriteTrial {
            value,
            errno: *errno,
            read_back: reads,
        })
    });
    Ok(RegisterRecord {
        id,
        trials: trials.collect::<ReadResult<_>>()?,
        at_reset,
        differs_by_vcpu: file.differs_by_vcpu,
        write_back: file.write_back,
    })
}
