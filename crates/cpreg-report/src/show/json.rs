//! Conversion of the view of `show` to its model.

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
    fn from(view: &ContentsView<'_>) -> Self {
        let contents = view.contents;
        let shape = contents.destination.shape.clone().unwrap_or_default();
        let origin = match &contents.origin {
            Origin::Profile(origin) | Origin::Host(origin) => Some((**origin).clone()),
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
            Origin::Snapshot => ContentsKind::SNAPSHOT,
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
        let missing = view
            .missing_registers()
            .into_iter()
            .map(|id| MissingRegister {
                id: id.into(),
                name: view.value_format.name(id),
            });
        Self {
            schema: SCHEMA.to_owned(),
            name: contents.name.clone(),
            kind,
            compression: contents.compression.map(str::to_owned),
            container: contents.container.clone(),
            machine: shape.machine,
            accelerator: contents.destination.accelerator.map(Into::into),
            vcpus: contents.vcpus().len(),
            values: contents.destination.value_origin.into(),
            ram: ram.collect(),
            devices: devices.collect(),
            stream: contents.stream().cloned(),
            origin,
            report,
            vcpu_states: vcpu_states(view),
            registers: registers(view),
            missing_registers: missing.collect(),
            extensions: extensions(view),
        }
    }
}

fn vcpu_states(view: &ContentsView<'_>) -> Vec<VcpuState> {
    let mut states = Vec::new();
    for (number, state) in &view.vcpu_states {
        let selected: Vec<_> = state
            .registers
            .iter()
            .filter(|register| view.selection.is_empty() || view.is_selected(register))
            .map(|register| CoreRegister {
                name: register.name.clone(),
                id: register.id.map(Into::into),
                value: register.value.into(),
                fields: register
                    .id
                    .map(|id| fields(&view.selected_fields(id, register.value)))
                    .unwrap_or_default(),
            })
            .collect();
        if selected.is_empty() {
            continue;
        }
        states.push(VcpuState {
            vcpu: *number,
            power: state.power.to_owned(),
            mode: state.mode.clone(),
            registers: selected,
        });
    }
    states
}

fn registers(view: &ContentsView<'_>) -> Vec<Register> {
    let mut registers = Vec::new();
    for row in &view.registers {
        let id = row.key;
        let is_hidden = id.is_secret() && !view.value_format.show_secrets;
        for (vcpus, value) in &row.values {
            let visible = value.as_ref().filter(|_| !is_hidden);
            registers.push(Register {
                vcpus: vcpus.into(),
                id: id.into(),
                name: view.value_format.name(id),
                value: visible.map(ToString::to_string),
                secret: is_hidden.then_some(true),
                meaning: visible.and_then(|value| meaning(id, value)),
                fields: visible
                    .and_then(Value::as_u64)
                    .map(|value| fields(&view.selected_fields(id, value)))
                    .unwrap_or_default(),
            });
        }
    }
    registers
}

fn fields(fields: &[FieldValue]) -> Vec<FieldReport> {
    fields.iter().map(FieldReport::from).collect()
}

fn extensions(view: &ContentsView<'_>) -> Vec<Extension> {
    let mut extensions = Vec::new();
    for row in &view.extensions {
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
