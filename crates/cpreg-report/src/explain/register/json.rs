//! The answer about a register as its model.

use cpreg::destination::Accelerator;
use cpreg::register::Field;
use cpreg_hosts::history;
use cpreg_hosts::record::AtReset;

use super::Explained;
use super::kernels::{self, Row};
use super::model::{
    Bits, Held, HiddenBy, ImplementationDefined, Kernel, NamedValue, QemuNames, Recorded, Register,
    Report, SCHEMA, Value, Writable,
};
use super::text::categories;
use crate::field::FieldReport;
use crate::tolerance::json::entry;

impl From<&Explained<'_>> for Report {
    fn from(explained: &Explained<'_>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            register: register(explained),
        }
    }
}

fn register(explained: &Explained<'_>) -> Register {
    let id = explained.id;
    let names = id.implementation_defined_names();
    let names = names.map(|(name, cpus)| ImplementationDefined {
        name: name.to_owned(),
        cpus: cpus.split(',').map(str::to_owned).collect(),
    });
    let fields = explained.fields().into_iter().map(|field| Bits {
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
    let hides = explained.hidden_by().map(|hides| HiddenBy {
        register: hides.by.to_string(),
        field: hides.field.to_owned(),
        since: hides.since.to_owned(),
    });
    let is_kvms = explained.is_kvms();
    let entries = explained.tolerances.iter();
    Register {
        id: id.into(),
        name: explained.name(),
        known: explained.is_named(),
        name_under_tcg: explained.name_under_tcg(),
        implementation_defined: names.collect(),
        encoding: explained.encoding(),
        qemu: QemuNames {
            kvm: explained.said(Accelerator::Kvm),
            tcg: explained.said(Accelerator::Tcg),
        },
        purpose: explained.purpose().map(str::to_owned),
        categories: categories(explained),
        scope: is_kvms.then(|| explained.scope().into()),
        takes: is_kvms.then(|| explained.takes().to_owned()),
        hidden_by: hides,
        secret: id.is_secret(),
        field: explained.field.map(|field| field.to_string()),
        fields: fields.collect(),
        named_values: values.collect(),
        value: value(explained),
        recorded: Recorded {
            source: history::SOURCE.to_owned(),
            kernels: explained.kernels.iter().map(kernel).collect(),
        },
        tolerances: entries.map(|(number, it)| entry(*number, it)).collect(),
    }
}

fn value(explained: &Explained<'_>) -> Option<Value> {
    let holding = explained.held_by()?.into_iter();
    Some(Value {
        value: explained.value?.into(),
        meaning: explained.meaning().map(str::to_owned),
        fields: explained.decoded().iter().map(FieldReport::from).collect(),
        at_reset_on: holding.map(str::to_owned).collect(),
    })
}

fn kernel(row: &Row<'_>) -> Kernel {
    let writable = row.says.writable.iter().map(|it| Writable {
        mask: it.mask.into(),
        guests: it.guests.clone(),
    });
    Kernel {
        version: row.kernel.version.clone(),
        release: row.kernel.release.clone(),
        package: row.kernel.package.clone(),
        recordings: row.recordings,
        listed: row.listed,
        guests: row.says.guests.clone(),
        values: row.says.values.iter().map(held).collect(),
        writable: writable.collect(),
        write_back_errnos: row.says.write_back.clone(),
    }
}

fn held(kernels::Held { at_reset, guests }: &kernels::Held) -> Held {
    let (value, without_value) = match at_reset {
        AtReset::Value(value) => (Some(value.to_string()), None),
        AtReset::Poison => (None, Some("poison".to_owned())),
        AtReset::Counts => (None, Some("counts".to_owned())),
        AtReset::Unreadable(errno) => (None, Some(format!("errno {errno}"))),
    };
    Held {
        value,
        without_value,
        guests: guests.clone(),
    }
}
