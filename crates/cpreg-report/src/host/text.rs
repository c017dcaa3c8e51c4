//! Text of `show` for a recorded host: the host, then its guests or the registers of one guest.

use std::collections::BTreeMap;

use cpreg::cpu_model;
use cpreg::register::RegisterClass;
use cpreg_hosts::record::{AtReset, RegisterRecord};

use super::{
    CAPABILITY_PREFIX, GuestCounts, GuestView, HostView, describe_mask, errno_name, trial_outcome,
};
use crate::check::hardware::describe_facts;
use crate::field::{RegisterSelection, decode_fields, meaning};
use crate::group::Group;
use crate::printer::{Printer, style, styled};
use crate::similar::describe_absence;
use crate::text::{pluralize, print_line, print_list};
use crate::value::id_digits;

/// Maximum number of trials that the text lists one by one.
const MAX_LISTED_TRIALS: usize = 8;

/// Prints the whole report.
pub fn print(printer: &mut Printer, view: &HostView<'_>) {
    match &view.guest {
        None => {
            print_summary(printer, view);
            print_guests(printer, view);
        }
        Some(guest) if guest.selection.is_empty() => {
            print_summary(printer, view);
            print_all_registers(printer, view, guest);
        }
        Some(guest) => print_selected_registers(printer, view, guest),
    }
}

fn print_summary(printer: &mut Printer, view: &HostView<'_>) {
    let identity = &view.record.identity;
    let cpu = if identity.emulated {
        " with an emulated CPU"
    } else {
        ""
    };
    printer.line(format_args!(
        "{}: a recorded host{cpu}",
        styled(style::NAME, view.argument)
    ));
    print_line(printer, "name", &identity.name());
    let kernel = format!("{} {}", identity.release, identity.version);
    print_line(printer, "kernel", kernel.trim_end());
    let model = cpu_model::describe_midr(identity.midr);
    let cpu = format!(
        "{}, MIDR_EL1 {:#x}",
        model.unwrap_or_else(|| identity.cpu.clone()),
        identity.midr
    );
    print_line(printer, "CPU", &cpu);
    if identity.cpus.len() > 1 {
        let kinds = identity.cpus.iter().map(|kind| {
            let model = cpu_model::describe_midr(kind.midr);
            let model = model.unwrap_or_else(|| format!("MIDR_EL1 {:#x}", kind.midr));
            format!("{} x {model}", kind.count)
        });
        print_list(printer, "all CPUs", kinds);
    }
    if !identity.mode.is_empty() {
        print_line(printer, "mode", &identity.mode);
    }
    let facts = describe_facts(view.record.hardware);
    if !facts.is_empty() {
        print_list(printer, "hardware", facts.into_iter());
    }
    let capabilities = view.record.capabilities.iter();
    let capabilities = capabilities.filter(|(_, number)| **number != 0);
    let capabilities = capabilities.map(|(name, number)| {
        let name = name.strip_prefix(CAPABILITY_PREFIX).unwrap_or(name);
        match number {
            1 => name.to_owned(),
            number => format!("{name} {number}"),
        }
    });
    print_list(printer, "supports", capabilities);
    if identity.emulated {
        let values = "valid for the kernel, not for the values of a real machine";
        print_line(printer, "scope", values);
    }
}

fn print_guests(printer: &mut Printer, view: &HostView<'_>) {
    let guests = &view.record.guests;
    let widths = guests.keys().map(|features| features.to_string().len());
    let column = widths.max().unwrap_or(0).max("features".len());
    printer.line("");
    printer.line(format_args!("guests ({}), fresh vCPUs", guests.len()));
    printer.line(styled(
        style::DIM,
        format_args!(
            "  {:<column$}  registers  values  poison  counters  writable  tried",
            "features"
        ),
    ));
    for (features, guest) in guests {
        let counts = GuestCounts::from_guest(guest);
        let writable = counts
            .writable
            .map_or("unknown".to_owned(), |count| count.to_string());
        let unreadable = match counts.unreadable {
            0 => String::new(),
            count => format!("  {count} cannot be read"),
        };
        printer.line(format_args!(
            "  {}  {:>9}  {:>6}  {:>6}  {:>8}  {writable:>8}  {:>5}{unreadable}",
            styled(
                style::NAME,
                format_args!("{:<column$}", features.to_string())
            ),
            counts.registers,
            counts.values,
            counts.poison,
            counts.counters,
            counts.tried_registers,
        ));
    }
    printer.line("");
    printer.line(styled(
        style::DIM,
        "poison: registers with KVM's reset poison, which is not a value; writable: ID registers \
         with writable bits; tried: registers for which other values were tried",
    ));
    if let Some(features) = guests.keys().max_by_key(|features| features.len()) {
        printer.line(styled(
            style::DIM,
            format_args!(
                "`cpreg show {}/{features}` lists the registers of such a guest",
                view.argument
            ),
        ));
    }
}

/// Section of the text that lists a register of a guest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RegisterSection {
    Core,
    Group(Group),
}

impl RegisterSection {
    fn from_register(register: &RegisterRecord) -> Self {
        match register.id.class() {
            RegisterClass::Core => Self::Core,
            _ => Self::Group(Group::from_id(register.id)),
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Core => "core registers",
            Self::Group(group) => group.title(),
        }
    }
}

fn print_all_registers(printer: &mut Printer, view: &HostView<'_>, guest: &GuestView<'_>) {
    let mut sections: BTreeMap<RegisterSection, Vec<&RegisterRecord>> = BTreeMap::new();
    for register in guest.registers() {
        sections
            .entry(RegisterSection::from_register(register))
            .or_default()
            .push(register);
    }
    let count = guest.registers().count();
    printer.line("");
    printer.line(format_args!(
        "a fresh vCPU with the features {} has {}",
        styled(style::NAME, guest.features),
        pluralize(count, "register")
    ));
    for (section, all) in sections {
        printer.line("");
        printer.line(format_args!("{} ({})", section.title(), all.len()));
        print_registers(printer, view, guest, &all);
    }
}

fn print_selected_registers(printer: &mut Printer, view: &HostView<'_>, guest: &GuestView<'_>) {
    let all: Vec<_> = guest.registers().collect();
    print_registers(printer, view, guest, &all);
    let listed = guest.listed_registers();
    let listed: Vec<_> = listed.map(|id| view.value_format.name(id)).collect();
    for id in guest.missing_registers() {
        let name = view.value_format.name(id);
        let listed = listed.iter().map(String::as_str);
        printer.line(format_args!(
            "  {}  {}  {}",
            styled(style::NAME, &name),
            describe_absence(&name, "such a guest", listed),
            styled(style::DIM, format_args!("[{}]", id_digits(id)))
        ));
    }
}

fn print_registers(
    printer: &mut Printer,
    view: &HostView<'_>,
    guest: &GuestView<'_>,
    all: &[&RegisterRecord],
) {
    let names = all
        .iter()
        .map(|register| view.value_format.name(register.id).len());
    let column = names.max().unwrap_or(0);
    let values = all
        .iter()
        .map(|register| describe_content(view, register).len());
    let value_column = values.filter(|width| *width <= 24).max().unwrap_or(0);
    for register in all {
        let id = register.id;
        let name = view.value_format.name(id);
        printer.line(format_args!(
            "  {}  {:<value_column$}  {}{}",
            styled(style::NAME, format_args!("{name:<column$}")),
            describe_content(view, register),
            styled(style::DIM, format_args!("[{}]", id_digits(id))),
            describe_peculiarities(register),
        ));
        print_fields(printer, guest, register);
        print_accepted_values(printer, guest, register);
    }
}

/// Returns the content of a register at reset.
fn describe_content(view: &HostView<'_>, register: &RegisterRecord) -> String {
    match &register.at_reset {
        AtReset::Value(value) => view.value_format.describe(register.id, value),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counter => "counter".to_owned(),
        AtReset::Unreadable(number) => format!("cannot be read: {}", errno_name(*number)),
    }
}

/// Returns remarks about an unusual register, and the meaning of its value.
fn describe_peculiarities(register: &RegisterRecord) -> String {
    let mut text = String::new();
    if let AtReset::Value(value) = &register.at_reset
        && register
            .id
            .describe_value(value.as_u64().unwrap_or_default())
            .is_none()
        && let Some(meaning) = meaning(register.id, value)
    {
        text = format!("  {meaning}");
    }
    if register.differs_by_vcpu {
        text += "  differs by vCPU";
    }
    if register.write_back != 0 {
        text += "  cannot be written back: ";
        text += &errno_name(register.write_back);
    }
    text
}

fn print_fields(printer: &mut Printer, guest: &GuestView<'_>, register: &RegisterRecord) {
    let AtReset::Value(value) = &register.at_reset else {
        return;
    };
    let Some(value) = value.as_u64() else {
        return;
    };
    let selected: Vec<&RegisterSelection> = guest
        .selection
        .iter()
        .filter(|selected| selected.id == register.id)
        .collect();
    if selected.is_empty() && !guest.show_fields {
        return;
    }
    let only: Option<Vec<_>> = selected.iter().map(|selected| selected.field).collect();
    for field in decode_fields(register.id, value) {
        let is_shown = match &only {
            Some(only) if !only.is_empty() => only.contains(&field.field),
            _ => true,
        };
        if !is_shown {
            continue;
        }
        let name = match field.field.name() {
            "" => "(no field)",
            name => name,
        };
        let meaning = field.meaning.map(|meaning| format!("  {meaning}"));
        printer.line(format_args!(
            "      {name} {:#x}{}",
            field.value,
            meaning.unwrap_or_default()
        ));
    }
}

/// Prints writable bits, accepted values and trials.
fn print_accepted_values(printer: &mut Printer, guest: &GuestView<'_>, register: &RegisterRecord) {
    let id = register.id;
    if let Some(mask) = guest.writable(id).filter(|mask| *mask != 0) {
        printer.line(format_args!(
            "      writable {mask:#x}: {}",
            describe_mask(id, mask).join(", ")
        ));
    }
    if let Some(values) = guest.accepted_values(id) {
        printer.line(format_args!("      accepts {}", values.describe(id)));
        return;
    }
    // The trials of all registers are too much text, so only selected registers list them.
    if guest.selection.is_empty() || register.trials.is_empty() {
        return;
    }
    if register.trials.len() > MAX_LISTED_TRIALS {
        let accepted = register.trials.iter().filter(|trial| trial.is_accepted());
        let (accepted, all) = (accepted.count(), register.trials.len());
        printer.line(format_args!(
            "      tried {all} values: {accepted} accepted"
        ));
        return;
    }
    for trial in &register.trials {
        printer.line(format_args!(
            "      tried {:#x}: {}",
            trial.value,
            trial_outcome(trial)
        ));
    }
}
