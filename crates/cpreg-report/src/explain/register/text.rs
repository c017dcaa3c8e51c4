//! What is known about a register, for people.

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
use crate::remedy;
use crate::text::{print_line, print_list};
use crate::tolerance::print_entry;
use crate::tolerance::text::{kind_label, register_names as registers_of};
use crate::value::{ValueFormat, id_digits};

/// Prints the whole answer.
pub fn print(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    let name = match explained.field {
        Some(field) => format!("{}.{field}", explained.name()),
        None => explained.name(),
    };
    printer.line(styled(style::NAME, name));
    print_names(printer, explained);
    print_description(printer, explained);
    print_fields(printer, explained);
    print_value(printer, explained);
    print_recordings(printer, explained);
    print_tolerances(printer, explained);
}

fn print_names(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    let id = explained.id;
    if !explained.is_named() {
        let unknown = match id.decode() {
            DecodedId::Unknown => "the id is of no form that KVM or QEMU use",
            _ => "it has no name that cpreg knows; what follows comes from its encoding",
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
    if let Some(name) = explained.name_under_tcg() {
        print_line(printer, "under TCG", &format!("the same id means {name}"));
    }
    if let Some(it) = id.system_register() {
        let (op0, op1, crn, crm, op2) = (it.op0, it.op1, it.crn, it.crm, it.op2);
        let parts = format!("op0={op0},op1={op1},crn={crn},crm={crm},op2={op2}");
        let short = explained.encoding().unwrap_or_default();
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
    let said = [Accelerator::Kvm, Accelerator::Tcg]
        .into_iter()
        .filter_map(|accelerator| Some((accelerator, explained.qemu_name(accelerator)?)));
    for (number, (accelerator, words)) in said.enumerate() {
        let what = if number == 0 { "QEMU 11" } else { "" };
        let under = if accelerator == Accelerator::Kvm {
            "KVM"
        } else {
            "TCG"
        };
        print_line(printer, what, &format!("`{words}` under {under}"));
    }
}

fn print_description(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    if let Some(purpose) = explained.purpose() {
        print_line(printer, "is", purpose);
    }
    let categories = categories(explained);
    if !categories.is_empty() {
        print_line(printer, "kind", &categories.join(", "));
    }
    if explained.is_kvm_register() {
        let scope = match explained.scope() {
            Scope::Vcpu => "each vCPU has its own",
            Scope::Vm => "one value for the whole VM: its vCPUs must agree",
            Scope::VmCounter => "one for the whole VM, which runs on",
        };
        print_line(
            printer,
            "KVM",
            &format!("{scope}; {}", explained.accepted_values()),
        );
    } else if explained.is_aarch32() {
        print_line(printer, "KVM", "does not have it; QEMU under TCG does");
        if let Some(counterpart) = explained.id.counterpart() {
            let text = format!("shows the same state as {}", counterpart.id);
            print_line(printer, "", &text);
        }
    }
    if let Some(hides) = explained.hidden_by() {
        let text = format!(
            "where the guest's {}.{} is 0, on kernels since {}",
            hides.id_register, hides.field, hides.first_version
        );
        print_line(printer, "hidden", &text);
    }
    if explained.id.is_secret() {
        print_line(
            printer,
            "secret",
            "cpreg shows no guest's value of it without --show-secrets",
        );
    }
}

/// What kind of register it is in the sense of the table of tolerances: `control (kvm)`.
pub(super) fn categories(explained: &RegisterExplanation<'_>) -> Vec<String> {
    let mut categories = Vec::new();
    for (_, entry) in &explained.tolerances {
        let under = entry.accelerator.map(|it| format!(" (under {it})"));
        let category = format!("{}{}", entry.category, under.unwrap_or_default());
        if !categories.contains(&category) {
            categories.push(category);
        }
    }
    categories
}

fn print_fields(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    // With a value they are listed with what they hold.
    if explained.value.is_none() {
        let fields = explained.fields();
        let fields = fields.iter().filter(|field| !field.is_alternative());
        let words = fields.map(|field| format!("{field} {}", bits(*field)));
        print_list(printer, "fields", words);
    }
    let named = explained.named_values();
    let mut what = "values";
    for (field, values) in group_by_field(&named) {
        let of = field.map(|field| format!("{field}: ")).unwrap_or_default();
        print_line(printer, what, &format!("{of}{}", values.join(", ")));
        what = "";
    }
}

/// Named values, field by field: `1.0 (0x10000)`.
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

fn print_value(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    let Some(value) = explained.value else {
        return;
    };
    printer.line("");
    let meaning = explained.meaning().map(|meaning| format!("  {meaning}"));
    let meaning = meaning.unwrap_or_default();
    printer.line(format_args!("value {value:#x}{meaning}"));
    if explained.field.is_none() {
        field::print_fields(printer, &explained.decoded_fields());
        if explained.id.fields_for_value(value).is_empty() && meaning.is_empty() {
            printer.line("  no fields of it are known");
        }
    }
    let held_by = explained.kernels_with_value().unwrap_or_default();
    if !held_by.is_empty() {
        let versions = kernels::join_versions(&explained.kernels, &held_by);
        printer.line(format_args!("  at reset on recorded kernels: {versions}"));
    }
}

fn print_recordings(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    if explained.is_aarch32() || !explained.has_known_form() {
        return;
    }
    printer.line("");
    printer.line(format_args!(
        "recorded kernels (fresh vCPUs, each {})",
        host_index::SOURCE
    ));
    if explained
        .kernels
        .iter()
        .all(|row| row.listed_recordings == 0)
    {
        printer.line("  none lists it");
        return;
    }
    let spans = kernels::spans(&explained.kernels);
    let widest = spans.iter().map(|(label, _)| label.len()).max();
    let column = widest.unwrap_or(0);
    for (label, row) in spans {
        let mut what = label.as_str();
        for text in describe_observations(explained, &row.observations) {
            printer.line(format_args!("  {what:<column$}  {text}"));
            what = "";
        }
    }
}

/// What kernels say, line by line.
fn describe_observations(
    explained: &RegisterExplanation<'_>,
    says: &KernelObservations,
) -> Vec<String> {
    let id = explained.id;
    let Some(guests) = &says.guests else {
        return vec!["not listed".to_owned()];
    };
    let mut lines = match &*says.values {
        [ResetGroup { at_reset, .. }] => vec![format!(
            "{guests}: {}",
            describe_reset_content(explained, at_reset)
        )],
        several => {
            let values: Vec<String> = several
                .iter()
                .map(|it| describe_reset_content(explained, &it.at_reset))
                .collect();
            let column = values.iter().map(|text| text.chars().count()).max();
            let column = column.unwrap_or(0);
            let lines = several.iter().zip(values);
            let lines = lines.map(|(it, value)| format!("  {value:<column$}  {}", it.guests));
            [guests.clone()].into_iter().chain(lines).collect()
        }
    };
    for WritableBits { mask, guests } in &says.writable {
        let whose = if guests == EVERY_GUEST {
            String::new()
        } else {
            format!(" of {guests}")
        };
        lines.push(match mask {
            0 => format!("  not to be changed{whose}"),
            mask => format!(
                "  the VMM may change {}{whose}",
                describe_writable_bits(id, *mask)
            ),
        });
    }
    for errno in &says.write_back_errnos {
        lines.push(format!("  writing back what was read fails: errno {errno}"));
    }
    lines
}

/// The bits of a mask, as fields where these are few.
fn describe_writable_bits(id: RegisterId, mask: u64) -> String {
    const MAX_FIELDS: usize = 8;
    let mut left = mask;
    let mut names = Vec::new();
    for field in id.fields().iter().filter(|field| !field.is_alternative()) {
        if mask & field.mask() == field.mask() {
            left &= !field.mask();
            names.push(field.name());
        }
    }
    if left == 0 && names.len() <= MAX_FIELDS {
        names.join(", ")
    } else {
        format!("the bits {mask:#x}")
    }
}

fn describe_reset_content(explained: &RegisterExplanation<'_>, at_reset: &AtReset) -> String {
    let id = explained.id;
    match (at_reset, explained.field) {
        (AtReset::Value(Value::U64(value)), Some(field)) => {
            match (RegisterField { id, field }).value_name(*value) {
                Some(name) => format!("{name} ({value:#x})"),
                None => format!("{value:#x}"),
            }
        }
        (AtReset::Value(value), _) => {
            // What is recorded here is nobody's secret: no guest has run.
            let printing = ValueFormat::new(None, true);
            let named = printing.describe(id, value);
            match field::meaning(id, value) {
                Some(meaning) if !named.contains(&meaning) => format!("{named} {meaning}"),
                _ => named,
            }
        }
        (AtReset::Poison, _) => "no value (KVM's reset poison)".to_owned(),
        (AtReset::Counter, _) => "counter".to_owned(),
        (AtReset::Unreadable(errno), _) => format!("cannot be read: errno {errno}"),
    }
}

fn print_tolerances(printer: &mut Printer, explained: &RegisterExplanation<'_>) {
    for (_, entry) in &explained.tolerances {
        printer.line("");
        let kind = kind_label(entry);
        let others = other_registers(entry, explained.id);
        let heading = styled(style::NAME, "tolerance");
        let heading = format!("{heading}  ({kind}{others})");
        print_entry(printer, entry, &heading, remedy::UNKNOWN_VALUE_PLACEHOLDER);
    }
    if explained.tolerances.is_empty() && explained.has_known_form() {
        printer.line("");
        printer.line(
            "no tolerance: if only the input has it, or its value is not taken, that refuses; if \
             only the destination has it, it stays at reset",
        );
    }
}

/// Which other registers an entry is about.
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
    format!("; also about {}", names.join(", "))
}
