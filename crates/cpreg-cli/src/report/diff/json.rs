//! The JSON of `diff`, schema `cpreg.diff/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::destination::Accelerator;
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value, differing_fields};
use serde::Serialize;

use super::Diff;
use crate::report::contents::{Contents, ExtensionContent, RegisterRow};
use crate::report::field_change::FieldChange;
use crate::report::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.diff/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    equal: bool,
    all: bool,
    a: Side,
    b: Side,
    shape: Vec<Shape>,
    only_in_a: Vec<Only>,
    only_in_b: Vec<Only>,
    values: Vec<Differing>,
    cores: Vec<Core>,
    extensions: Vec<Extension>,
    left_out: LeftOut,
}

#[derive(Serialize)]
struct Side {
    name: String,
    kind: &'static str,
    machine: Option<String>,
    vcpus: usize,
    accelerator: Option<&'static str>,
    run_state: Option<String>,
}

#[derive(Serialize)]
struct Shape {
    what: String,
    a: Option<String>,
    b: Option<String>,
}

#[derive(Serialize)]
struct Only {
    vcpus: String,
    id: String,
    name: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
}

#[derive(Serialize)]
struct Differing {
    vcpus: String,
    id: String,
    name: String,
    a: Option<String>,
    b: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    fields: Vec<FieldChange>,
}

#[derive(Serialize)]
struct Core {
    vcpus: String,
    id: Option<String>,
    name: String,
    a: Option<String>,
    b: Option<String>,
}

#[derive(Serialize)]
struct Extension {
    vcpus: String,
    name: String,
    a: Option<String>,
    b: Option<String>,
}

#[derive(Serialize)]
struct LeftOut {
    registers: usize,
    extensions: usize,
    without_value: usize,
    vcpus: usize,
}

/// The answer as one JSON document.
pub(crate) fn report(diff: &Diff<'_>) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&document(diff))?;
    text.push('\n');
    Ok(text)
}

fn document(diff: &Diff<'_>) -> Report {
    Report {
        schema: SCHEMA,
        equal: diff.is_equal(),
        all: diff.all,
        a: side(diff.a),
        b: side(diff.b),
        shape: diff
            .shape
            .iter()
            .map(|difference| Shape {
                what: difference.what.clone(),
                a: difference.source.clone(),
                b: difference.destination.clone(),
            })
            .collect(),
        only_in_a: only(diff, &diff.only_a),
        only_in_b: only(diff, &diff.only_b),
        values: values(diff),
        cores: cores(diff),
        extensions: extensions(diff),
        left_out: LeftOut {
            registers: diff.left_out.registers,
            extensions: diff.left_out.extensions,
            without_value: diff.left_out.unknown,
            vcpus: diff.left_out.vcpus,
        },
    }
}

fn side(contents: &Contents<'_>) -> Side {
    let stream = contents.stream();
    Side {
        name: contents.input.name(),
        kind: if stream.is_some() {
            "stream"
        } else {
            "profile"
        },
        machine: contents.machine().map(str::to_owned),
        vcpus: contents.vcpus().len(),
        accelerator: contents.destination.accelerator.map(Accelerator::name),
        run_state: stream
            .and_then(|stream| stream.run_state())
            .map(str::to_owned),
    }
}

fn hidden(diff: &Diff<'_>, id: RegisterId) -> bool {
    id.is_secret() && !diff.printing.secrets
}

fn only(diff: &Diff<'_>, rows: &[RegisterRow]) -> Vec<Only> {
    let entry = |id: RegisterId, vcpus: &VcpuSet, value: &Option<Value>| Only {
        vcpus: vcpus.to_string(),
        id: id_digits(id),
        name: diff.printing.name(id),
        value: value
            .as_ref()
            .and_then(|value| diff.printing.value(id, value)),
        secret: hidden(diff, id).then_some(true),
    };
    rows.iter()
        .flat_map(|row| {
            let values = row.values.iter();
            values.map(|(vcpus, value)| entry(row.key, vcpus, value))
        })
        .collect()
}

fn values(diff: &Diff<'_>) -> Vec<Differing> {
    let entry = |id: RegisterId, vcpus: &VcpuSet, a: &Value, b: &Value| {
        let fields = match (a.as_u64(), b.as_u64()) {
            (Some(a), Some(b)) if !hidden(diff, id) && !id.fields().is_empty() => {
                differing_fields(id, a, b).map(FieldChange::of).collect()
            }
            _ => Vec::new(),
        };
        Differing {
            vcpus: vcpus.to_string(),
            id: id_digits(id),
            name: diff.printing.name(id),
            a: diff.printing.value(id, a),
            b: diff.printing.value(id, b),
            secret: hidden(diff, id).then_some(true),
            fields,
        }
    };
    diff.values
        .iter()
        .flat_map(|row| {
            let values = row.values.iter();
            values.map(|(vcpus, (a, b))| entry(row.key, vcpus, a, b))
        })
        .collect()
}

fn cores(diff: &Diff<'_>) -> Vec<Core> {
    let number = |value: &Option<u64>| value.map(|value| format!("{value:#x}"));
    diff.cores
        .iter()
        .flat_map(|row| {
            row.values.iter().map(move |(vcpus, (a, b))| Core {
                vcpus: vcpus.to_string(),
                id: row.key.2.map(id_digits),
                name: row.key.1.clone(),
                a: number(a),
                b: number(b),
            })
        })
        .collect()
}

fn extensions(diff: &Diff<'_>) -> Vec<Extension> {
    let entry = |name: &str,
                 vcpus: &VcpuSet,
                 a: Option<&ExtensionContent>,
                 b: Option<&ExtensionContent>| {
        Extension {
            vcpus: vcpus.to_string(),
            name: name.to_owned(),
            a: a.map(ExtensionContent::hexadecimal),
            b: b.map(ExtensionContent::hexadecimal),
        }
    };
    let mut extensions = Vec::new();
    for row in &diff.extensions_only_a {
        for (vcpus, a) in &row.values {
            extensions.push(entry(&row.key, vcpus, Some(a), None));
        }
    }
    for row in &diff.extensions_only_b {
        for (vcpus, b) in &row.values {
            extensions.push(entry(&row.key, vcpus, None, Some(b)));
        }
    }
    for row in &diff.extensions {
        for (vcpus, (a, b)) in &row.values {
            extensions.push(entry(&row.key, vcpus, Some(a), Some(b)));
        }
    }
    extensions
}
