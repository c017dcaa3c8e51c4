//! Conversion of the comparison of `diff` to its model.

use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value, differing_fields};
use cpreg::vm::Content;

use super::Diff;
use super::model::{
    ComparedFile, CoreRegisterDifference, DiffReport, ExtensionDifference, OmissionCounts,
    OneSidedRegister, SCHEMA, ShapeDifference, ValueDifference,
};
use crate::contents::Contents;
use crate::field::FieldChange;
use crate::names::ContentsKind;
use crate::rows::RegisterRow;
use crate::text::hexadecimal;

impl From<&Diff<'_>> for DiffReport {
    fn from(diff: &Diff<'_>) -> Self {
        let shape = diff.shape.iter().map(|difference| ShapeDifference {
            kind: (&difference.part).into(),
            name: difference.part.name().map(str::to_owned),
            instance: difference.part.instance(),
            a: difference.source.clone(),
            b: difference.destination.clone(),
        });
        Self {
            schema: SCHEMA.to_owned(),
            equal: diff.is_equal(),
            all: diff.all,
            a: compared_file(diff.a),
            b: compared_file(diff.b),
            shape: shape.collect(),
            only_in_a: only(diff, &diff.only_in_a),
            only_in_b: only(diff, &diff.only_in_b),
            values: values(diff),
            core_registers: core_registers(diff),
            extensions: extensions(diff),
            omissions: OmissionCounts {
                registers: diff.omissions.registers,
                extensions: diff.omissions.extensions,
                registers_without_value: diff.omissions.registers_without_value,
                vcpus: diff.omissions.vcpus,
            },
        }
    }
}

fn compared_file(contents: &Contents) -> ComparedFile {
    let stream = contents.stream();
    ComparedFile {
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

fn is_hidden(diff: &Diff<'_>, id: RegisterId) -> bool {
    id.is_secret() && !diff.value_format.show_secrets
}

fn only(diff: &Diff<'_>, rows: &[RegisterRow]) -> Vec<OneSidedRegister> {
    let entry = |id: RegisterId, vcpus: &VcpuSet, value: &Option<Value>| OneSidedRegister {
        vcpus: vcpus.into(),
        id: id.into(),
        name: diff.value_format.name(id),
        value: value
            .as_ref()
            .and_then(|value| diff.value_format.value(id, value)),
        secret: is_hidden(diff, id).then_some(true),
    };
    rows.iter()
        .flat_map(|row| {
            let values = row.values.iter();
            values.map(|(vcpus, value)| entry(row.key, vcpus, value))
        })
        .collect()
}

fn values(diff: &Diff<'_>) -> Vec<ValueDifference> {
    let entry = |id: RegisterId, vcpus: &VcpuSet, a: &Value, b: &Value| {
        let fields = match (a.as_u64(), b.as_u64()) {
            (Some(a), Some(b)) if !is_hidden(diff, id) && !id.fields().is_empty() => {
                differing_fields(id, a, b).map(FieldChange::from).collect()
            }
            _ => Vec::new(),
        };
        ValueDifference {
            vcpus: vcpus.into(),
            id: id.into(),
            name: diff.value_format.name(id),
            a: diff.value_format.value(id, a),
            b: diff.value_format.value(id, b),
            secret: is_hidden(diff, id).then_some(true),
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

fn core_registers(diff: &Diff<'_>) -> Vec<CoreRegisterDifference> {
    diff.core_registers
        .iter()
        .flat_map(|row| {
            row.values
                .iter()
                .map(move |(vcpus, (a, b))| CoreRegisterDifference {
                    vcpus: vcpus.into(),
                    id: row.key.2.map(Into::into),
                    name: row.key.1.clone(),
                    a: a.map(Into::into),
                    b: b.map(Into::into),
                })
        })
        .collect()
}

fn extensions(diff: &Diff<'_>) -> Vec<ExtensionDifference> {
    let entry = |name: &str, vcpus: &VcpuSet, a: Option<&Content>, b: Option<&Content>| {
        ExtensionDifference {
            vcpus: vcpus.into(),
            name: name.to_owned(),
            a: a.map(hexadecimal),
            b: b.map(hexadecimal),
        }
    };
    let mut extensions = Vec::new();
    for row in &diff.extensions_only_in_a {
        for (vcpus, a) in &row.values {
            extensions.push(entry(&row.key, vcpus, Some(a), None));
        }
    }
    for row in &diff.extensions_only_in_b {
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
