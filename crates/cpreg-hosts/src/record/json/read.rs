//! [`HostRecord::from_json`], bounded: what one line says of many guests takes many times its room
//! once it is read.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value, parse_hexadecimal};

use super::file::{
    COUNTS, DOCUMENT, File, GuestFile, POISON, RegisterFile, SCHEMA, TrialFile, WritableFile,
};
use crate::error::{Error, ErrorKind};
use crate::record::register::{expected, own_value};
use crate::record::{AtReset, Guest, HostRecord, Identity, Register, Trial};
use crate::schema;

/// No file is larger.
pub const MOST_BYTES: u64 = 16 << 20;
/// The most registers of all guests together.
pub const MOST_REGISTERS: usize = 1 << 17;
/// The most trials of all registers of all guests together.
pub const MOST_TRIALS: usize = 1 << 20;

impl HostRecord {
    /// Reads one.
    ///
    /// # Errors
    /// If it is not JSON, of another schema, a member is malformed, or there is more in it than any recording has.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let file: File = match serde_json::from_slice(bytes) {
            Ok(file) => file,
            Err(error) => {
                // Of another version nothing more is known than that.
                return Err(match schema::of(bytes) {
                    Some(schema) if schema != SCHEMA => DOCUMENT.other_schema(&schema),
                    _ => DOCUMENT.not_json(error),
                });
            }
        };
        if file.schema != SCHEMA {
            return Err(DOCUMENT.other_schema(&file.schema));
        }
        Reading::default().read(&file)
    }
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

type Read<T> = Result<T, Error>;

/// Returns the error for something that is said a second time.
fn duplicate(path: String, what: &str) -> Error {
    let message = format!("recorded host: {path} says a second time what {what} is");
    Error::new(ErrorKind::Duplicate, message).at(path)
}

impl Reading {
    fn read(mut self, file: &File) -> Read<HostRecord> {
        let identity = &file.identity;
        let midr = parse_hexadecimal(&identity.midr)
            .ok_or_else(|| DOCUMENT.member("identity.midr", &identity.midr))?;
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
        let features = Features::from_names(&guest.features)
            .ok_or_else(|| DOCUMENT.member(path(), &guest.features))?;
        let writable = guest.tells_writable.then(BTreeMap::new);
        if self.writable.insert(features, writable).is_some() {
            return Err(duplicate(path(), &guest.features));
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
            known.ok_or_else(|| DOCUMENT.member(format!("{}.guests[{number}]", path()), name))
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
                    let line = line();
                    let message =
                        format!("recorded host: with {line} there are more than {most} {what}");
                    return Err(Error::new(ErrorKind::TooLarge, message).at(line));
                }
            }
            let own = self.registers.entry(features).or_default();
            if own.insert(register.id, register.clone()).is_some() {
                let what = format!("{} for guests with the features {features}", register.id);
                return Err(duplicate(line(), &what));
            }
        }
        Ok(())
    }

    fn writable(&mut self, at: usize, file: &WritableFile) -> Read<()> {
        let line = || format!("writable[{at}]");
        let id =
            parse_hexadecimal(&file.id).ok_or_else(|| DOCUMENT.member(line() + ".id", &file.id))?;
        let id = RegisterId::from_raw(id);
        let bits = parse_hexadecimal(&file.bits)
            .ok_or_else(|| DOCUMENT.member(line() + ".bits", &file.bits))?;
        let all = self.which(file.guests.as_deref(), line)?;
        for features in all {
            let Some(Some(masks)) = self.writable.get_mut(&features) else {
                let text = features.to_string();
                return Err(DOCUMENT.member(line() + ".guests", &text));
            };
            if masks.insert(id, bits).is_some() {
                let what = format!("writable of {id} for guests with the features {features}");
                return Err(duplicate(line(), &what));
            }
        }
        Ok(())
    }
}

/// What one line says of a register; `path` gives that of one of its members.
fn register(file: &RegisterFile, path: impl Fn(&str) -> String) -> Read<Register> {
    let id = parse_hexadecimal(&file.id).ok_or_else(|| DOCUMENT.member(path("id"), &file.id))?;
    let id = RegisterId::from_raw(id);
    let at_reset = match (file.at_reset.as_deref(), file.errno) {
        (Some(POISON), None) => AtReset::Poison,
        (Some(COUNTS), None) => AtReset::Counts,
        (Some(text), None) => {
            let value =
                Value::parse(id, text).ok_or_else(|| DOCUMENT.member(path("at_reset"), text))?;
            AtReset::Value(value)
        }
        (None, Some(errno)) => AtReset::Unreadable(errno),
        (Some(text), Some(_)) => return Err(DOCUMENT.member(path("at_reset"), text)),
        (None, None) => return Err(DOCUMENT.member(path("at_reset"), "")),
    };
    let own = own_value(&at_reset);
    let trials = file.trials.iter().enumerate().map(|(number, trial)| {
        let TrialFile(text, errno, reads) = trial;
        let path = || path(&format!("trials[{number}]"));
        let value = parse_hexadecimal(text).ok_or_else(|| DOCUMENT.member(path(), text))?;
        let reads = match reads {
            Some(reads) => {
                parse_hexadecimal(reads).ok_or_else(|| DOCUMENT.member(path(), reads))?
            }
            None => expected(value, *errno, own).ok_or_else(|| DOCUMENT.member(path(), text))?,
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
