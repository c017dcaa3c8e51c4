//! Text of `baseline`.

use std::collections::BTreeMap;

use cpreg::plan::Verdict;

use super::model::{BaselineReport, BlockedMove, Blocker, Dialects, FixedValue, Setting};
use crate::names;
use crate::printer::{Printer, heading, style, styled};
use crate::text::{list_first, pluralize};

/// Most hosts and moves that a line names.
const MAX_NAMES: usize = 6;

/// Prints the report.
pub fn print(printer: &mut Printer, report: &BaselineReport) {
    print_verdict(printer, report);
    print_settings(printer, report);
    print_fixed(printer, report);
    print_blocked(printer, report);
    print_visible_changes(printer, report);
    print_loaders(printer, report);
    print_advice(printer, report);
    print_dialects(printer, &report.dialects);
    printer.line("");
    if !report.emulated_hosts.is_empty() {
        printer.paragraph(
            &format!("{}: ", styled(style::DIM, "evidence")),
            format_args!(
                "{} with emulated CPUs: right about their kernels, no proof of a real machine's \
                 values",
                pluralize(report.emulated_hosts.len(), "recorded host")
            ),
        );
    }
    printer.paragraph(
        &format!("{}: ", styled(style::DIM, "scope")),
        "VMs that are born with the settings, on hosts where the VMM is started with the same \
         settings. A running VM holds other values than a new one: check it with `cpreg check` \
         before it moves",
    );
}

fn print_verdict(printer: &mut Printer, report: &BaselineReport) {
    let style = if report.verdict == Verdict::Refused.into() {
        style::ERROR
    } else if report.verdict == Verdict::Unknown.into() {
        style::WARNING
    } else {
        style::GOOD
    };
    printer.paragraph(
        &format!("{}: ", styled(style, &report.verdict)),
        &report.summary,
    );
    printer.paragraph("  hosts  ", report.hosts.join(", "));
    let features = match report.features.as_slice() {
        [] => "no vCPU features".to_owned(),
        features => features.join(", "),
    };
    printer.paragraph("  guest  ", features);
}

/// Prints what the guest does without, and the values with which it is born.
fn print_settings(printer: &mut Printer, report: &BaselineReport) {
    printer.line("");
    if !report.lost_features.is_empty() || report.vector_limit.is_some() {
        printer.line(heading("the guest does without:"));
        for lost in &report.lost_features {
            let hosts = match lost.forced_by.as_slice() {
                [] => String::new(),
                hosts => format!(": {}", some(hosts)),
            };
            let begin = format!(
                "  {}  ",
                styled(style::NAME, format_args!("{:<8}", lost.feature))
            );
            printer.paragraph(&begin, format_args!("{}{hosts}", lost.reason));
        }
        if let Some(limit) = &report.vector_limit {
            let begin = format!("  {}  ", styled(style::NAME, "vectors "));
            printer.paragraph(
                &begin,
                format_args!(
                    "of more than {} bits (of up to {} on some hosts): {}",
                    limit.max_bits,
                    limit.best_bits,
                    some(&limit.forced_by)
                ),
            );
        }
        printer.line("");
    }
    printer.line(heading("settings:"));
    if report.settings.is_empty() {
        printer.line("  none: a new VM has the same values on all hosts");
    }
    for setting in &report.settings {
        let begin = format!("  {}  ", styled(style::NAME, setting_name(setting)));
        let value = value(setting, setting.value.0);
        let loss = if setting.value == setting.best {
            "and no value promises the guest more".to_owned()
        } else {
            format!("in place of {}", self::value(setting, setting.best.0))
        };
        let forced = match setting.forced_by.as_slice() {
            [] => String::new(),
            hosts => format!("; forced by {}", some(hosts)),
        };
        printer.paragraph(&begin, format_args!("{value}, {loss}{forced}"));
    }
}

fn setting_name(setting: &Setting) -> String {
    match &setting.field {
        Some(field) => format!("{}.{field}", setting.register),
        None => setting.register.clone(),
    }
}

/// Returns a value with its name, if it has one.
fn value(setting: &Setting, value: u64) -> String {
    let name = setting
        .field
        .is_none()
        .then(|| setting.id.0.describe_value(value));
    match name.flatten() {
        Some(name) => format!("{name} ({value:#x})"),
        None => format!("{value:#x}"),
    }
}

fn print_fixed(printer: &mut Printer, report: &BaselineReport) {
    if report.fixed.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("no setting helps:"));
    for fixed in &report.fixed {
        let name = match &fixed.field {
            Some(field) => format!("{}.{field}", fixed.register),
            None => fixed.register.clone(),
        };
        let begin = format!("  {}  ", styled(style::ERROR, name));
        printer.paragraph(&begin, format_args!("{}; {}", fixed.reason, values(fixed)));
    }
}

/// Returns the values of a fixed difference with their hosts.
fn values(fixed: &FixedValue) -> String {
    let values = fixed.values.iter().map(|of_hosts| {
        let note = if of_hosts.fixed_on.is_empty() {
            ""
        } else if of_hosts.fixed_on.len() == of_hosts.hosts.len() {
            ", fixed"
        } else {
            ", fixed on some"
        };
        format!("{} on {}{note}", of_hosts.value, some(&of_hosts.hosts))
    });
    values.collect::<Vec<_>>().join("; ")
}

/// Prints the moves that are not ready. Moves with the same blockers have one entry.
fn print_blocked(printer: &mut Printer, report: &BaselineReport) {
    if report.blocked.is_empty() {
        return;
    }
    let mut groups: BTreeMap<(&str, Vec<&Blocker>), Vec<&BlockedMove>> = BTreeMap::new();
    for blocked in &report.blocked {
        let key = (&*blocked.outcome, blocked.blockers.iter().collect());
        groups.entry(key).or_default().push(blocked);
    }
    printer.line("");
    printer.line(heading("moves that are not ready:"));
    for ((outcome, blockers), moves) in groups {
        let style = if outcome == "unknown" {
            style::WARNING
        } else {
            style::ERROR
        };
        let pairs: Vec<_> = moves
            .iter()
            .map(|one| {
                if one.from == one.to {
                    format!("birth on {}", one.from)
                } else {
                    format!("{} -> {}", one.from, one.to)
                }
            })
            .collect();
        let begin = format!("  {}  ", styled(style, outcome));
        printer.paragraph(&begin, some(&pairs));
        for blocker in blockers {
            let begin = format!("      {}  ", styled(style::NAME, &blocker.name));
            printer.paragraph(&begin, &blocker.reason);
        }
        let consents = moves.first().map(|one| &one.consents);
        for consent in consents.into_iter().flatten() {
            let begin = format!("      {}: ", styled(style::HINT, "fix"));
            printer.paragraph(
                &begin,
                format_args!(
                    "`--accept {}`, for the VM that moves ({}; {} -> {} here)",
                    consent.register, consent.severity, consent.from, consent.to
                ),
            );
        }
    }
}

fn print_visible_changes(printer: &mut Printer, report: &BaselineReport) {
    if report.visible_changes.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("the guest could notice, although the VM loads:"));
    for change in &report.visible_changes {
        let style = if change.severity == names::Severity::LOW {
            style::DIM
        } else {
            style::WARNING
        };
        let begin = format!(
            "  {}  ",
            styled(style, format_args!("{:<6}", change.severity))
        );
        let description = match &*change.description {
            "" => String::new(),
            text => format!(": {text}"),
        };
        printer.paragraph(
            &begin,
            format_args!(
                "{} in {}{description}",
                change.name,
                pluralize(change.moves, "move")
            ),
        );
    }
}

/// Prints the number of pairs that programs load without cpreg at the destination.
fn print_loaders(printer: &mut Printer, report: &BaselineReport) {
    let pairs = report.counts.pairs;
    if report.counts.ready_pairs == 0 {
        return;
    }
    printer.line("");
    printer.line(heading("without cpreg at the destination (inferred):"));
    for count in &report.loaders {
        let after = if report.drops.is_empty() {
            String::new()
        } else {
            format!(
                "; of VMs born without the registers below: {} of {pairs}",
                count.pairs_after_drops
            )
        };
        printer.line(format_args!(
            "  {:<10}  {} of {pairs} pairs{after}",
            count.loader, count.pairs
        ));
    }
    if !report.drops.is_empty() {
        printer.paragraph(
            "  ",
            format_args!(
                "lists that depend on the kernel are not settings: only some hosts list {}. \
                 `cpreg run --drop REG` lets a VM be born without them",
                report.drops.join(", ")
            ),
        );
    }
    printer.paragraph(
        "  ",
        "the other pairs: `cpreg run` at the destination, `cpreg relay` or `cpreg convert` loads \
         them",
    );
}

fn print_advice(printer: &mut Printer, report: &BaselineReport) {
    if report.advice.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("leaving out hosts:"));
    for advice in &report.advice {
        let mut kept = advice.features.clone();
        kept.extend(advice.values.iter().cloned());
        let kept = match kept.as_slice() {
            [] => String::new(),
            kept => format!("keeps {}; ", some(kept)),
        };
        printer.paragraph(
            "  ",
            format_args!(
                "without {}: {kept}{} of {} moves and births ready",
                some(&advice.hosts),
                advice.ready,
                advice.moves
            ),
        );
    }
}

fn print_dialects(printer: &mut Printer, dialects: &Dialects) {
    printer.line("");
    printer.line(heading("QEMU:"));
    for options in &dialects.qemu {
        printer.line(format_args!("  {}:", options.versions));
        printer.line(format_args!("    -cpu {}", options.cpu));
        print_missing(printer, &options.missing);
    }
    printer.line("");
    printer.line(heading("libvirt, with QEMU 11.0 and later:"));
    for line in dialects.libvirt.xml.lines() {
        printer.line(format_args!("    {line}"));
    }
    print_missing(printer, &dialects.libvirt.missing);
    printer.line("");
    printer.line(heading(
        "cpreg run, for every VMM, at birth and at each destination:",
    ));
    let options = dialects.run.options.join(" ");
    let space = if options.is_empty() { "" } else { " " };
    printer.line("    cpreg baseline HOSTS… --for run > baseline.json");
    printer.line(format_args!(
        "    cpreg run --baseline baseline.json{space}{options} -- COMMAND…"
    ));
    printer.line("");
    printer.line(heading(
        "Firecracker (a guest without PMU, SVE and pointer authentication):",
    ));
    let firecracker = &dialects.firecracker;
    if firecracker.template.reg_modifiers.is_empty()
        && firecracker.template.vcpu_features.is_empty()
    {
        printer.line("    no template is needed");
    } else {
        printer.line("    cpreg baseline HOSTS… --for firecracker > template.json");
    }
    if firecracker.verdict == Verdict::Refused.into()
        || firecracker.verdict == Verdict::Unknown.into()
    {
        let begin = format!("    {}: ", firecracker.verdict);
        printer.paragraph(&begin, &firecracker.summary);
    }
    print_missing(printer, &firecracker.missing);
    if dialects.host_items.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("on the hosts, for VMMs without such settings:"));
    for item in &dialects.host_items {
        let parameter = item.parameter.as_ref();
        let begin = parameter.map_or_else(String::new, |parameter| {
            format!("{}: ", styled(style::NAME, parameter))
        });
        printer.paragraph(
            "  ",
            format_args!("{begin}{} ({})", item.effect, some(&item.hosts)),
        );
    }
}

fn print_missing(printer: &mut Printer, missing: &[String]) {
    if missing.is_empty() {
        return;
    }
    let begin = format!("    {}: ", styled(style::WARNING, "no option"));
    printer.paragraph(
        &begin,
        format_args!("{}. `cpreg run --baseline` sets them", some(missing)),
    );
}

/// Returns the first of these names, and the number of the others.
fn some(names: &[String]) -> String {
    list_first(names, MAX_NAMES)
}
