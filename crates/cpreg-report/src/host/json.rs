//! Conversion of the view of a recorded host to its model.

use cpreg::destination::Features;
use cpreg::register::Value;
use cpreg_hosts::HostRecord;
use cpreg_hosts::hardware::HardwareJson;
use cpreg_hosts::record;
use cpreg_hosts::record::AtReset;

use super::model::{
    self, Capability, GuestRegisters, GuestSummary, HostIdentity, HostReport, MissingRegister,
    PhysicalCpu, Register, SCHEMA, Trial,
};
use super::{GuestCounts, GuestView, HostView, TestedValues};
use crate::field::{FieldReport, decode_fields, meaning};
use crate::value::ValueFormat;

impl From<&HostView<'_>> for HostReport {
    fn from(view: &HostView<'_>) -> Self {
        let record = view.record;
        let capabilities = record.capabilities.iter();
        let capabilities = capabilities.map(|(name, number)| Capability {
            name: name.clone(),
            number: *number,
        });
        let guests = record.guests.iter();
        let guest = view.guest.as_ref();
        Self {
            schema: SCHEMA.to_owned(),
            host: record.into(),
            capabilities: capabilities.collect(),
            hardware: HardwareJson::from_facts(record.hardware),
            guests: guests
                .map(|(features, guest)| guest_summary(*features, GuestCounts::from_guest(guest)))
                .collect(),
            guest: guest.map(|guest| guest_registers(guest, view.value_format)),
        }
    }
}

impl From<&HostRecord> for HostIdentity {
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
            cpus: identity
                .cpus
                .iter()
                .map(|cpu| PhysicalCpu {
                    midr: cpu.midr.into(),
                    revidr: cpu.revidr.into(),
                    ctr: cpu.ctr.into(),
                    count: cpu.count,
                })
                .collect(),
        }
    }
}

/// Returns the names of the vCPU features in a set, as JSON has them.
pub(crate) fn feature_names(features: Features) -> Vec<String> {
    features.names().map(str::to_owned).collect()
}

fn guest_summary(features: Features, counts: GuestCounts) -> GuestSummary {
    GuestSummary {
        features: feature_names(features),
        registers: counts.registers,
        values: counts.values,
        poison: counts.poison,
        counters: counts.counters,
        unreadable: counts.unreadable,
        writable: counts.writable,
        tried_registers: counts.tried_registers,
    }
}

fn guest_registers(guest: &GuestView<'_>, value_format: ValueFormat) -> GuestRegisters {
    let registers = guest.registers();
    let missing = guest.missing_registers().map(|id| MissingRegister {
        id: id.into(),
        name: value_format.name(id),
    });
    GuestRegisters {
        features: feature_names(guest.features),
        registers: registers
            .map(|record| register(guest, record, value_format))
            .collect(),
        missing_registers: missing.collect(),
    }
}

fn register(
    guest: &GuestView<'_>,
    register: &record::RegisterRecord,
    value_format: ValueFormat,
) -> Register {
    let id = register.id;
    let value = match &register.at_reset {
        AtReset::Value(Value::U64(value)) => Some(*value),
        _ => None,
    };
    let fields = value.filter(|_| guest.show_fields || !guest.selection.is_empty());
    let fields = fields
        .map(|value| decode_fields(id, value))
        .unwrap_or_default();
    let trials = register.trials.iter().map(|trial| Trial {
        value: trial.value.into(),
        errno: trial.errno,
        read_back: trial.read_back.into(),
    });
    Register {
        id: id.into(),
        name: value_format.name(id),
        at_reset: at_reset(register, value_format),
        differs_by_vcpu: register.differs_by_vcpu,
        write_back_errno: register.write_back,
        writable: guest.writable(id).map(Into::into),
        accepted_values: guest.accepted_values(id).as_ref().map(Into::into),
        trials: trials.collect(),
        fields: fields.iter().map(FieldReport::from).collect(),
    }
}

fn at_reset(register: &record::RegisterRecord, value_format: ValueFormat) -> model::AtReset {
    let mut at_reset = model::AtReset {
        kind: (&register.at_reset).into(),
        value: None,
        secret: None,
        meaning: None,
        errno: None,
    };
    match &register.at_reset {
        AtReset::Value(value) => {
            at_reset.value = value_format.value(register.id, value);
            at_reset.secret = at_reset.value.is_none().then_some(true);
            at_reset.meaning = meaning(register.id, value).filter(|_| at_reset.value.is_some());
        }
        AtReset::Unreadable(errno) => at_reset.errno = Some(*errno),
        AtReset::Poison | AtReset::Counter => {}
    }
    at_reset
}

impl From<&TestedValues> for model::AcceptedValues {
    fn from(values: &TestedValues) -> Self {
        match values {
            TestedValues::OneOf(values) => Self {
                one_of: Some(values.iter().copied().map(Into::into).collect()),
                subset_of: None,
            },
            TestedValues::Bits(bits) => Self {
                one_of: None,
                subset_of: Some((*bits).into()),
            },
        }
    }
}
