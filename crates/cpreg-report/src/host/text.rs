//! The text of `show` for a recorded host: about the host, then its guests, or the registers of one.

use std::collections::BTreeMap;

use cpreg::register::RegisterClass;
use cpreg_hosts::record::{AtReset, Register};

use super::{CAPABILITY, Counts, ShownGuest, ShownHost, errno, fields_in, outcome};
use crate::field::{Wanted, all_fields, meaning};
use crate::group::Group;
use crate::printer::{Printer, style, styled};
use crate::text::{counted, line, wrapped};
use crate::value::id_digits;

/// The most trials that are listed one by one.
const MOST_TRIALS: usize = 8;

/// Prints the whole answer.
pub fn print(printer: &mut Printer, shown: &ShownHost<'_>) {
    match &shown.guest {
        None => {
            about(printer, shown);
            guests(printer, shown);
        }
        Some(guest) if guest.wanted.is_empty() => {
            about(printer, shown);
            all_registers(printer, shown, guest);
        }
        Some(guest) => chosen(printer, shown, guest),
    }
}

fn about(printer: &mut Printer, shown: &ShownHost<'_>) {
    let identity = &shown.record.identity;
    let cpu = if identity.emulated {
        " with an emulated CPU"
    } else {
        ""
    };
    printer.line(format_args!(
        "{}: a recorded host{cpu}",
        styled(style::NAME, shown.written)
    ));
    line(printer, "name", &identity.name());
    let kernel = format!("{} {}", identity.release, identity.version);
    line(printer, "kernel", kernel.trim_end());
    let cpu = format!("{}, MIDR_EL1 {:#x}", identity.cpu, identity.midr);
    line(printer, "CPU", &cpu);
    if !identity.mode.is_empty() {
        line(printer, "mode", &identity.mode);
    }
    let capabilities = shown.record.capabilities.iter();
    let capabilities = capabilities.filter(|(_, number)| **number != 0);
    let capabilities = capabilities.map(|(name, number)| {
        let name = name.strip_prefix(CAPABILITY).unwrap_or(name);
        match number {
            1 => name.to_owned(),
            number => format!("{name} {number}"),
        }
    });
    wrapped(printer, "can", capabilities);
    if identity.emulated {
        let values = "right about the kernel, no proof of a real machine's values";
        line(printer, "scope", values);
    }
}

fn guests(printer: &mut Printer, shown: &ShownHost<'_>) {
    let guests = &shown.record.guests;
    let widths = guests.keys().map(|features| features.to_string().len());
    let column = widths.max().unwrap_or(0).max("features".len());
    printer.line("");
    printer.line(format_args!("guests ({}), fresh vCPUs", guests.len()));
    printer.line(styled(
        style::ASIDE,
        format_args!(
            "  {:<column$}  registers  values  poison  counters  writable  tried",
            "features"
        ),
    ));
    for (features, guest) in guests {
        let counts = Counts::of(guest);
        let writable = counts
            .writable
            .map_or("not told".to_owned(), |count| count.to_string());
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
            counts.tried,
        ));
    }
    printer.line("");
    printer.line(styled(
        style::ASIDE,
        "poison: KVM's reset poison, which stands for no value; writable: ID registers of which \
         some bits may be changed; tried: registers with other values tried",
    ));
    if let Some(features) = guests.keys().max_by_key(|features| features.len()) {
        printer.line(styled(
            style::ASIDE,
            format_args!(
                "`cpreg show {}/{features}` lists what such a guest has",
                shown.written
            ),
        ));
    }
}

/// What a guest's registers are listed under.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Core,
    Of(Group),
}

impl Part {
    fn of(register: &Register) -> Self {
        match register.id.class() {
            RegisterClass::Core => Self::Core,
            _ => Self::Of(Group::of(register.id)),
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Core => "core registers",
            Self::Of(group) => group.title(),
        }
    }
}

fn all_registers(printer: &mut Printer, shown: &ShownHost<'_>, guest: &ShownGuest<'_>) {
    let mut parts: BTreeMap<Part, Vec<&Register>> = BTreeMap::new();
    for register in guest.registers() {
        parts.entry(Part::of(register)).or_default().push(register);
    }
    let count = guest.registers().count();
    printer.line("");
    printer.line(format_args!(
        "a fresh vCPU with the features {} has {}",
        styled(style::NAME, guest.features),
        counted(count, "register")
    ));
    for (part, all) in parts {
        printer.line("");
        printer.line(format_args!("{} ({})", part.title(), all.len()));
        registers(printer, shown, guest, &all);
    }
}

fn chosen(printer: &mut Printer, shown: &ShownHost<'_>, guest: &ShownGuest<'_>) {
    let all: Vec<_> = guest.registers().collect();
    registers(printer, shown, guest, &all);
    for id in guest.missing() {
        printer.line(format_args!(
            "  {}  not listed for such a guest  {}",
            styled(style::NAME, shown.printing.name(id)),
            styled(style::ASIDE, format_args!("[{}]", id_digits(id)))
        ));
    }
}

fn registers(
    printer: &mut Printer,
    shown: &ShownHost<'_>,
    guest: &ShownGuest<'_>,
    all: &[&Register],
) {
    let names = all.iter().map(|it| shown.printing.name(it.id).len());
    let column = names.max().unwrap_or(0);
    let values = all.iter().map(|it| held(shown, it).len());
    let value_column = values.filter(|width| *width <= 24).max().unwrap_or(0);
    for register in all {
        let id = register.id;
        let name = shown.printing.name(id);
        printer.line(format_args!(
            "  {}  {:<value_column$}  {}{}",
            styled(style::NAME, format_args!("{name:<column$}")),
            held(shown, register),
            styled(style::ASIDE, format_args!("[{}]", id_digits(id))),
            beside(register),
        ));
        fields(printer, guest, register);
        taken(printer, guest, register);
    }
}

/// What a register held.
fn held(shown: &ShownHost<'_>, register: &Register) -> String {
    match &register.at_reset {
        AtReset::Value(value) => shown.printing.describe(register.id, value),
        AtReset::Poison => "poison".to_owned(),
        AtReset::Counts => "counts".to_owned(),
        AtReset::Unreadable(number) => format!("cannot be read: {}", errno(*number)),
    }
}

/// What else is to be said of it, where it is not as usual.
fn beside(register: &Register) -> String {
    let mut text = String::new();
    if let AtReset::Value(value) = &register.at_reset
        && register
            .id
            .value_name(value.as_u64().unwrap_or_default())
            .is_none()
        && let Some(meaning) = meaning(register.id, value)
    {
        text = format!("  {meaning}");
    }
    if register.differs_by_vcpu {
        text += "  another on each vCPU";
    }
    if register.write_back != 0 {
        text += "  cannot be written back: ";
        text += &errno(register.write_back);
    }
    text
}

fn fields(printer: &mut Printer, guest: &ShownGuest<'_>, register: &Register) {
    let AtReset::Value(value) = &register.at_reset else {
        return;
    };
    let Some(value) = value.as_u64() else {
        return;
    };
    let wanted: Vec<&Wanted> = guest
        .wanted
        .iter()
        .filter(|wanted| wanted.id == register.id)
        .collect();
    if wanted.is_empty() && !guest.fields {
        return;
    }
    let only: Option<Vec<_>> = wanted.iter().map(|wanted| wanted.field).collect();
    for field in all_fields(register.id, value) {
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

/// What may be written.
fn taken(printer: &mut Printer, guest: &ShownGuest<'_>, register: &Register) {
    let id = register.id;
    if let Some(mask) = guest.writable(id).filter(|mask| *mask != 0) {
        printer.line(format_args!(
            "      writable {mask:#x}: {}",
            fields_in(id, mask).join(", ")
        ));
    }
    if let Some(takes) = guest.takes(id) {
        printer.line(format_args!("      takes {}", takes.in_words(id)));
        return;
    }
    // Of all registers at once they would hide the rest.
    if guest.wanted.is_empty() || register.trials.is_empty() {
        return;
    }
    if register.trials.len() > MOST_TRIALS {
        let taken = register.trials.iter().filter(|trial| trial.is_taken());
        let (taken, all) = (taken.count(), register.trials.len());
        printer.line(format_args!("      tried {all} values: {taken} were taken"));
        return;
    }
    for trial in &register.trials {
        printer.line(format_args!(
            "      tried {:#x}: {}",
            trial.value,
            outcome(trial)
        ));
    }
}
