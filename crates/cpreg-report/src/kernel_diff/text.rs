//! Text of `diff` for two kernels: a section for each reason, and a line for each difference.

use std::collections::BTreeMap;

use super::model::{
    ComparedKernel, CpuGuests, KernelDiffReport, KernelDifference, KernelDifferenceKind as Kind,
    Reason, Variant,
};
use crate::host_diff::model::FeatureSets;
use crate::host_diff::text::print_omissions;
use crate::printer::{Printer, style, styled};
use crate::text::pluralize;

/// Prints the whole report.
pub fn print(printer: &mut Printer, report: &KernelDiffReport) {
    if report.equal {
        let cpus = pluralize(report.cpus.len(), "CPU");
        printer.line(format_args!("{}: {cpus}", styled(style::GOOD, "equal")));
    } else {
        let counts = report.counts().into_iter();
        let counts = counts.map(|(kind, count)| format!("{} ({count})", title(kind)));
        let begin = format!("{}: ", styled(style::ERROR, "differ"));
        printer.paragraph(&begin, counts.collect::<Vec<_>>().join(", "));
    }
    print_kernel(printer, "A", &report.a);
    print_kernel(printer, "B", &report.b);
    printer.line("");
    let cpus = report.cpus.iter().map(|it| it.cpu.clone());
    print_names(printer, "CPUs compared: ", &cpus.collect::<Vec<_>>());
    print_names(printer, "CPUs only in A: ", &report.cpus_only_in_a);
    print_names(printer, "CPUs only in B: ", &report.cpus_only_in_b);
    for reason in &report.reasons {
        print_reason(printer, report, reason);
    }
    print_omissions(printer, &report.omissions);
    if !report.equal
        && let Some(cpu) = report.cpus.first()
    {
        let [a, b] =
            [&report.a, &report.b].map(|kernel| format!("linux-{}/{}", kernel.version, cpu.cpu));
        printer.line("");
        printer.line(format_args!(
            "one CPU, with all values: `cpreg diff {a} {b}`"
        ));
    }
}

fn print_names(printer: &mut Printer, label: &str, names: &[String]) {
    if !names.is_empty() {
        printer.paragraph(label, names.join(", "));
    }
}

fn print_kernel(printer: &mut Printer, label: &str, kernel: &ComparedKernel) {
    printer.line(format_args!(
        "  {label}  linux-{} ({})",
        kernel.version, kernel.release
    ));
    if kernel.argument.strip_prefix("linux-") != Some(&kernel.version) {
        let mut note = format!("the newest recorded release of {}", kernel.argument);
        if !kernel.older_versions.is_empty() {
            note = format!("{note}; older ones: {}", kernel.older_versions.join(", "));
        }
        printer.paragraph("     note: ", note);
    }
}

fn print_reason(printer: &mut Printer, report: &KernelDiffReport, reason: &Reason) {
    let changes = reason.changes.iter();
    let changes: Vec<_> = changes
        .map(|it| format!("between {} and {}", it.before, it.after))
        .collect();
    printer.line("");
    printer.line(format_args!(
        "changed {} ({})",
        changes.join(", "),
        reason.differences.len()
    ));
    for change in &reason.history {
        let commit = match &*change.commit {
            "" => String::new(),
            commit => format!(" ({commit})"),
        };
        let begin = format!("    Linux {}{commit}: ", change.release);
        printer.paragraph(&begin, &change.description);
    }
    for tolerance in &reason.tolerances {
        printer.paragraph("    table: ", tolerance);
    }
    if reason.history.is_empty() && reason.tolerances.is_empty() {
        printer.line("    no table explains it; the recordings show it");
    }
    let names = reason.differences.iter().map(|it| full_name(it).len());
    let column = names.max().unwrap_or(0);
    for difference in &reason.differences {
        print_difference(printer, report, difference, column);
    }
}

/// Prints the line of a difference, and a further line for each variant if there are several.
fn print_difference(
    printer: &mut Printer,
    report: &KernelDiffReport,
    difference: &KernelDifference,
    column: usize,
) {
    let id = difference
        .id
        .map(|id| styled(style::DIM, format_args!("  [{id}]")));
    let head = format!(
        "  {}  {}{}",
        styled(
            style::NAME,
            format_args!("{:<column$}", full_name(difference))
        ),
        label(difference.kind),
        id.unwrap_or_default()
    );
    if let [variant] = &*difference.variants {
        printer.line(format_args!(
            "{head}  {}",
            describe(report, difference.kind, variant)
        ));
        return;
    }
    printer.line(head);
    for variant in &difference.variants {
        printer.line(format_args!(
            "      {}",
            describe(report, difference.kind, variant)
        ));
    }
}

fn full_name(difference: &KernelDifference) -> String {
    let name = &difference.name;
    match &difference.field {
        Some(bits) if bits.starts_with('[') => format!("{name}{bits}"),
        Some(field) => format!("{name}.{field}"),
        None => name.clone(),
    }
}

/// Returns a variant in words: the contents, then the CPUs.
fn describe(report: &KernelDiffReport, kind: Kind, variant: &Variant) -> String {
    let cpus = describe_cpus(&report.cpus, &variant.cpus);
    match (&variant.a, &variant.b) {
        (Some(a), Some(b)) if kind == Kind::WritableBits => {
            let sides = [("A", a), ("B", b)].into_iter();
            let sides = sides.filter(|(_, bits)| !bits.is_empty());
            let sides = sides.map(|(label, bits)| format!("only in {label}: {bits}"));
            format!("{}  {cpus}", sides.collect::<Vec<_>>().join("; "))
        }
        (Some(a), Some(b)) if variant.written.is_empty() => format!("{a} -> {b}  {cpus}"),
        (Some(a), Some(b)) => format!("{}: {a} -> {b}  {cpus}", variant.written.join(", ")),
        _ => cpus,
    }
}

/// Describes guests: `every CPU`, `max with sve`.
fn describe_cpus(compared: &[CpuGuests], cpus: &[CpuGuests]) -> String {
    let mut by_guests: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for it in cpus {
        let all = compared.iter().find(|all| all.cpu == it.cpu);
        let guests = describe_guests(all.map_or(&[], |all| &all.guests), &it.guests);
        by_guests.entry(guests).or_default().push(&it.cpu);
    }
    if by_guests.len() > 1 && cpus.len() == compared.len() {
        return "some guests on every CPU".to_owned();
    }
    let groups = by_guests.into_iter().map(|(guests, cpus)| {
        let cpus = if cpus.len() == compared.len() {
            "every CPU".to_owned()
        } else {
            cpus.join(", ")
        };
        format!("{cpus}{guests}")
    });
    groups.collect::<Vec<_>>().join("; ")
}

/// Describes some of the guests on a CPU: those with or without one feature, else a list. Returns
/// an empty text for all guests.
fn describe_guests(all: &[Vec<String>], some: &FeatureSets) -> String {
    if all.len() == some.len() {
        return String::new();
    }
    let matches = |is_member: &dyn Fn(&Vec<String>) -> bool| {
        all.iter()
            .all(|guest| is_member(guest) == some.contains(guest))
    };
    for feature in all.iter().flatten() {
        if matches(&|guest| guest.contains(feature)) {
            return format!(" with {feature}");
        }
        if matches(&|guest| !guest.contains(feature)) {
            return format!(" without {feature}");
        }
    }
    let sets = some.iter().map(|features| match &**features {
        [] => "no features".to_owned(),
        features => features.join(","),
    });
    format!(" with {}", sets.collect::<Vec<_>>().join(" or "))
}

/// Returns the name of a kind in the counts.
const fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Capability => "capabilities",
        Kind::OnlyInA => "registers only in A",
        Kind::OnlyInB => "registers only in B",
        Kind::ResetValue => "values at reset",
        Kind::WriteBack => "write back",
        Kind::WritableBits => "writable bits",
        Kind::AcceptedValues => "accepted values",
        Kind::Trial => "trials",
    }
}

/// Returns the name of a kind in a line.
const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Capability => "capability",
        Kind::OnlyInA => "only in A",
        Kind::OnlyInB => "only in B",
        Kind::ResetValue => "at reset",
        Kind::WriteBack => "write-back of the reset value",
        Kind::WritableBits => "writable bits",
        Kind::AcceptedValues => "accepted values",
        Kind::Trial => "values that were tried",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests(sets: &[&[&str]]) -> FeatureSets {
        let sets = sets.iter();
        sets.map(|set| set.iter().map(|&name| name.to_owned()).collect())
            .collect()
    }

    #[test]
    fn guests_are_described_by_one_feature_or_listed() {
        let all = guests(&[&[], &["pmu"], &["sve"], &["pmu", "sve"]]);
        for (some, expected) in [
            (all.clone(), ""),
            (guests(&[&["pmu"], &["pmu", "sve"]]), " with pmu"),
            (guests(&[&[], &["pmu"]]), " without sve"),
            (
                guests(&[&[], &["pmu", "sve"]]),
                " with no features or pmu,sve",
            ),
        ] {
            assert_eq!(describe_guests(&all, &some), expected);
        }
    }

    #[test]
    fn cpus_with_the_same_guests_are_merged() {
        let cpu = |cpu: &str, sets: &[&[&str]]| CpuGuests {
            cpu: cpu.to_owned(),
            guests: guests(sets),
        };
        let all = [cpu("max", &[&[], &["pmu"]]), cpu("n1", &[&[], &["pmu"]])];
        assert_eq!(describe_cpus(&all, &all), "every CPU");
        assert_eq!(describe_cpus(&all, &all[1..]), "n1");
        let with_pmu = [cpu("max", &[&["pmu"]]), cpu("n1", &[&["pmu"]])];
        assert_eq!(describe_cpus(&all, &with_pmu), "every CPU with pmu");
        let mixed = [cpu("max", &[&["pmu"]]), cpu("n1", &[&[], &["pmu"]])];
        assert_eq!(describe_cpus(&all, &mixed), "some guests on every CPU");
    }
}
