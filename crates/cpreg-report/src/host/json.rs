//! The answer of `show` about a recorded host as its model.

use cpreg::destination::Features;
use cpreg::register::Value;
use cpreg_hosts::HostRecord;
use cpreg_hosts::record;
use cpreg_hosts::record::AtReset;

use super::model::{
    self, Capability, Guest, Host, NotListed, OneGuest, Register, Report, SCHEMA, Trial,
};
use super::{Counts, ShownGuest, ShownHost, Takes};
use crate::field::{FieldReport, all_fields, meaning};
use crate::value::Printing;

impl From<&ShownHost<'_>> for Report {
    fn from(shown: &ShownHost<'_>) -> Self {
        let record = shown.record;
        let capabilities = record.capabilities.iter();
        let capabilities = capabilities.map(|(name, number)| Capability {
            name: name.clone(),
            number: *number,
        });
        let guests = record.guests.iter();
        let guest = shown.guest.as_ref();
        Self {
            schema: SCHEMA.to_owned(),
            host: record.into(),
            capabilities: capabilities.collect(),
            guests: guests
                .map(|(features, guest)| counted(*features, Counts::of(guest)))
                .collect(),
            guest: guest.map(|guest| one_guest(guest, shown.printing)),
        }
    }
}

impl From<&HostRecord> for Host {
    fn from(record: &HostRecord) -> Self {
        let identity = &record.identity;
        let mode = Some(&identity.mode).filter(|mode| !mode.is_empty());
        Self {
            name: identity.name(),
            release: identity.release.clone(),
            version: identity.version.clone(),
            cpu: identity.cpu.clone(),
            mode: mode.cloned(),
            midr: identity.midr.into(),
            emulated: identity.emulated,
        }
    }
}

/// Names of features.
pub(crate) fn names(features: Features) -> Vec<String> {
    features.names().map(str::to_owned).collect()
}

fn counted(features: Features, counts: Counts) -> Guest {
    Guest {
        features: names(features),
        registers: counts.registers,
        values: counts.values,
        poison: counts.poison,
        counters: counts.counters,
        unreadable: counts.unreadable,
        writable: counts.writable,
        tried: counts.tried,
    }
}

fn one_guest(guest: &ShownGuest<'_>, printing: Printing) -> OneGuest {
    let registers = guest.registers();
    let missing = guest.missing().map(|id| NotListed {
        id: id.into(),
        name: printing.name(id),
    });
    OneGuest {
        features: names(guest.features),
        registers: registers.map(|it| register(guest, it, printing)).collect(),
        not_listed: missing.collect(),
    }
}

fn register(guest: &ShownGuest<'_>, register: &record::Register, printing: Printing) -> Register {
    let id = register.id;
    let value = match &register.at_reset {
        AtReset::Value(Value::Small(value)) => Some(*value),
        _ => None,
    };
    let fields = value.filter(|_| guest.fields || !guest.wanted.is_empty());
    let fields = fields
        .map(|value| all_fields(id, value))
        .unwrap_or_default();
    let trials = register.trials.iter().map(|trial| Trial {
        value: trial.value.into(),
        errno: trial.errno,
        reads: trial.reads.into(),
    });
    Register {
        id: id.into(),
        name: printing.name(id),
        at_reset: at_reset(register, printing),
        differs_by_vcpu: register.differs_by_vcpu,
        write_back: register.write_back,
        writable: guest.writable(id).map(Into::into),
        takes: guest.takes(id).as_ref().map(Into::into),
        trials: trials.collect(),
        fields: fields.iter().map(FieldReport::from).collect(),
    }
}

fn at_reset(register: &record::Register, printing: Printing) -> model::AtReset {
    let mut at_reset = model::AtReset {
        is: (&register.at_reset).into(),
        value: None,
        secret: None,
        meaning: None,
        errno: None,
    };
    match &register.at_reset {
        AtReset::Value(value) => {
            at_reset.value = printing.value(register.id, value);
            at_reset.secret = at_reset.value.is_none().then_some(true);
            at_reset.meaning = meaning(register.id, value).filter(|_| at_reset.value.is_some());
        }
        AtReset::Unreadable(errno) => at_reset.errno = Some(*errno),
        AtReset::Poison | AtReset::Counts => {}
    }
    at_reset
}

impl From<&Takes> for model::Takes {
    fn from(takes: &Takes) -> Self {
        match takes {
            Takes::OneOf(values) => Self {
                one_of: Some(values.iter().copied().map(Into::into).collect()),
                subset_of: None,
            },
            Takes::Bits(bits) => Self {
                one_of: None,
                subset_of: Some((*bits).into()),
            },
        }
    }
}
