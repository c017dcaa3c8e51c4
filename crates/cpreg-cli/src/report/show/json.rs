//! The JSON of `show`, schema `cpreg.show/1`; documented in docs/json.md. 64-bit values are strings, `"0x…"`.

use cpreg::destination::{Accelerator, ValuesAre};
use cpreg::register::Value;
use cpreg_hosts::profile::Recorded;
use cpreg_hosts::report::{Blanked, Host};
use cpreg_qemu::Stream;
use serde::Serialize;

use super::{FieldValue, Shown, meaning};
use crate::input::Content;
use crate::report::contents::{ExtensionContent, uuid};
use crate::report::field_value::FieldReport;
use crate::report::general;
use crate::report::value::id_digits;

/// The schema's name and version.
const SCHEMA: &str = "cpreg.show/1";

#[derive(Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "what is shown may be called a report"
)]
struct Report {
    schema: &'static str,
    name: String,
    kind: &'static str,
    packed: Option<&'static str>,
    machine: Option<String>,
    accelerator: Option<&'static str>,
    vcpus: usize,
    values: &'static str,
    ram: Vec<Ram>,
    devices: Vec<Device>,
    stream: Option<StreamReport>,
    recorded: Option<Recorded>,
    report: Option<ReportReport>,
    cores: Vec<Core>,
    registers: Vec<Register>,
    not_listed: Vec<NotListed>,
    extensions: Vec<Extension>,
}

#[derive(Serialize)]
struct Ram {
    name: String,
    length: String,
}

#[derive(Serialize)]
struct Device {
    name: String,
    instance: u32,
    version: u32,
}

#[derive(Serialize)]
struct StreamReport {
    opened: String,
    length: String,
    run_state: Option<String>,
    target_page_bits: Option<u32>,
    capabilities: Vec<String>,
    uuid: Option<String>,
    live: Vec<Device>,
    package: Option<Place>,
    description: Option<Place>,
    described_exactly: bool,
    ram_records: Option<Records>,
}

#[derive(Serialize)]
struct ReportReport {
    cpreg: String,
    host: Option<Host>,
    blanked: Blanked,
}

#[derive(Serialize)]
struct Place {
    offset: String,
    length: String,
}

#[derive(Serialize)]
struct Records {
    zero: u64,
    page: u64,
    xbzrle: u64,
    compressed: u64,
}

#[derive(Serialize)]
struct Core {
    vcpu: usize,
    power: &'static str,
    mode: String,
    registers: Vec<CoreRegister>,
}

#[derive(Serialize)]
struct CoreRegister {
    name: String,
    id: Option<String>,
    value: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldReport>,
}

#[derive(Serialize)]
struct Register {
    vcpus: String,
    id: String,
    name: String,
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<bool>,
    meaning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<FieldReport>,
}

#[derive(Serialize)]
struct NotListed {
    id: String,
    name: String,
}

#[derive(Serialize)]
struct Extension {
    vcpus: String,
    name: String,
    number: Option<String>,
    bytes: Option<String>,
}

/// The answer as one JSON document.
pub(crate) fn report(shown: &Shown<'_>) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&document(shown))?;
    text.push('\n');
    Ok(text)
}

fn document(shown: &Shown<'_>) -> Report {
    let contents = shown.contents;
    let shape = contents.destination.shape.clone().unwrap_or_default();
    let (stream, recorded) = match &contents.input.content {
        Content::Stream(stream) => (Some(stream_report(stream)), None),
        Content::Profile(profile) => (None, Some(profile.recorded.clone())),
        Content::Host(_) => (None, None),
    };
    Report {
        schema: SCHEMA,
        name: contents.input.name(),
        kind: if contents.input.report.is_some() {
            "report"
        } else if contents.input.running.is_some() {
            "running"
        } else if stream.is_some() {
            "stream"
        } else {
            "profile"
        },
        packed: contents.input.packed,
        machine: shape.machine,
        accelerator: contents.destination.accelerator.map(Accelerator::name),
        vcpus: contents.vcpus().len(),
        values: match contents.destination.values {
            ValuesAre::AtReset => "at-reset",
            ValuesAre::OfAGuest => "of-a-guest",
            ValuesAre::OfAnEmulatedHost => "of-an-emulated-host",
        },
        ram: shape
            .ram
            .into_iter()
            .map(|block| Ram {
                name: block.name,
                length: hexadecimal(block.length),
            })
            .collect(),
        devices: shape
            .devices
            .into_iter()
            .map(|device| Device {
                name: device.name,
                instance: device.instance,
                version: device.version,
            })
            .collect(),
        stream,
        recorded,
        report: contents.input.report.as_ref().map(|report| ReportReport {
            cpreg: report.cpreg.clone(),
            host: report.host.clone(),
            blanked: report.blanked.clone(),
        }),
        cores: cores(shown),
        registers: registers(shown),
        not_listed: shown
            .missing()
            .into_iter()
            .map(|id| NotListed {
                id: id_digits(id),
                name: shown.printing.name(id),
            })
            .collect(),
        extensions: extensions(shown),
    }
}

fn hexadecimal(number: u64) -> String {
    format!("{number:#x}")
}

fn stream_report(stream: &Stream) -> StreamReport {
    let place = |range: std::ops::Range<u64>| Place {
        offset: hexadecimal(range.start),
        length: hexadecimal(range.end - range.start),
    };
    let configuration = stream.configuration();
    StreamReport {
        opened: stream.opened().to_string(),
        length: hexadecimal(stream.length()),
        run_state: stream.run_state().map(str::to_owned),
        target_page_bits: configuration.and_then(|it| it.target_page_bits),
        capabilities: configuration
            .map(|it| it.capabilities.clone())
            .unwrap_or_default(),
        uuid: configuration.and_then(|it| it.uuid).map(uuid),
        live: stream
            .live_sections()
            .iter()
            .map(|section| Device {
                name: section.name.clone(),
                instance: section.instance,
                version: section.version,
            })
            .collect(),
        package: stream.package().map(|package| place(package.range.clone())),
        description: stream.description().map(place),
        described_exactly: stream.is_described_exactly(),
        ram_records: stream.record_counts().map(|counts| Records {
            zero: counts.zero,
            page: counts.page,
            xbzrle: counts.xbzrle,
            compressed: counts.compressed,
        }),
    }
}

fn cores(shown: &Shown<'_>) -> Vec<Core> {
    let cpus = shown
        .contents
        .stream()
        .map(Stream::cpus)
        .unwrap_or_default();
    let mut cores = Vec::new();
    for (number, registers) in &shown.general {
        let Some(cpu) = cpus.get(*number) else {
            continue;
        };
        let chosen: Vec<_> = registers
            .iter()
            .filter(|register| shown.wanted.is_empty() || shown.wants_general(register))
            .map(|register| CoreRegister {
                name: register.name.clone(),
                id: register.id.map(id_digits),
                value: hexadecimal(register.value),
                fields: register
                    .id
                    .map(|id| fields(&shown.fields_of(id, register.value)))
                    .unwrap_or_default(),
            })
            .collect();
        if chosen.is_empty() {
            continue;
        }
        cores.push(Core {
            vcpu: *number,
            power: general::power(cpu.tail().power_state),
            mode: general::mode(cpu.head().pstate),
            registers: chosen,
        });
    }
    cores
}

fn registers(shown: &Shown<'_>) -> Vec<Register> {
    let mut registers = Vec::new();
    for row in &shown.registers {
        let id = row.key;
        let hidden = id.is_secret() && !shown.printing.secrets;
        for (vcpus, value) in &row.values {
            let visible = value.as_ref().filter(|_| !hidden);
            registers.push(Register {
                vcpus: vcpus.to_string(),
                id: id_digits(id),
                name: shown.printing.name(id),
                value: visible.map(ToString::to_string),
                secret: hidden.then_some(true),
                meaning: visible.and_then(|value| meaning(id, value)),
                fields: visible
                    .and_then(Value::as_u64)
                    .map(|value| fields(&shown.fields_of(id, value)))
                    .unwrap_or_default(),
            });
        }
    }
    registers
}

fn fields(fields: &[FieldValue]) -> Vec<FieldReport> {
    fields.iter().map(FieldReport::of).collect()
}

fn extensions(shown: &Shown<'_>) -> Vec<Extension> {
    let mut extensions = Vec::new();
    for row in &shown.extensions {
        for (vcpus, content) in &row.values {
            let text = content.hexadecimal();
            let (number, bytes) = match content {
                ExtensionContent::Number(_) => (Some(text), None),
                ExtensionContent::Bytes(_) => (None, Some(text)),
            };
            extensions.push(Extension {
                vcpus: vcpus.to_string(),
                name: row.key.clone().into_owned(),
                number,
                bytes,
            });
        }
    }
    extensions
}
