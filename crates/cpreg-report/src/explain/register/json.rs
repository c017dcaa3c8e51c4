//! The answer about a register as its model.

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
    fn from(explained: &RegisterExplanation<'_>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            register: register(explained),
        }
    }
}

fn register(explained: &RegisterExplanation<'_>) -> Register {
    let id = explained.id;
    let names = id.implementation_defined_names();
    let names = names.map(|(name, cpus)| ImplementationDefinedName {
        name: name.to_owned(),
        cpus: cpus.split(',').map(str::to_owned).collect(),
    });
    let fields = explained.fields().into_iter().map(|field| FieldPosition {
        name: field.name().to_owned(),
        msb: field.msb(),
        lsb: field.lsb(),
    });
    let values = explained.named_values().into_iter();
    let values = values.map(|(field, value, name)| NamedValue {
        field: field.map(Field::name).map(str::to_owned),
        value: value.into(),
        name: name.to_owned(),
    });
    let hides = explained.hidden_by().map(|hides| FeatureGate {
        register: hides.id_register.to_string(),
        field: hides.field.to_owned(),
        since: hides.first_version.to_owned(),
    });
    let is_kvms = explained.is_kvm_register();
    let entries = explained.tolerances.iter();
    Register {
        id: id.into(),
        name: explained.name(),
        known: explained.is_named(),
        name_under_tcg: explained.name_under_tcg(),
        implementation_defined_names: names.collect(),
        encoding: explained.encoding(),
        qemu: QemuNames {
            kvm: explained.qemu_name(Accelerator::Kvm),
            tcg: explained.qemu_name(Accelerator::Tcg),
        },
        purpose: explained.purpose().map(str::to_owned),
        categories: categories(explained),
        scope: is_kvms.then(|| explained.scope().into()),
        accepted_values: is_kvms.then(|| explained.accepted_values().to_owned()),
        hidden_by: hides,
        secret: id.is_secret(),
        field: explained.field.map(|field| field.to_string()),
        fields: fields.collect(),
        named_values: values.collect(),
        value: value(explained),
        recordings: Recordings {
            source: host_index::SOURCE.to_owned(),
            kernels: explained.kernels.iter().map(kernel).collect(),
        },
        tolerances: entries.map(|(number, it)| entry(*number, it)).collect(),
    }
}

fn value(explained: &RegisterExplanation<'_>) -> Option<ExplainedValue> {
    let holding = explained.kernels_with_value()?.into_iter();
    Some(ExplainedValue {
        value: explained.value?.into(),
        meaning: explained.meaning().map(str::to_owned),
        fields: explained
            .decoded_fields()
            .iter()
            .map(FieldReport::from)
            .collect(),
        kernels_with_reset_value: holding.map(str::to_owned).collect(),
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

fn reset_value(kernels::ResetGroup { at_reset, guests }: &kernels::ResetGroup) -> ResetValue {
    let (value, without_value) = match at_reset {
        AtReset::Value(value) => (Some(value.to_string()), None),
        AtReset::Poison => (None, Some("poison".to_owned())),
        AtReset::Counter => (None, Some("counter".to_owned())),
        AtReset::Unreadable(errno) => (None, Some(format!("errno {errno}"))),
    };
    ResetValue {
        value,
        no_value_reason: without_value,
        guests: guests.clone(),
    }
}
