//! Conversion of the explanation of a register to its model.

use cpreg::destination::Accelerator;
use cpreg::register::Field;
use cpreg_hosts::host_index;
use cpreg_hosts::record::AtReset;

use super::RegisterExplanation;
use super::kernels::{self, KernelSummary};
use super::model::{
    ExplainRegisterReport, ExplainedValue, FeatureGate, FieldPosition, ImplementationDefinedName,
    KernelReport, NamedValue, QemuNames, Recordings, Register, ResetValue, SCHEMA, WritableBits,
};
use super::text::categories;
use crate::field::FieldReport;
use crate::tolerance::json::entry;

impl From<&RegisterExplanation<'_>> for ExplainRegisterReport {
    fn from(explanation: &RegisterExplanation<'_>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            register: register(explanation),
        }
    }
}

fn register(explanation: &RegisterExplanation<'_>) -> Register {
    let id = explanation.id;
    let names = id.implementation_defined_names();
    let names = names.map(|(name, cpus)| ImplementationDefinedName {
        name: name.to_owned(),
        cpus: cpus.split(',').map(str::to_owned).collect(),
    });
    let fields = explanation.fields().into_iter().map(|field| FieldPosition {
        name: field.name().to_owned(),
        msb: field.msb(),
        lsb: field.lsb(),
    });
    let values = explanation.named_values().into_iter();
    let values = values.map(|(field, value, name)| NamedValue {
        field: field.map(Field::name).map(str::to_owned),
        value: value.into(),
        name: name.to_owned(),
    });
    let hidden_by = explanation.hidden_by().map(|gate| FeatureGate {
        register: gate.id_register.to_string(),
        field: gate.field.to_owned(),
        minimum: gate.min,
        since: gate.first_version.to_owned(),
    });
    let is_kvm_register = explanation.is_kvm_register();
    let entries = explanation.tolerances.iter();
    Register {
        id: id.into(),
        name: explanation.name(),
        known: explanation.is_named(),
        name_under_tcg: explanation.name_under_tcg(),
        implementation_defined_names: names.collect(),
        encoding: explanation.encoding(),
        qemu: QemuNames {
            kvm: explanation.qemu_name(Accelerator::Kvm),
            tcg: explanation.qemu_name(Accelerator::Tcg),
        },
        purpose: explanation.purpose().map(str::to_owned),
        categories: categories(explanation),
        scope: is_kvm_register.then(|| explanation.scope().into()),
        accepted_values: is_kvm_register.then(|| explanation.accepted_values().to_owned()),
        hidden_by,
        secret: id.is_secret(),
        field: explanation.field.map(|field| field.to_string()),
        fields: fields.collect(),
        named_values: values.collect(),
        value: value(explanation),
        recordings: Recordings {
            source: host_index::RECORDING_ORIGIN.to_owned(),
            kernels: explanation.kernels.iter().map(kernel).collect(),
        },
        tolerances: entries.map(|(number, it)| entry(*number, it)).collect(),
    }
}

fn value(explanation: &RegisterExplanation<'_>) -> Option<ExplainedValue> {
    let kernels = explanation.kernels_with_value()?.into_iter();
    Some(ExplainedValue {
        value: explanation.value?.into(),
        meaning: explanation.meaning().map(str::to_owned),
        fields: explanation
            .decoded_fields()
            .iter()
            .map(FieldReport::from)
            .collect(),
        kernels_with_reset_value: kernels.map(str::to_owned).collect(),
    })
}

fn kernel(row: &KernelSummary<'_>) -> KernelReport {
    let writable = row.observations.writable.iter().map(|it| WritableBits {
        mask: it.mask.into(),
        guests: it.guests.clone(),
    });
    KernelReport {
        version: row.kernel.version.clone(),
        release: row.kernel.release.clone(),
        package: row.kernel.package.clone(),
        recordings: row.recordings,
        listed_recordings: row.listed_recordings,
        guests: row.observations.guests.clone(),
        values: row.observations.values.iter().map(reset_value).collect(),
        writable: writable.collect(),
        write_back_errnos: row.observations.write_back_errnos.clone(),
    }
}

pub(crate) fn reset_value(
    kernels::ResetGroup { at_reset, guests }: &kernels::ResetGroup,
) -> ResetValue {
    let (value, no_value_reason) = match at_reset {
        AtReset::Value(value) => (Some(value.to_string()), None),
        AtReset::Poison => (None, Some("poison".to_owned())),
        AtReset::Counter => (None, Some("counter".to_owned())),
        AtReset::Unreadable(errno) => (None, Some(format!("errno {errno}"))),
    };
    ResetValue {
        value,
        no_value_reason,
        guests: guests.clone(),
    }
}
