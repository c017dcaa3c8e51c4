//! [`HostRecord::to_json`], which writes a register once if several guests share its content.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use serde::Serialize;

use super::model::{
    COUNTER, DOCUMENT, GuestJson, IdentityJson, POISON, PhysicalCpuJson, RegisterJson, SCHEMA,
    TrialJson, WritableMaskJson,
};
use crate::accepted_field_json::AcceptedFieldJson;
use crate::error::Error;
use crate::hardware::HardwareJson;
use crate::record::register::{expected_read_back, reset_value};
use crate::record::{AtReset, HostRecord, Identity, RegisterRecord};

impl HostRecord {
    /// Returns the file: registers in the order of their ids, one per line.
    ///
    /// # Errors
    /// Returns an error if JSON cannot represent the record, which does not happen.
    pub fn to_json(&self) -> Result<String, Error> {
        self.write().map_err(|error| DOCUMENT.json_error(error))
    }

    fn write(&self) -> serde_json::Result<String> {
        let identity = serde_json::to_string(&IdentityJson::from_identity(&self.identity))?;
        let capabilities = serde_json::to_string(&self.capabilities)?;
        let hardware = match self.hardware {
            HardwareFacts::UNKNOWN => String::new(),
            facts => {
                let json = serde_json::to_string(&HardwareJson::from_facts(facts))?;
                format!("\"hardware\":{json},\n")
            }
        };
        let guests = self.guests.iter().map(|(features, guest)| GuestJson {
            features: features.to_string(),
            has_writable_masks: guest.writable.is_some(),
        });
        let registers = self.group_registers().into_iter();
        let registers = registers.flat_map(|(id, contents)| {
            let contents = contents.into_iter();
            contents.map(move |(register, guests)| {
                RegisterJson::new(id, register, self.guest_names(&guests))
            })
        });
        let masks = self.group_masks().into_iter();
        let writable = masks.flat_map(|(id, masks)| {
            let masks = masks.into_iter();
            masks.map(move |(bits, guests)| WritableMaskJson {
                id: format_id(id),
                name: id.to_string(),
                bits: format!("{bits:#x}"),
                guests: self.guest_names(&guests),
            })
        });
        let (guests, registers, writable) = (
            join_lines(guests)?,
            join_lines(registers)?,
            join_lines(writable)?,
        );
        Ok(format!(
            "{{\"schema\":\"{SCHEMA}\",\n\"identity\":{identity},\n\"capabilities\":{capabilities},\n\
             {hardware}\"guests\":[{guests}],\n\"registers\":[{registers}],\n\"writable\":[{writable}]}}\n"
        ))
    }

    /// Returns the different contents of each register, with the guests that have them.
    fn group_registers(&self) -> BTreeMap<RegisterId, Vec<(&RegisterRecord, Vec<Features>)>> {
        let mut all: BTreeMap<RegisterId, Vec<(&RegisterRecord, Vec<Features>)>> = BTreeMap::new();
        for (features, guest) in &self.guests {
            for register in &guest.registers {
                let contents = all.entry(register.id).or_default();
                match contents.iter_mut().find(|(known, _)| *known == register) {
                    Some((_, guests)) => guests.push(*features),
                    None => contents.push((register, vec![*features])),
                }
            }
        }
        all
    }

    /// Returns the different writable bits of each ID register, with the guests that have them.
    fn group_masks(&self) -> BTreeMap<RegisterId, BTreeMap<u64, Vec<Features>>> {
        let mut all: BTreeMap<RegisterId, BTreeMap<u64, Vec<Features>>> = BTreeMap::new();
        for (features, guest) in &self.guests {
            for (id, bits) in guest.writable.iter().flatten() {
                let masks = all.entry(*id).or_default();
                masks.entry(*bits).or_default().push(*features);
            }
        }
        all
    }

    /// Returns the names of the guests, or `None` for all guests.
    fn guest_names(&self, guests: &[Features]) -> Option<Vec<String>> {
        let names = || guests.iter().map(ToString::to_string).collect();
        (guests.len() != self.guests.len()).then(names)
    }
}

/// Returns the elements of an array, one per line.
fn join_lines<T: Serialize>(elements: impl Iterator<Item = T>) -> serde_json::Result<String> {
    let mut text = String::new();
    for element in elements {
        text.push_str(if text.is_empty() { "\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(&element)?);
    }
    Ok(text)
}

/// Formats an id with all 16 digits, as in all JSON of cpreg.
fn format_id(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

impl IdentityJson {
    fn from_identity(identity: &Identity) -> Self {
        Self {
            release: identity.release.clone(),
            version: identity.version.clone(),
            midr: format!("{:#x}", identity.midr),
            cpu: identity.cpu.clone(),
            mode: identity.mode.clone(),
            emulated: identity.emulated,
            cpus: identity
                .cpus
                .iter()
                .map(|cpu| PhysicalCpuJson {
                    midr: format!("{:#x}", cpu.midr),
                    revidr: format!("{:#x}", cpu.revidr),
                    ctr: format!("{:#x}", cpu.ctr),
                    count: cpu.count,
                })
                .collect(),
        }
    }
}

impl RegisterJson {
    fn new(id: RegisterId, register: &RegisterRecord, guests: Option<Vec<String>>) -> Self {
        let reset_value = reset_value(&register.at_reset);
        let (at_reset, errno) = match &register.at_reset {
            AtReset::Value(value) => (Some(value.to_string()), None),
            AtReset::Poison => (Some(POISON.to_owned()), None),
            AtReset::Counter => (Some(COUNTER.to_owned()), None),
            AtReset::Unreadable(errno) => (None, Some(*errno)),
        };
        let trials = register.trials.iter().map(|trial| {
            let is_expected =
                expected_read_back(trial.value, trial.errno, reset_value) == Some(trial.read_back);
            let read_back = (!is_expected).then(|| format!("{:#x}", trial.read_back));
            TrialJson(format!("{:#x}", trial.value), trial.errno, read_back)
        });
        Self {
            id: format_id(id),
            name: id.to_string(),
            at_reset,
            errno,
            differs_by_vcpu: register.differs_by_vcpu,
            write_back: register.write_back,
            trials: trials.collect(),
            fields: register
                .fields
                .as_ref()
                .map(|fields| fields.iter().map(AcceptedFieldJson::from_field).collect()),
            guests,
        }
    }
}
