//! [`HostRecord::to_json`]: what several guests share is written once.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg::destination::Features;
use cpreg::register::RegisterId;

use super::file::{
    COUNTS, DOCUMENT, GuestFile, IdentityFile, POISON, RegisterFile, SCHEMA, TrialFile,
    WritableFile,
};
use crate::error::Error;
use crate::record::register::{expected, own_value};
use crate::record::{AtReset, HostRecord, Identity, Register};

impl HostRecord {
    /// Writes it: registers of a guest in the order of their ids.
    ///
    /// # Errors
    /// If JSON cannot hold it, which no record brings about.
    pub fn to_json(&self) -> Result<String, Error> {
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
        write().map_err(|error| DOCUMENT.not_json(error))
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
