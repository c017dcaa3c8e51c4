//! The text of `show`: about the file, its vCPUs, then the registers by name, ids behind.

use std::collections::BTreeMap;

use cpreg::destination::ValuesAre;
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::{Profile, Report};
use cpreg_qemu::Stream;

use super::{FieldValue, Shown, meaning};
use crate::input::Content;
use crate::printer::{Printer, style, styled};
use crate::report::contents::{self, Contents, Group, RegisterRow, counted, length, rows};
use crate::report::general;
use crate::report::value::id_digits;

/// Names are put into a column of at most this width: that of `KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1`.
const NAME_COLUMN: usize = 36;
/// `0x` and 16 digits.
const VALUE_COLUMN: usize = 18;
/// An id in brackets.
const ID_COLUMN: usize = 20;

/// Prints the whole answer.
pub(crate) fn print(printer: &mut Printer, shown: &Shown<'_>) {
    if shown.wanted.is_empty() {
        about(printer, shown.contents);
        vcpus(printer, shown);
        extensions(printer, shown);
        let mut groups: BTreeMap<Group, Vec<&RegisterRow>> = BTreeMap::new();
        for row in &shown.registers {
            groups.entry(Group::of(row.key)).or_default().push(row);
        }
        for (group, rows) in groups {
            printer.line("");
            printer.line(format_args!("{} ({})", group.title(), rows.len()));
            registers(printer, shown, rows);
        }
        return;
    }
    chosen_general(printer, shown);
    registers(printer, shown, shown.registers.iter().collect());
    for id in shown.missing() {
        printer.line(format_args!(
            "  {}  not in this {}  {}",
            styled(style::NAME, shown.printing.name(id)),
            shown.contents.kind(),
            aside_id(id)
        ));
    }
}

pub(crate) fn line(printer: &mut Printer, what: &str, text: &str) {
    printer.line(format_args!("  {what:<10} {text}"));
}

fn about(printer: &mut Printer, contents: &Contents<'_>) {
    let input = contents.input;
    printer.line(format_args!(
        "{}: a {}",
        styled(style::NAME, input.name()),
        contents.kind()
    ));
    let unpacked = input
        .packed
        .map(|packed| format!(", unpacked from {packed}"))
        .unwrap_or_default();
    match &input.content {
        Content::Stream(_) if input.running.is_some() => {
            let version = input.running.as_deref().unwrap_or_default();
            let text = format!("device state without RAM, from QEMU {version} through its monitor");
            line(printer, "read", &text);
        }
        Content::Stream(stream) => {
            line(
                printer,
                "read",
                &format!("{}; {} bytes{unpacked}", stream.opened(), stream.length()),
            );
        }
        Content::Profile(profile) => about_profile(printer, profile, &unpacked),
        Content::Host(_) => {}
    }
    if let Some(report) = &input.report {
        about_report(printer, report);
    }
    let accelerator = contents.destination.accelerator;
    line(
        printer,
        "machine",
        &format!(
            "{}, {}, {}",
            contents.machine().unwrap_or("of unknown type"),
            counted(contents.vcpus().len(), "vCPU"),
            accelerator.map_or("accelerator unknown", |accelerator| accelerator.name())
        ),
    );
    match &input.content {
        Content::Stream(stream) => about_stream(printer, stream),
        Content::Profile(_) | Content::Host(_) => {
            let values = match contents.destination.values {
                ValuesAre::AtReset => "at reset, before a guest ran",
                ValuesAre::OfAGuest => "left there by a guest: taken, but no reset values",
                ValuesAre::OfAnEmulatedHost => {
                    "at reset, of a vCPU that nobody had configured; on an emulated CPU: no proof of a real machine's"
                }
            };
            line(printer, "values", values);
        }
    }
    if let Some(shape) = &contents.destination.shape {
        let blocks = shape.ram.iter();
        let blocks = blocks.map(|block| format!("{} {}", block.name, length(block.length)));
        wrapped(printer, "RAM", blocks);
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
        wrapped(printer, "devices", names);
    }
}

fn about_report(printer: &mut Printer, report: &Report) {
    line(
        printer,
        "report",
        &format!("written by cpreg {}, without RAM", report.cpreg),
    );
    let blanked = &report.blanked;
    let registers = blanked.registers.iter().map(|it| it.name.clone());
    let parts = blanked.parts.iter().cloned();
    let devices = blanked.devices.iter();
    let devices = devices.map(|it| format!("{} ({})", it.name, counted_bytes(it.bytes)));
    let uuid = blanked.uuid.then(|| "UUID".to_owned());
    let all = parts.chain(devices).chain(uuid).chain(registers);
    wrapped(printer, "blanked", all);
    if let Some(host) = &report.host {
        let kernel = host.kernel.as_deref().unwrap_or("of unknown release");
        let text = format!("{} {kernel}, {}", host.system, host.architecture);
        line(printer, "host", &text);
    }
    let verdict = report
        .check
        .as_ref()
        .and_then(|check| check["verdict"].as_str());
    if let Some(verdict) = verdict {
        line(
            printer,
            "checked",
            &format!("{verdict}, when it was written"),
        );
    }
}

fn counted_bytes(bytes: u64) -> String {
    format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" })
}

fn about_profile(printer: &mut Printer, profile: &Profile, unpacked: &str) {
    let recorded = &profile.recorded;
    line(printer, "name", &format!("{}{unpacked}", profile.name));
    let package = if recorded.package.is_empty() {
        String::new()
    } else {
        format!(" ({})", recorded.package)
    };
    line(
        printer,
        "recorded",
        &format!("{} {}{package}", recorded.program, recorded.version),
    );
    if !recorded.kernel.is_empty() {
        line(printer, "kernel", &recorded.kernel);
    }
    if !recorded.cpu.is_empty() {
        line(printer, "CPU", &recorded.cpu);
    }
    if !recorded.command.is_empty() {
        line(printer, "command", &recorded.command.join(" "));
    }
}

fn about_stream(printer: &mut Printer, stream: &Stream) {
    line(
        printer,
        "guest",
        stream.run_state().unwrap_or("in an unknown run state"),
    );
    if let Some(configuration) = stream.configuration() {
        if !configuration.capabilities.is_empty() {
            let capabilities = configuration.capabilities.join(", ");
            line(printer, "needs", &format!("capability {capabilities}"));
        }
        if let Some(uuid) = configuration.uuid {
            line(printer, "UUID", &contents::uuid(uuid));
        }
    }
    if let Some(package) = stream.package() {
        let bytes = package.range.end - package.range.start;
        line(
            printer,
            "postcopy",
            &format!("device state in a package of {bytes} bytes"),
        );
    }
    let live: Vec<_> = stream
        .live_sections()
        .iter()
        .map(|section| section.name.as_str())
        .filter(|name| *name != "ram")
        .collect();
    if !live.is_empty() {
        line(printer, "live", &live.join(", "));
    }
    // `{}` is what cpreg writes where there is none.
    let description = stream.description().map(|it| it.end - it.start);
    if description.is_none_or(|length| length <= 2) {
        line(
            printer,
            "note",
            "it has no description of its devices at the end",
        );
    } else if !stream.is_described_exactly() {
        line(
            printer,
            "note",
            "its description does not fit: it has been edited; QEMU does not mind",
        );
    }
    if let Some(counts) = stream.record_counts() {
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
            line(printer, "pages", &kinds.join(", "));
        }
    }
}

/// Words with commas between, on as many lines as it takes.
pub(crate) fn wrapped(printer: &mut Printer, what: &str, words: impl Iterator<Item = String>) {
    const WIDTH: usize = 84;
    let mut what = what;
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && text.len() + word.len() > WIDTH {
            text.push(',');
            line(printer, what, &text);
            what = "";
            text.clear();
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&word);
    }
    if !text.is_empty() {
        line(printer, what, &text);
    }
}

/// Each vCPU's core registers; zeros go without saying.
fn vcpus(printer: &mut Printer, shown: &Shown<'_>) {
    let Some(stream) = shown.contents.stream() else {
        return;
    };
    for (number, registers) in &shown.general {
        let Some(cpu) = stream.cpus().get(*number) else {
            continue;
        };
        let pstate = cpu.head().pstate;
        printer.line("");
        printer.line(format_args!(
            "vCPU {number}: {}; {}",
            general::power(cpu.tail().power_state),
            general::mode(pstate)
        ));
        let (zero, others): (Vec<_>, Vec<_>) = registers.iter().partition(|it| it.value == 0);
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
            printer.line(styled(style::ASIDE, text));
        }
    }
}

/// The core registers that were asked for.
fn chosen_general(printer: &mut Printer, shown: &Shown<'_>) {
    let chosen = shown.general.iter().flat_map(|(number, registers)| {
        let registers = registers.iter().enumerate();
        registers
            .filter(|(_, register)| shown.wants_general(register))
            .map(|(at, it)| (*number, (at, it.name.as_str(), it.id), it.value))
    });
    for row in rows(chosen) {
        let (_, name, id) = row.key;
        for (vcpus, value) in row.values {
            let line = format!(
                "  {}  {:<VALUE_COLUMN$}  {}{}",
                styled(style::NAME, name),
                format!("{value:#x}"),
                id.map(aside_id).unwrap_or_default(),
                on_vcpus(shown, &vcpus),
            );
            printer.line(line.trim_end());
            if let Some(id) = id {
                fields(printer, &shown.fields_of(id, value));
            }
        }
    }
}

fn extensions(printer: &mut Printer, shown: &Shown<'_>) {
    if shown.extensions.is_empty() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "parts of the cpu sections ({})",
        shown.extensions.len()
    ));
    let widest = shown.extensions.iter().map(|row| row.key.len()).max();
    let column = widest.unwrap_or(0).min(NAME_COLUMN);
    for row in &shown.extensions {
        for (number, (vcpus, content)) in row.values.iter().enumerate() {
            let name = if number == 0 { &*row.key } else { "" };
            let text = format!(
                "  {}  {:<VALUE_COLUMN$}{}",
                styled(style::NAME, format_args!("{name:<column$}")),
                content.describe(&row.key),
                on_vcpus(shown, vcpus)
            );
            printer.line(text.trim_end());
        }
    }
}

fn registers(printer: &mut Printer, shown: &Shown<'_>, rows: Vec<&RegisterRow>) {
    let widest = rows
        .iter()
        .map(|row| shown.printing.name(row.key).len())
        .max();
    let column = widest.unwrap_or(0).min(NAME_COLUMN);
    for row in rows {
        register(printer, shown, row, column);
    }
}

fn register(printer: &mut Printer, shown: &Shown<'_>, row: &RegisterRow, column: usize) {
    let id = row.key;
    let mut follows = false;
    for (vcpus, value) in &row.values {
        let known = value.as_ref().and_then(Value::as_u64);
        let decoded = known
            .filter(|_| shown.printing.secrets || !id.is_secret())
            .map(|value| shown.fields_of(id, value))
            .unwrap_or_default();
        // Below its first value a register need not be named again, unless fields stand between.
        let (name, behind) = if follows {
            (String::new(), " ".repeat(ID_COLUMN))
        } else {
            (shown.printing.name(id), aside_id(id))
        };
        follows = decoded.is_empty();
        let (text, means) = value_and_meaning(shown, id, value.as_ref());
        let means = means.map(|means| format!("  {means}")).unwrap_or_default();
        let line = format!(
            "  {}  {text:<VALUE_COLUMN$}  {behind}{}{means}",
            styled(style::NAME, format_args!("{name:<column$}")),
            on_vcpus(shown, vcpus),
        );
        printer.line(line.trim_end());
        fields(printer, &decoded);
    }
}

fn value_and_meaning(
    shown: &Shown<'_>,
    id: RegisterId,
    value: Option<&Value>,
) -> (String, Option<String>) {
    match value {
        None if shown.contents.input.report.is_some() => ("blanked".to_owned(), None),
        None => ("not recorded".to_owned(), None),
        Some(value) => match shown.printing.value(id, value) {
            Some(text) => (text, meaning(id, value)),
            None => ("(secret)".to_owned(), Some("--secrets shows it".to_owned())),
        },
    }
}

pub(crate) fn fields(printer: &mut Printer, fields: &[FieldValue]) {
    for FieldValue {
        field,
        value,
        meaning,
    } in fields
    {
        let bits = if field.msb() == field.lsb() {
            format!("[{}]", field.lsb())
        } else {
            format!("[{}:{}]", field.msb(), field.lsb())
        };
        let name = if field.name().is_empty() {
            "(no field)"
        } else {
            field.name()
        };
        let meaning = meaning
            .map(|meaning| format!("  {meaning}"))
            .unwrap_or_default();
        printer.line(format_args!("    {bits:<8} {name:<16} {value:#x}{meaning}"));
    }
}

fn on_vcpus(shown: &Shown<'_>, vcpus: &VcpuSet) -> String {
    if vcpus.iter().count() == shown.chosen {
        String::new()
    } else {
        format!("  vCPU {vcpus}")
    }
}

fn aside_id(id: RegisterId) -> String {
    styled(style::ASIDE, format_args!("[{}]", id_digits(id)))
}
