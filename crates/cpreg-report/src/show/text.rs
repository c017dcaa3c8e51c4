//! Text of `show`: properties of the file, then vCPUs, then registers with their ids.

use std::collections::BTreeMap;

use cpreg::destination::DestinationVcpu;
use cpreg::destination::ValueOrigin;
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::profile::ProfileOrigin;

use super::ContentsView;
use super::model::{Container, ReportSummary, Stream};
use crate::contents::{Contents, Origin};
use crate::field::{self, meaning};
use crate::group::Group;
use crate::printer::{Printer, style, styled};
use crate::rows::{RegisterRow, rows};
use crate::similar::describe_absence;
use crate::text::{describe_extension, format_length, pluralize, print_line, print_list};
use crate::value::id_digits;

/// Maximum width of the column of names: the length of `KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1`.
const NAME_COLUMN: usize = 36;
/// Width of a value: `0x` and 16 digits.
const VALUE_COLUMN: usize = 18;
/// Width of an id in brackets: `0x`, 16 digits and two brackets.
const ID_COLUMN: usize = 20;

/// Prints the whole report.
pub fn print(printer: &mut Printer, view: &ContentsView<'_>) {
    if view.selection.is_empty() {
        print_summary(printer, view.contents);
        print_vcpus(printer, view);
        print_extensions(printer, view);
        let mut groups: BTreeMap<Group, Vec<&RegisterRow>> = BTreeMap::new();
        for row in &view.registers {
            groups.entry(Group::from_id(row.key)).or_default().push(row);
        }
        for (group, rows) in groups {
            printer.line("");
            printer.line(format_args!("{} ({})", group.title(), rows.len()));
            print_registers(printer, view, rows);
        }
        return;
    }
    print_selected_core_registers(printer, view);
    print_registers(printer, view, view.registers.iter().collect());
    for id in view.missing_registers() {
        let name = view.value_format.name(id);
        let present = view
            .contents
            .vcpus()
            .iter()
            .flat_map(DestinationVcpu::registers);
        let present: Vec<_> = present
            .map(|register| view.value_format.name(register.id))
            .collect();
        let place = format!("this {}", view.contents.kind());
        printer.line(format_args!(
            "  {}  {}  {}",
            styled(style::NAME, &name),
            describe_absence(&name, &place, present.iter().map(String::as_str)),
            format_id(id)
        ));
    }
}

/// Prints the facts that the file of another program, or libvirt, holds about the VM.
fn print_container(printer: &mut Printer, container: &Container, is_running: bool) {
    let vm = container.vm.as_ref();
    let vm = vm.map_or_else(String::new, |vm| {
        format!(", of the VM {}", vm.escape_debug())
    });
    let label = if is_running { "domain" } else { "file" };
    print_line(printer, label, &format!("{}{vm}", container.kind));
    let facts = [
        container.machine.clone(),
        container.cpu.as_ref().map(|cpu| format!("CPU {cpu}")),
        container
            .vcpus
            .map(|count| pluralize(count as usize, "vCPU")),
        container.memory.map(|memory| format_length(memory.0)),
        container.resumes.map(|resumes| {
            let text = if resumes {
                "runs after the restore"
            } else {
                "stays paused after the restore"
            };
            text.to_owned()
        }),
    ];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    if !facts.is_empty() {
        print_line(printer, "recorded", &facts.join(", "));
    }
    if let Some(command) = &container.command {
        print_line(printer, "fits", command);
    }
    for note in &container.notes {
        print_line(printer, "note", note);
    }
}

fn print_summary(printer: &mut Printer, contents: &Contents) {
    printer.line(format_args!(
        "{}: a {}",
        styled(style::NAME, &contents.name),
        contents.kind()
    ));
    let compression = contents
        .compression
        .map(|compression| format!(", compressed with {compression}"))
        .unwrap_or_default();
    match &contents.origin {
        Origin::Running { version, .. } => {
            let text = format!("device state without RAM, from the monitor of QEMU {version}");
            print_line(printer, "read", &text);
        }
        Origin::Stream(stream) | Origin::Report { stream, .. } => {
            print_line(
                printer,
                "read",
                &format!(
                    "{}; {} bytes{compression}",
                    stream.open_method, stream.length.0
                ),
            );
        }
        Origin::Snapshot => {
            let text = format!("registers of a snapshot{compression}");
            print_line(printer, "read", &text);
        }
        Origin::Profile(origin) | Origin::Host(origin) => {
            let name = &contents.destination.name;
            print_line(printer, "name", &format!("{name}{compression}"));
            print_profile_origin(printer, origin);
        }
    }
    if let Origin::Report {
        report, verdict, ..
    } = &contents.origin
    {
        print_report_summary(printer, report, verdict.as_deref());
    }
    if let Some(container) = &contents.container {
        let is_running = matches!(contents.origin, Origin::Running { .. });
        print_container(printer, container, is_running);
    }
    let accelerator = contents.destination.accelerator;
    print_line(
        printer,
        "machine",
        &format!(
            "{}, {}, {}",
            contents.machine().unwrap_or("unknown type"),
            pluralize(contents.vcpus().len(), "vCPU"),
            accelerator.map_or("unknown accelerator", |accelerator| accelerator.name())
        ),
    );
    if let Some(stream) = contents.stream() {
        print_stream(printer, stream);
    } else {
        let values = match contents.destination.value_origin {
            ValueOrigin::Reset => "at reset, before a guest ran",
            ValueOrigin::Guest => "left by a guest: accepted, but not reset values",
            ValueOrigin::EmulatedHost => {
                "at reset, of an unconfigured vCPU on an emulated CPU: not valid for a real machine"
            }
        };
        print_line(printer, "values", values);
    }
    if let Some(shape) = &contents.destination.shape {
        let blocks = shape.ram.iter();
        let blocks = blocks.map(|block| format!("{} {}", block.name, format_length(block.length)));
        print_list(printer, "RAM", blocks);
        let mut names: Vec<(&str, usize)> = Vec::new();
        for device in &shape.devices {
            match names.iter_mut().find(|(name, _)| *name == device.name) {
                Some((_, count)) => *count += 1,
                None => names.push((&device.name, 1)),
            }
        }
        let names = names.into_iter().map(|(name, count)| match count {
            1 => name.to_owned(),
            count => format!("{name} ×{count}"),
        });
        print_list(printer, "devices", names);
    }
}

fn print_report_summary(printer: &mut Printer, report: &ReportSummary, verdict: Option<&str>) {
    print_line(
        printer,
        "report",
        &format!("written by cpreg {}, without RAM", report.cpreg),
    );
    let redactions = &report.redactions;
    let registers = redactions
        .registers
        .iter()
        .map(|register| register.name.clone());
    let parts = redactions.parts.iter().cloned();
    let devices = redactions.devices.iter();
    let devices = devices.map(|device| format!("{} ({})", device.name, format_bytes(device.bytes)));
    let uuid = redactions.uuid.then(|| "UUID".to_owned());
    let all = parts.chain(devices).chain(uuid).chain(registers);
    print_list(printer, "redacted", all);
    if let Some(host) = &report.host {
        let kernel = host.kernel.as_deref().unwrap_or("of unknown release");
        let text = format!("{} {kernel}, {}", host.system, host.architecture);
        print_line(printer, "host", &text);
    }
    if let Some(verdict) = verdict {
        print_line(
            printer,
            "checked",
            &format!("{verdict}, when the report was written"),
        );
    }
}

fn format_bytes(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

fn print_profile_origin(printer: &mut Printer, origin: &ProfileOrigin) {
    let package = if origin.package.is_empty() {
        String::new()
    } else {
        format!(" ({})", origin.package)
    };
    print_line(
        printer,
        "recorded",
        &format!("{} {}{package}", origin.program, origin.version),
    );
    if !origin.kernel.is_empty() {
        print_line(printer, "kernel", &origin.kernel);
    }
    if !origin.cpu.is_empty() {
        print_line(printer, "CPU", &origin.cpu);
    }
    if !origin.command.is_empty() {
        print_line(printer, "command", &origin.command.join(" "));
    }
}

fn print_stream(printer: &mut Printer, stream: &Stream) {
    let run_state = stream.run_state.as_deref();
    print_line(
        printer,
        "guest",
        run_state.unwrap_or("in an unknown run state"),
    );
    if !stream.capabilities.is_empty() {
        let capabilities = stream.capabilities.join(", ");
        print_line(printer, "needs", &format!("capability {capabilities}"));
    }
    if let Some(uuid) = &stream.uuid {
        print_line(printer, "UUID", uuid);
    }
    if let Some(package) = &stream.package {
        let bytes = package.length.0;
        print_line(
            printer,
            "postcopy",
            &format!("device state in a package of {bytes} bytes"),
        );
    }
    let live = stream
        .live_sections
        .iter()
        .map(|section| section.name.as_str());
    let live: Vec<_> = live.filter(|name| *name != "ram").collect();
    if !live.is_empty() {
        print_line(printer, "live", &live.join(", "));
    }
    // `cpreg` writes `{}` into a stream that has no description.
    let description = stream.description.as_ref();
    if description.is_none_or(|description| description.length.0 <= 2) {
        print_line(
            printer,
            "note",
            "the stream has no description of its devices at the end",
        );
    } else if !stream.is_description_exact {
        print_line(
            printer,
            "note",
            "the description does not match the stream, which was edited; QEMU accepts that",
        );
    }
    if let Some(counts) = stream.ram_records {
        let kinds = [
            (counts.zero, "of zeros"),
            (counts.page, "whole"),
            (counts.xbzrle, "as changes"),
            (counts.compressed, "compressed"),
        ];
        let kinds: Vec<_> = kinds
            .into_iter()
            .filter(|(count, _)| *count != 0)
            .map(|(count, kind)| format!("{count} {kind}"))
            .collect();
        if !kinds.is_empty() {
            print_line(printer, "pages", &kinds.join(", "));
        }
    }
}

/// Prints the core registers of each vCPU. Registers that are zero appear as a count.
fn print_vcpus(printer: &mut Printer, view: &ContentsView<'_>) {
    for (number, state) in &view.vcpu_states {
        printer.line("");
        printer.line(format_args!(
            "vCPU {number}: {}; {}",
            state.power, state.mode
        ));
        let (zero, others): (Vec<_>, Vec<_>) = state
            .registers
            .iter()
            .partition(|register| register.value == 0);
        for row in others.chunks(3) {
            let row: Vec<_> = row
                .iter()
                .map(|register| {
                    let name = styled(style::NAME, format_args!("{:<8}", register.name));
                    let value = format!("{:#x}", register.value);
                    format!("  {name} {value:<VALUE_COLUMN$}")
                })
                .collect();
            printer.line(row.concat().trim_end());
        }
        let zeros = zero.len();
        if zeros != 0 {
            let text = format!("  the other {zeros} core registers are 0");
            printer.line(styled(style::DIM, text));
        }
    }
}

/// Prints the selected core registers.
fn print_selected_core_registers(printer: &mut Printer, view: &ContentsView<'_>) {
    let selected = view.vcpu_states.iter().flat_map(|(number, state)| {
        let registers = state.registers.iter().enumerate();
        registers
            .filter(|(_, register)| view.is_selected(register))
            .map(|(position, register)| {
                (
                    *number,
                    (position, register.name.as_str(), register.id),
                    register.value,
                )
            })
    });
    for row in rows(selected) {
        let (_, name, id) = row.key;
        for (vcpus, value) in row.values {
            let line = format!(
                "  {}  {:<VALUE_COLUMN$}  {}{}",
                styled(style::NAME, name),
                format!("{value:#x}"),
                id.map(format_id).unwrap_or_default(),
                vcpu_suffix(view, &vcpus),
            );
            printer.line(line.trim_end());
            if let Some(id) = id {
                field::print_fields(printer, &view.selected_fields(id, value));
            }
        }
    }
}

fn print_extensions(printer: &mut Printer, view: &ContentsView<'_>) {
    if view.extensions.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!("extensions ({})", view.extensions.len()));
    let widest = view.extensions.iter().map(|row| row.key.len()).max();
    let column = widest.unwrap_or(0).min(NAME_COLUMN);
    for row in &view.extensions {
        for (number, (vcpus, content)) in row.values.iter().enumerate() {
            let name = if number == 0 { &*row.key } else { "" };
            let text = format!(
                "  {}  {:<VALUE_COLUMN$}{}",
                styled(style::NAME, format_args!("{name:<column$}")),
                describe_extension(&row.key, content),
                vcpu_suffix(view, vcpus)
            );
            printer.line(text.trim_end());
        }
    }
}

fn print_registers(printer: &mut Printer, view: &ContentsView<'_>, rows: Vec<&RegisterRow>) {
    let widest = rows
        .iter()
        .map(|row| view.value_format.name(row.key).len())
        .max();
    let column = widest.unwrap_or(0).min(NAME_COLUMN);
    for row in rows {
        print_register(printer, view, row, column);
    }
}

fn print_register(
    printer: &mut Printer,
    view: &ContentsView<'_>,
    row: &RegisterRow,
    column: usize,
) {
    let id = row.key;
    let mut repeats = false;
    for (vcpus, value) in &row.values {
        let known = value.as_ref().and_then(Value::as_u64);
        let decoded = known
            .filter(|_| view.value_format.show_secrets || !id.is_secret())
            .map(|value| view.selected_fields(id, value))
            .unwrap_or_default();
        // Lines of further values omit the name of the register, unless field lines separate the
        // values.
        let (name, id_text) = if repeats {
            (String::new(), " ".repeat(ID_COLUMN))
        } else {
            (view.value_format.name(id), format_id(id))
        };
        repeats = decoded.is_empty();
        let (text, meaning) = value_and_meaning(view, id, value.as_ref());
        let meaning = meaning
            .map(|meaning| format!("  {meaning}"))
            .unwrap_or_default();
        let line = format!(
            "  {}  {text:<VALUE_COLUMN$}  {id_text}{}{meaning}",
            styled(style::NAME, format_args!("{name:<column$}")),
            vcpu_suffix(view, vcpus),
        );
        printer.line(line.trim_end());
        field::print_fields(printer, &decoded);
    }
}

fn value_and_meaning(
    view: &ContentsView<'_>,
    id: RegisterId,
    value: Option<&Value>,
) -> (String, Option<String>) {
    match value {
        None if matches!(view.contents.origin, Origin::Report { .. }) => {
            ("redacted".to_owned(), None)
        }
        None => ("not recorded".to_owned(), None),
        Some(value) => match view.value_format.value(id, value) {
            Some(text) => (text, meaning(id, value)),
            None => (
                "(secret)".to_owned(),
                Some("--show-secrets shows it".to_owned()),
            ),
        },
    }
}

fn vcpu_suffix(view: &ContentsView<'_>, vcpus: &VcpuSet) -> String {
    if vcpus.iter().count() == view.vcpu_count {
        String::new()
    } else {
        format!("  vCPU {vcpus}")
    }
}

fn format_id(id: RegisterId) -> String {
    styled(style::DIM, format_args!("[{}]", id_digits(id)))
}
