//! What is known about a register as JSON, schema `cpreg.explain/1`. Documented in docs/json.md.

use cpreg::destination::Accelerator;
use cpreg::destination::kernel::Scope;
use cpreg::register::{Field, Value};
use cpreg_hosts::history::{self, AtReset};
use serde::Serialize;

use super::Explained;
use super::kernels::{Held, Row, Writable};
use super::text::categories;
use crate::field::FieldReport as FieldValueReport;
use crate::tolerance::json::{Entry, report as entry};
use crate::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.explain/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    register: Register,
}

#[derive(Serialize)]
struct Register {
    id: String,
    name: String,
    known: bool,
    name_under_tcg: Option<String>,
    implementation_defined: Vec<ImplementationDefined>,
    encoding: Option<String>,
    qemu: Said,
    purpose: Option<&'static str>,
    categories: Vec<String>,
    scope: Option<&'static str>,
    takes: Option<&'static str>,
    hidden_by: Option<HiddenBy>,
    secret: bool,
    field: Option<String>,
    fields: Vec<FieldReport>,
    named_values: Vec<NamedValue>,
    value: Option<ValueReport>,
    recorded: Recorded,
    tolerances: Vec<Entry>,
}

#[derive(Serialize)]
struct ImplementationDefined {
    name: &'static str,
    cpus: Vec<&'static str>,
}

#[derive(Serialize)]
struct Said {
    kvm: Option<String>,
    tcg: Option<String>,
}

#[derive(Serialize)]
struct HiddenBy {
    register: String,
    field: &'static str,
    since: &'static str,
}

#[derive(Serialize)]
struct FieldReport {
    name: &'static str,
    msb: u8,
    lsb: u8,
}

#[derive(Serialize)]
struct NamedValue {
    field: Option<&'static str>,
    value: String,
    name: &'static str,
}

#[derive(Serialize)]
struct ValueReport {
    value: String,
    meaning: Option<&'static str>,
    fields: Vec<FieldValueReport>,
    at_reset_on: Vec<String>,
}

#[derive(Serialize)]
struct Recorded {
    source: &'static str,
    kernels: Vec<Kernel>,
}

#[derive(Serialize)]
struct Kernel {
    version: String,
    release: String,
    package: String,
    recordings: usize,
    listed: usize,
    guests: Option<String>,
    values: Vec<AtResetReport>,
    writable: Vec<WritableReport>,
    write_back_errnos: Vec<u16>,
}

#[derive(Serialize)]
struct AtResetReport {
    value: Option<String>,
    without_value: Option<String>,
    guests: String,
}

#[derive(Serialize)]
struct WritableReport {
    mask: String,
    guests: String,
}

/// The whole document.
///
/// # Errors
/// If JSON cannot hold it, which no answer brings about.
pub fn report(explained: &Explained<'_>) -> Result<String, serde_json::Error> {
    let id = explained.id;
    let entries = explained.tolerances.iter();
    let register = Register {
        id: id_digits(id),
        name: explained.name(),
        known: explained.is_named(),
        name_under_tcg: explained.name_under_tcg(),
        implementation_defined: id
            .implementation_defined_names()
            .map(|(name, cpus)| ImplementationDefined {
                name,
                cpus: cpus.split(',').collect(),
            })
            .collect(),
        encoding: explained.encoding(),
        qemu: Said {
            kvm: explained.said(Accelerator::Kvm),
            tcg: explained.said(Accelerator::Tcg),
        },
        purpose: explained.purpose(),
        categories: categories(explained),
        scope: explained.is_kvms().then(|| match explained.scope() {
            Scope::Vcpu => "vcpu",
            Scope::Vm => "vm",
            Scope::Running => "vm-running",
        }),
        takes: explained.is_kvms().then(|| explained.takes()),
        hidden_by: explained.hidden_by().map(|hides| HiddenBy {
            register: hides.by.to_string(),
            field: hides.field,
            since: hides.since,
        }),
        secret: id.is_secret(),
        field: explained.field.map(|field| field.to_string()),
        fields: explained.fields().into_iter().map(field).collect(),
        named_values: explained
            .named_values()
            .into_iter()
            .map(|(field, value, name)| NamedValue {
                field: field.map(Field::name),
                value: format!("{value:#x}"),
                name,
            })
            .collect(),
        value: value(explained),
        recorded: Recorded {
            source: history::SOURCE,
            kernels: explained.kernels.iter().map(kernel).collect(),
        },
        tolerances: entries.map(|(number, it)| entry(*number, it)).collect(),
    };
    let report = Report {
        schema: SCHEMA,
        register,
    };
    serde_json::to_string_pretty(&report).map(|text| text + "\n")
}

fn field(field: Field) -> FieldReport {
    FieldReport {
        name: field.name(),
        msb: field.msb(),
        lsb: field.lsb(),
    }
}

fn value(explained: &Explained<'_>) -> Option<ValueReport> {
    let decoded = explained.decoded().into_iter();
    Some(ValueReport {
        value: format!("{:#x}", explained.value?),
        meaning: explained.meaning(),
        fields: decoded.map(|it| FieldValueReport::from(&it)).collect(),
        at_reset_on: explained
            .held_by()?
            .into_iter()
            .map(str::to_owned)
            .collect(),
    })
}

fn kernel(row: &Row<'_>) -> Kernel {
    Kernel {
        version: row.kernel.version.clone(),
        release: row.kernel.release.clone(),
        package: row.kernel.package.clone(),
        recordings: row.recordings,
        listed: row.listed,
        guests: row.says.guests.clone(),
        values: row.says.values.iter().map(at_reset).collect(),
        writable: row
            .says
            .writable
            .iter()
            .map(|Writable { mask, guests }| WritableReport {
                mask: format!("{mask:#x}"),
                guests: guests.clone(),
            })
            .collect(),
        write_back_errnos: row.says.write_back.clone(),
    }
}

fn at_reset(Held { at_reset, guests }: &Held) -> AtResetReport {
    let number = |value: &Value| Some(value.to_string());
    let (value, without_value) = match at_reset {
        AtReset::Value(value) => (number(value), None),
        AtReset::Poison => (None, Some("poison".to_owned())),
        AtReset::Counts => (None, Some("counts".to_owned())),
        AtReset::Unreadable(errno) => (None, Some(format!("errno {errno}"))),
    };
    AtResetReport {
        value,
        without_value,
        guests: guests.clone(),
    }
}
