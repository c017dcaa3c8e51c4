//! [`HostRecord::from_json`], with limits on the size, because one line can describe many guests.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::hardware::{HardwareFact, HardwareFacts, VectorLengths};
use cpreg::register::{RegisterId, Value, parse_hexadecimal};

use super::model::{
    COUNTER, DOCUMENT, GuestJson, HostDocument, OLD_COUNTER, POISON, PhysicalCpuJson, RegisterJson,
    TrialJson, WritableMaskJson, is_supported,
};
use crate::accepted_field_json;
use crate::error::{Error, ErrorKind};
use crate::hardware::contradictory_fact;
use crate::record::register::{expected_read_back, reset_value};
use crate::record::{
    AtReset, GuestRecord, HostRecord, Identity, PhysicalCpu, RegisterRecord, WriteTrial,
};
use crate::schema;

/// Maximum length of a file in bytes.
pub const MAX_DOCUMENT_LEN: u64 = 16 << 20;
/// Maximum number of registers of all guests together.
pub const MAX_REGISTERS: usize = 1 << 17;
/// Maximum number of trials of all registers of all guests together.
pub const MAX_TRIALS: usize = 1 << 20;

impl HostRecord {
    /// Parses the JSON document.
    ///
    /// # Errors
    /// Returns an error if the document is not JSON, has another schema or a malformed member, or
    /// exceeds a limit.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Error> {
        let document: HostDocument = match serde_json::from_slice(bytes) {
            Ok(document) => document,
            Err(error) => {
                // cpreg does not know the members of another version, so report the version
                // instead.
                return Err(match schema::parse_name(bytes) {
                    Some(schema) if !is_supported(&schema) => DOCUMENT.schema_error(&schema),
                    _ => DOCUMENT.json_error(error),
                });
            }
        };
        if !is_supported(&document.schema) {
            return Err(DOCUMENT.schema_error(&document.schema));
        }
        DocumentReader::default().read(&document)
    }
}

/// State of reading a document.
#[derive(Default)]
struct DocumentReader {
    /// Features by their names in the document.
    guests: BTreeMap<String, Features>,
    registers: BTreeMap<Features, BTreeMap<RegisterId, RegisterRecord>>,
    writable: BTreeMap<Features, Option<BTreeMap<RegisterId, u64>>>,
    register_count: usize,
    trial_count: usize,
}

type ReadResult<T> = Result<T, Error>;

/// Returns the error for an element that the document contains twice.
fn duplicate_error(path: String, element: &str) -> Error {
    let message = format!("recorded host: {path} repeats {element}");
    Error::new(ErrorKind::Duplicate, message).with_path(path)
}

/// Checks that KVM_REG_ARM64_SVE_VLS and the member `hardware` have the same vector lengths.
fn check_vector_lengths(
    guests: &BTreeMap<Features, GuestRecord>,
    hardware: HardwareFacts,
) -> ReadResult<()> {
    let registers = guests.values().flat_map(|guest| &guest.registers);
    let sets = registers.filter_map(|register| match &register.at_reset {
        AtReset::Value(value) if register.id == RegisterId::SVE_VLS => {
            VectorLengths::from_value(value)
        }
        _ => None,
    });
    for lengths in sets {
        if let Some(stated) = hardware.vector_lengths
            && stated != lengths
        {
            return Err(contradictory_fact(
                DOCUMENT.name,
                HardwareFact::VectorLengths,
                stated.bits().into(),
                "registers: KVM_REG_ARM64_SVE_VLS",
                lengths.bits().into(),
            ));
        }
    }
    Ok(())
}

/// Returns the kind of CPU at this index.
fn read_cpu(at: usize, cpu: &PhysicalCpuJson) -> ReadResult<PhysicalCpu> {
    let parse = |member: &str, text: &str| {
        parse_hexadecimal(text)
            .ok_or_else(|| DOCUMENT.member_error(format!("identity.cpus[{at}].{member}"), text))
    };
    Ok(PhysicalCpu {
        midr: parse("midr", &cpu.midr)?,
        revidr: parse("revidr", &cpu.revidr)?,
        ctr: parse("ctr", &cpu.ctr)?,
        count: cpu.count,
    })
}

impl DocumentReader {
    fn read(mut self, document: &HostDocument) -> ReadResult<HostRecord> {
        let identity = &document.identity;
        let midr = parse_hexadecimal(&identity.midr)
            .ok_or_else(|| DOCUMENT.member_error("identity.midr", &identity.midr))?;
        for (at, guest) in document.guests.iter().enumerate() {
            self.read_guest(at, guest)?;
        }
        for (at, register) in document.registers.iter().enumerate() {
            self.read_register(at, register)?;
        }
        for (at, writable) in document.writable.iter().enumerate() {
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
        let guests: BTreeMap<_, _> = guests.collect();
        let hardware = document.hardware.as_ref();
        let hardware = hardware.map(|hardware| hardware.to_facts(DOCUMENT.name));
        let hardware = hardware.transpose()?.unwrap_or_default();
        check_vector_lengths(&guests, hardware)?;
        Ok(HostRecord {
            identity: Identity {
                release: identity.release.clone(),
                version: identity.version.clone(),
                midr,
                cpu: identity.cpu.clone(),
                mode: identity.mode.clone(),
                emulated: identity.emulated,
                cpus: identity
                    .cpus
                    .iter()
                    .enumerate()
                    .map(|(at, cpu)| read_cpu(at, cpu))
                    .collect::<ReadResult<_>>()?,
            },
            capabilities: document.capabilities.clone(),
            guests,
            hardware,
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

    /// Returns the guests that a line describes.
    fn guest_features(
        &self,
        names: Option<&[String]>,
        path: impl Fn() -> String,
    ) -> ReadResult<Vec<Features>> {
        let Some(names) = names else {
            return Ok(self.guests.values().copied().collect());
        };
        let features = names.iter().enumerate().map(|(number, name)| {
            let features = self.guests.get(name).copied();
            features
                .ok_or_else(|| DOCUMENT.member_error(format!("{}.guests[{number}]", path()), name))
        });
        features.collect()
    }

    fn read_register(&mut self, at: usize, json: &RegisterJson) -> ReadResult<()> {
        let line = || format!("registers[{at}]");
        let path = |name: &str| format!("registers[{at}].{name}");
        let register = parse_register(json, path)?;
        for features in self.guest_features(json.guests.as_deref(), line)? {
            self.register_count += 1;
            let fields = register.fields.as_ref().map_or(0, Vec::len);
            self.trial_count = self
                .trial_count
                .saturating_add(register.trials.len())
                .saturating_add(fields);
            let limits = [
                (self.register_count, MAX_REGISTERS, "registers"),
                (self.trial_count, MAX_TRIALS, "trials"),
            ];
            for (count, limit, elements) in limits {
                if count > limit {
                    let line = line();
                    let message =
                        format!("recorded host: {line} exceeds the limit of {limit} {elements}");
                    return Err(Error::new(ErrorKind::TooLarge, message).with_path(line));
                }
            }
            let registers = self.registers.entry(features).or_default();
            if registers.insert(register.id, register.clone()).is_some() {
                let element = format!("{} for guests with the features {features}", register.id);
                return Err(duplicate_error(line(), &element));
            }
        }
        Ok(())
    }

    fn read_writable_mask(&mut self, at: usize, json: &WritableMaskJson) -> ReadResult<()> {
        let line = || format!("writable[{at}]");
        let id = parse_hexadecimal(&json.id)
            .ok_or_else(|| DOCUMENT.member_error(line() + ".id", &json.id))?;
        let id = RegisterId::from_raw(id);
        let bits = parse_hexadecimal(&json.bits)
            .ok_or_else(|| DOCUMENT.member_error(line() + ".bits", &json.bits))?;
        for features in self.guest_features(json.guests.as_deref(), line)? {
            let Some(Some(masks)) = self.writable.get_mut(&features) else {
                let text = features.to_string();
                return Err(DOCUMENT.member_error(line() + ".guests", &text));
            };
            if masks.insert(id, bits).is_some() {
                let element = format!("writable of {id} for guests with the features {features}");
                return Err(duplicate_error(line(), &element));
            }
        }
        Ok(())
    }
}

/// Parses one line of `registers`; `path` returns the path of one of its members.
fn parse_register(
    json: &RegisterJson,
    path: impl Fn(&str) -> String,
) -> ReadResult<RegisterRecord> {
    let id =
        parse_hexadecimal(&json.id).ok_or_else(|| DOCUMENT.member_error(path("id"), &json.id))?;
    let id = RegisterId::from_raw(id);
    let at_reset = match (json.at_reset.as_deref(), json.errno) {
        (Some(POISON), None) => AtReset::Poison,
        (Some(COUNTER | OLD_COUNTER), None) => AtReset::Counter,
        (Some(text), None) => {
            let value = Value::parse(id, text)
                .ok_or_else(|| DOCUMENT.member_error(path("at_reset"), text))?;
            AtReset::Value(value)
        }
        (None, Some(errno)) => AtReset::Unreadable(errno),
        (Some(text), Some(_)) => return Err(DOCUMENT.member_error(path("at_reset"), text)),
        (None, None) => return Err(DOCUMENT.member_error(path("at_reset"), "")),
    };
    let reset_value = reset_value(&at_reset);
    let trials = json.trials.iter().enumerate().map(|(number, trial)| {
        let TrialJson(text, errno, read_back) = trial;
        let path = || path(&format!("trials[{number}]"));
        let value = parse_hexadecimal(text).ok_or_else(|| DOCUMENT.member_error(path(), text))?;
        let read_back = match read_back {
            Some(text) => {
                parse_hexadecimal(text).ok_or_else(|| DOCUMENT.member_error(path(), text))?
            }
            None => expected_read_back(value, *errno, reset_value)
                .ok_or_else(|| DOCUMENT.member_error(path(), text))?,
        };
        Ok(WriteTrial {
            value,
            errno: *errno,
            read_back,
        })
    });
    let trials = trials.collect::<ReadResult<_>>()?;
    let fields = json.fields.as_ref();
    let fields = fields.map(|fields| {
        accepted_field_json::parse_fields(DOCUMENT, fields, |number| {
            path(&format!("fields[{number}]"))
        })
    });
    Ok(RegisterRecord {
        id,
        trials,
        fields: fields.transpose()?,
        at_reset,
        differs_by_vcpu: json.differs_by_vcpu,
        write_back: json.write_back,
    })
}
