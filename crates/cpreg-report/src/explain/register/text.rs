//! Text of the explanation of a register.

use cpreg::destination::Accelerator;
use cpreg::destination::kernel::Scope;
use cpreg::register::{DecodedId, Field, RegisterField, RegisterId, Value};
use cpreg::tolerance::{RegisterSelector, Tolerance};
use cpreg_hosts::host_index;
use cpreg_hosts::record::AtReset;

use super::RegisterExplanation;
use super::kernels::{self, EVERY_GUEST, KernelObservations, ResetGroup, WritableBits};
use crate::field;
use crate::printer::{Printer, style, styled};
use crate::text::{print_line, print_list};
use crate::tolerance::print_entry;
use crate::tolerance::text::{kind_label, register_names as registers_of};
use crate::value::{ValueFormat, id_digits};

/// Prints the whole report.
pub fn print(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    let name = match explanation.field {
        Some(field) => format!("{}.{field}", explanation.name()),
        None => explanation.name(),
    };
    printer.line(styled(style::NAME, name));
    print_names(printer, explanation);
    print_description(printer, explanation);
    print_fields(printer, explanation);
    print_value(printer, explanation);
    print_recordings(printer, explanation);
    print_tolerances(printer, explanation);
}

fn print_names(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    let id = explanation.id;
    if !explanation.is_named() {
        let unknown = match id.decode() {
            DecodedId::Unknown => "the id has no form that KVM or QEMU use",
            _ => "cpreg knows no name; the following comes from the encoding",
        };
        print_line(printer, "unknown", unknown);
    }
    for (name, cpus) in id.implementation_defined_names() {
        print_line(
            printer,
            "also",
            &format!("{name} on {}", cpus.replace(',', ", ")),
        );
    }
    print_line(printer, "id", &id_digits(id));
    if let Some(name) = explanation.name_under_tcg() {
        print_line(printer, "under TCG", &format!("the same id means {name}"));
    }
    if let Some(it) = id.system_register() {
        let (op0, op1, crn, crm, op2) = (it.op0, it.op1, it.crn, it.crm, it.op2);
        let parts = format!("op0={op0},op1={op1},crn={crn},crm={crm},op2={op2}");
        let short = explanation.encoding().unwrap_or_default();
        print_line(printer, "encoding", &format!("{parts}, {short}"));
    }
    if let DecodedId::Coprocessor(it) = id.decode() {
        let parts = if it.wide {
            format!("p{},{},c{}", it.coprocessor, it.opc1, it.crm)
        } else {
            let (coprocessor, opc1, crn, crm, opc2) =
                (it.coprocessor, it.opc1, it.crn, it.crm, it.opc2);
            format!("p{coprocessor},{opc1},c{crn},c{crm},{opc2}")
        };
        let bank = if it.secure { ", the Secure bank" } else { "" };
        print_line(printer, "encoding", &format!("AArch32 {parts}{bank}"));
    }
    let names = [Accelerator::Kvm, Accelerator::Tcg]
        .into_iter()
        .filter_map(|accelerator| Some((accelerator, explanation.qemu_name(accelerator)?)));
    for (number, (accelerator, name)) in names.enumerate() {
        let label = if number == 0 { "QEMU 11" } else { "" };
        let under = if accelerator == Accelerator::Kvm {
            "KVM"
        } else {
            "TCG"
        };
        print_line(printer, label, &format!("`{name}` under {under}"));
    }
}

fn print_description(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    if let Some(purpose) = explanation.purpose() {
        print_line(printer, "purpose", purpose);
    }
    let categories = categories(explanation);
    if !categories.is_empty() {
        print_line(printer, "kind", &categories.join(", "));
    }
    if explanation.is_kvm_register() {
        let scope = match explanation.scope() {
            Scope::Vcpu => "one value per vCPU",
            Scope::Vm => "one value per VM: its vCPUs must agree",
            Scope::VmCounter => "one value per VM, which keeps counting",
        };
        print_line(
            printer,
            "KVM",
            &format!("{scope}; {}", explanation.accepted_values()),
        );
    } else if explanation.is_aarch32() {
        print_line(
            printer,
            "KVM",
            "does not have the register; QEMU under TCG does",
        );
        if let Some(counterpart) = explanation.id.counterpart() {
            let text = format!("shows the same state as {}", counterpart.id);
            print_line(printer, "", &text);
        }
    }
    if let Some(gate) = explanation.hidden_by() {
        let text = format!(
            "if the guest's {}.{} is {}, on kernels since {}",
            gate.id_register,
            gate.field,
            gate.low_values(),
            gate.first_version
        );
        print_line(printer, "hidden", &text);
    }
    if explanation.id.is_secret() {
        print_line(
            printer,
            "secret",
            "cpreg shows the values of guests only with --show-secrets",
        );
    }
}

/// Returns the categories of the register's tolerances: `control (under kvm)`.
pub(super) fn categories(explanation: &RegisterExplanation<'_>) -> Vec<String> {
    let mut categories = Vec::new();
    for (_, entry) in &explanation.tolerances {
        let under = entry.accelerator.map(|it| format!(" (under {it})"));
        let category = format!("{}{}", entry.category, under.unwrap_or_default());
        if !categories.contains(&category) {
            categories.push(category);
        }
    }
    categories
}

fn print_fields(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    // With a given value, the fields are listed with their values instead.
    if explanation.value.is_none() {
        let fields = explanation.fields();
        let fields = fields.iter().filter(|field| !field.is_alternative());
        let texts = fields.map(|field| format!("{field} {}", bits(*field)));
        print_list(printer, "fields", texts);
    }
    let named = explanation.named_values();
    let mut label = "values";
    for (field, values) in group_by_field(&named) {
        let prefix = field.map(|field| format!("{field}: ")).unwrap_or_default();
        print_line(printer, label, &format!("{prefix}{}", values.join(", ")));
        label = "";
    }
}

/// Returns the named values by field: `1.0 (0x10000)`.
fn group_by_field(named: &[(Option<Field>, u64, &str)]) -> Vec<(Option<Field>, Vec<String>)> {
    named
        .chunk_by(|one, next| one.0 == next.0)
        .filter_map(|chunk| {
            let values = chunk.iter();
            let values = values.map(|(_, value, name)| format!("{name} ({value:#x})"));
            Some((chunk.first()?.0, values.collect()))
        })
        .collect()
}

fn bits(field: Field) -> String {
    if field.msb() == field.lsb() {
        format!("[{}]", field.lsb())
    } else {
        format!("[{}:{}]", field.msb(), field.lsb())
    }
}

fn print_value(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    let Some(value) = explanation.value else {
        return;
    };
    printer.line("");
    let meaning = explanation.meaning().map(|meaning| format!("  {meaning}"));
    let meaning = meaning.unwrap_or_default();
    printer.line(format_args!("value {value:#x}{meaning}"));
    if explanation.field.is_none() {
        field::print_fields(printer, &explanation.decoded_fields());
        if explanation.id.fields_for_value(value).is_empty() && meaning.is_empty() {
            printer.line("  no known fields");
        }
    }
    let kernels = explanation.kernels_with_value().unwrap_or_default();
    if !kernels.is_empty() {
        let versions = kernels::join_versions(&explanation.kernels, &kernels);
        printer.line(format_args!(
            "  reset value on recorded kernels: {versions}"
        ));
    }
}

fn print_recordings(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    if explanation.is_aarch32() || !explanation.has_known_form() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "recorded kernels (fresh vCPUs, each {})",
        host_index::RECORDING_ORIGIN
    ));
    if explanation
        .kernels
        .iter()
        .all(|row| row.listed_recordings == 0)
    {
        printer.line("  none lists the register");
        return;
    }
    let spans = kernels::spans(&explanation.kernels);
    let widest = spans.iter().map(|(label, _)| label.len()).max();
    let column = widest.unwrap_or(0);
    for (label, row) in spans {
        let mut column_text = label.as_str();
        for text in describe_observations(explanation, &row.observations) {
            printer.line(format_args!("  {column_text:<column$}  {text}"));
            column_text = "";
        }
    }
}

/// Returns lines about the observations on kernels.
fn describe_observations(
    explanation: &RegisterExplanation<'_>,
    observations: &KernelObservations,
) -> Vec<String> {
    let id = explanation.id;
    let Some(guests) = &observations.guests else {
        return vec!["not listed".to_owned()];
    };
    let mut lines = match &*observations.values {
        [ResetGroup { at_reset, .. }] => vec![format!(
            "{guests}: {}",
            describe_reset_content(explanation, at_reset)
        )],
        several => {
            let values: Vec<String> = several
                .iter()
                .map(|it| describe_reset_content(explanation, &it.at_reset))
                .collect();
            let column = values.iter().map(|text| text.chars().count()).max();
            let column = column.unwrap_or(0);
            let lines = several.iter().zip(values);
            let lines = lines.map(|(it, value)| format!("  {value:<column$}  {}", it.guests));
            [guests.clone()].into_iter().chain(lines).collect()
        }
    };
    for WritableBits { mask, guests } in &observations.writable {
        let suffix = if guests == EVERY_GUEST {
            String::new()
        } else {
            format!(" for {guests}")
        };
        lines.push(match mask {
            0 => format!("  no writable bits{suffix}"),
            mask => format!("  writable: {}{suffix}", describe_writable_bits(id, *mask)),
        });
    }
    for errno in &observations.write_back_errnos {
        lines.push(format!(
            "  writing back the value that was read fails: errno {errno}"
        ));
    }
    lines
}

/// Returns the bits of a mask, as fields if there are few.
fn describe_writable_bits(id: RegisterId, mask: u64) -> String {
    const MAX_FIELDS: usize = 8;
    let mut rest = mask;
    let mut names = Vec::new();
    for field in id.fields().iter().filter(|field| !field.is_alternative()) {
        if mask & field.mask() == field.mask() {
            rest &= !field.mask();
            names.push(field.name());
        }
    }
    if rest == 0 && names.len() <= MAX_FIELDS {
        names.join(", ")
    } else {
        format!("bits {mask:#x}")
    }
}

fn describe_reset_content(explanation: &RegisterExplanation<'_>, at_reset: &AtReset) -> String {
    let id = explanation.id;
    match (at_reset, explanation.field) {
        (AtReset::Value(Value::U64(value)), Some(field)) => {
            match (RegisterField { id, field }).value_name(*value) {
                Some(name) => format!("{name} ({value:#x})"),
                None => format!("{value:#x}"),
            }
        }
        (AtReset::Value(value), _) => {
            // Recorded reset values are not secret, because no guest has run.
            let value_format = ValueFormat::new(None, true);
            let text = value_format.describe(id, value);
            match field::meaning(id, value) {
                Some(meaning) if !text.contains(&meaning) => format!("{text} {meaning}"),
                _ => text,
            }
        }
        (AtReset::Poison, _) => "no value (KVM's reset poison)".to_owned(),
        (AtReset::Counter, _) => "counter".to_owned(),
        (AtReset::Unreadable(errno), _) => format!("cannot be read: errno {errno}"),
    }
}

fn print_tolerances(printer: &mut Printer, explanation: &RegisterExplanation<'_>) {
    for (_, entry) in &explanation.tolerances {
        printer.line("");
        let kind = kind_label(entry);
        let others = other_registers(entry, explanation.id);
        let heading = styled(style::NAME, "tolerance");
        let heading = format!("{heading}  ({kind}{others})");
        print_entry(printer, entry, &heading);
    }
    if explanation.tolerances.is_empty() && explanation.has_known_form() {
        printer.line("");
        printer.line(
            "no tolerance: source only refuses the VM; value not accepted refuses the VM; \
             destination only keeps the reset value",
        );
    }
}

/// Returns the other registers of an entry.
fn other_registers(entry: &Tolerance, id: RegisterId) -> String {
    const MAX_NAMES: usize = 4;
    let names = match &entry.registers {
        RegisterSelector::Ids(ids) => {
            let others = ids.iter().filter(|other| **other != id);
            let others: Vec<_> = others.map(ToString::to_string).collect();
            match others.len() {
                0 => return String::new(),
                1..=MAX_NAMES => others,
                many => vec![format!("{many} others")],
            }
        }
        _ => registers_of(&entry.registers),
    };
    format!("; also for {}", names.join(", "))
}
