//! The answer of `diff` as its model.

use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value, differing_fields};
use cpreg::vm::Content;

use super::Diff;
use super::model::{Core, Differing, Extension, LeftOut, Only, Report, SCHEMA, Shape, Side};
use crate::contents::Contents;
use crate::field::FieldChange;
use crate::names::ContentsKind;
use crate::rows::RegisterRow;
use crate::text::hexadecimal;

impl From<&Diff<'_>> for Report {
    fn from(diff: &Diff<'_>) -> Self {
        let shape = diff.shape.iter().map(|difference| Shape {
            what: difference.what.clone(),
            a: difference.source.clone(),
            b: difference.destination.clone(),
        });
        Self {
            schema: SCHEMA.to_owned(),
            equal: diff.is_equal(),
            all: diff.all,
            a: side(diff.a),
            b: side(diff.b),
            shape: shape.collect(),
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
}

fn side(contents: &Contents) -> Side {
    let stream = contents.stream();
    Side {
        name: contents.name.clone(),
        kind: if stream.is_some() {
            ContentsKind::STREAM
        } else {
            ContentsKind::PROFILE
        },
        machine: contents.machine().map(str::to_owned),
        vcpus: contents.vcpus().len(),
        accelerator: contents.destination.accelerator.map(Into::into),
        run_state: stream.and_then(|stream| stream.run_state.clone()),
    }
}

fn hidden(diff: &Diff<'_>, id: RegisterId) -> bool {
    id.is_secret() && !diff.printing.secrets
}

fn only(diff: &Diff<'_>, rows: &[RegisterRow]) -> Vec<Only> {
    let entry = |id: RegisterId, vcpus: &VcpuSet, value: &Option<Value>| Only {
        vcpus: vcpus.into(),
        id: id.into(),
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
                differing_fields(id, a, b).map(FieldChange::from).collect()
            }
            _ => Vec::new(),
        };
        Differing {
            vcpus: vcpus.into(),
            id: id.into(),
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
    diff.cores
        .iter()
        .flat_map(|row| {
            row.values.iter().map(move |(vcpus, (a, b))| Core {
                vcpus: vcpus.into(),
                id: row.key.2.map(Into::into),
                name: row.key.1.clone(),
                a: a.map(Into::into),
                b: b.map(Into::into),
            })
        })
        .collect()
}

fn extensions(diff: &Diff<'_>) -> Vec<Extension> {
    let entry = |name: &str, vcpus: &VcpuSet, a: Option<&Content>, b: Option<&Content>| Extension {
        vcpus: vcpus.into(),
        name: name.to_owned(),
        a: a.map(hexadecimal),
        b: b.map(hexadecimal),
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
