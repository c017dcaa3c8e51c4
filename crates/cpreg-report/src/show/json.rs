//! The answer of `show` as its model.

use cpreg::register::Value;
use cpreg::vm::Content;

use super::ContentsView;
use super::model::{
    CoreRegister, Device, Extension, MissingRegister, RamBlock, Register, SCHEMA, ShowReport,
    VcpuState,
};
use crate::contents::Origin;
use crate::field::{FieldReport, FieldValue, meaning};
use crate::names::ContentsKind;

impl From<&ContentsView<'_>> for ShowReport {
    fn from(shown: &ContentsView<'_>) -> Self {
        let contents = shown.contents;
        let shape = contents.destination.shape.clone().unwrap_or_default();
        let recorded = match &contents.origin {
            Origin::Profile(recorded) | Origin::Host(recorded) => Some((**recorded).clone()),
            _ => None,
        };
        let report = match &contents.origin {
            Origin::Report { report, .. } => Some(report.clone()),
            _ => None,
        };
        let kind = match &contents.origin {
            Origin::Stream(_) => ContentsKind::STREAM,
            Origin::Report { .. } => ContentsKind::REPORT,
            Origin::Running { .. } => ContentsKind::RUNNING,
            Origin::Profile(_) | Origin::Host(_) => ContentsKind::PROFILE,
        };
        let ram = shape.ram.into_iter().map(|block| RamBlock {
            name: block.name,
            length: block.length.into(),
        });
        let devices = shape.devices.into_iter().map(|device| Device {
            name: device.name,
            instance: device.instance,
            version: device.version,
        });
        let not_listed = shown
            .missing_registers()
            .into_iter()
            .map(|id| MissingRegister {
                id: id.into(),
                name: shown.value_format.name(id),
            });
        Self {
            schema: SCHEMA.to_owned(),
            name: contents.name.clone(),
            kind,
            compression: contents.compression.map(str::to_owned),
            machine: shape.machine,
            accelerator: contents.destination.accelerator.map(Into::into),
            vcpus: contents.vcpus().len(),
            values: contents.destination.value_origin.into(),
            ram: ram.collect(),
            devices: devices.collect(),
            stream: contents.stream().cloned(),
            origin: recorded,
            report,
            vcpu_states: vcpu_states(shown),
            registers: registers(shown),
            missing_registers: not_listed.collect(),
            extensions: extensions(shown),
        }
    }
}

fn vcpu_states(shown: &ContentsView<'_>) -> Vec<VcpuState> {
    let mut cores = Vec::new();
    for (number, core) in &shown.vcpu_states {
        let chosen: Vec<_> = core
            .registers
            .iter()
            .filter(|register| shown.selection.is_empty() || shown.is_selected(register))
            .map(|register| CoreRegister {
                name: register.name.clone(),
                id: register.id.map(Into::into),
                value: register.value.into(),
                fields: register
                    .id
                    .map(|id| fields(&shown.selected_fields(id, register.value)))
                    .unwrap_or_default(),
            })
            .collect();
        if chosen.is_empty() {
            continue;
        }
        cores.push(VcpuState {
            vcpu: *number,
            power: core.power.to_owned(),
            mode: core.mode.clone(),
            registers: chosen,
        });
    }
    cores
}

fn registers(shown: &ContentsView<'_>) -> Vec<Register> {
    let mut registers = Vec::new();
    for row in &shown.registers {
        let id = row.key;
        let hidden = id.is_secret() && !shown.value_format.show_secrets;
        for (vcpus, value) in &row.values {
            let visible = value.as_ref().filter(|_| !hidden);
            registers.push(Register {
                vcpus: vcpus.into(),
                id: id.into(),
                name: shown.value_format.name(id),
                value: visible.map(ToString::to_string),
                secret: hidden.then_some(true),
                meaning: visible.and_then(|value| meaning(id, value)),
                fields: visible
                    .and_then(Value::as_u64)
                    .map(|value| fields(&shown.selected_fields(id, value)))
                    .unwrap_or_default(),
            });
        }
    }
    registers
}

fn fields(fields: &[FieldValue]) -> Vec<FieldReport> {
    fields.iter().map(FieldReport::from).collect()
}

fn extensions(shown: &ContentsView<'_>) -> Vec<Extension> {
    let mut extensions = Vec::new();
    for row in &shown.extensions {
        for (vcpus, content) in &row.values {
            let (number, bytes) = match content {
                Content::Number(number) => (Some((*number).into()), None),
                Content::Bytes(bytes) => (None, Some(hex::encode(bytes))),
            };
            extensions.push(Extension {
                vcpus: vcpus.into(),
                name: row.key.clone().into_owned(),
                number,
                bytes,
            });
        }
    }
    extensions
}
