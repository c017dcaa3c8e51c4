//! The text of `check`: names first, ids behind, one line per decision that matters, why, what to do.

use std::collections::BTreeSet;

use cpreg::destination::Knowledge;
use cpreg::destination::load::Event;
use cpreg::plan::{
    Action, Adjustment, Decision, ExtensionAction, ExtensionDecision, Foretold, Outcome, Severity,
    VcpuSet, Verdict, VisibleChange,
};
use cpreg::register::Value;
use cpreg::vm::{Content, Extension};

use super::check::{Answer, SCOPE, meaning};
use super::value::{advice, field_changes};
use crate::printer::{Printer, style, styled};

/// Prints the whole report. `all`: also what is simply copied.
pub(crate) fn print(printer: &mut Printer, answer: &Answer<'_>, all: bool) {
    head(printer, answer);
    shape(printer, answer);
    decisions(printer, answer, all);
    visible(printer, answer);
    adjustments(printer, answer);
    loaders(printer, answer);
    printer.line(format_args!("{}: {SCOPE}", styled(style::ASIDE, "scope")));
}

fn head(printer: &mut Printer, answer: &Answer<'_>) {
    let verdict = answer.verdict();
    let colour = match verdict {
        Verdict::Loads | Verdict::Converts => style::GOOD,
        Verdict::Refused => style::BAD,
        Verdict::Unknown => style::DOUBT,
    };
    printer.line(format_args!(
        "{}: {}",
        styled(colour, verdict.name()),
        meaning(verdict)
    ));
    let source = &answer.source;
    let vcpus = |count: usize| format!("{count} vCPU{}", if count == 1 { "" } else { "s" });
    printer.line(format_args!(
        "  from {} ({}, {}{})",
        source.name,
        source.machine.as_deref().unwrap_or("machine unknown"),
        vcpus(source.vcpus),
        source
            .accelerator
            .map(|accelerator| format!(", {accelerator}"))
            .unwrap_or_default()
    ));
    let destination = answer.destination;
    printer.line(format_args!(
        "  to   {} ({})",
        destination.name, answer.evidence
    ));
    printer.line("");
}

fn shape(printer: &mut Printer, answer: &Answer<'_>) {
    let none = || "none".to_owned();
    for difference in &answer.shape {
        let word = if difference.refuses {
            styled(style::BAD, "refused")
        } else {
            styled(style::ASIDE, "differs")
        };
        printer.line(format_args!(
            "  {word}  {}: {} -> {}",
            difference.what,
            difference.source.clone().unwrap_or_else(none),
            difference.destination.clone().unwrap_or_else(none)
        ));
    }
    if answer.shape.iter().any(|difference| difference.refuses) {
        printer.line(format_args!(
            "           {}: start the destination with the machine type, vCPUs, RAM and devices of the source",
            styled(style::HINT, "do")
        ));
    }
    if !answer.shape.is_empty() {
        printer.line("");
    }
}

/// Whether a decision goes without saying.
fn goes_without_saying(decision: &Decision) -> bool {
    matches!(decision.action, Action::Copy)
        || matches!(decision.action, Action::KeepAtReset | Action::WriteReset(_))
            && decision.source.is_none()
}

fn decisions(printer: &mut Printer, answer: &Answer<'_>, all: bool) {
    let decisions = answer.check.plan.decisions();
    let mut rows: Vec<&(VcpuSet, &Decision)> = decisions
        .iter()
        .filter(|(_, decision)| all || !goes_without_saying(decision))
        .collect();
    rows.sort_by_key(|(_, decision)| (weight(&decision.action), decision.register));
    let (ignored, others): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|(_, decision)| decision.action == Action::Ignore);
    print_decisions(printer, answer, &others);
    print_ignored(printer, answer, &ignored);
    let extensions = answer.check.plan.extensions();
    for (vcpus, decision) in &extensions {
        let silent = matches!(
            decision.action,
            ExtensionAction::Copy | ExtensionAction::KeepAtReset
        );
        if all || !silent {
            print_extension(printer, answer, vcpus, decision);
        }
    }
    if !all {
        let copied = decisions
            .iter()
            .filter(|(_, decision)| decision.action == Action::Copy)
            .count();
        let kept = decisions
            .iter()
            .filter(|(_, decision)| {
                goes_without_saying(decision) && decision.action != Action::Copy
            })
            .count();
        let knowledge = decisions
            .iter()
            .filter(|(_, decision)| decision.action == Action::Copy)
            .map(|(_, decision)| decision.knowledge)
            .min()
            .unwrap_or(Knowledge::Proven);
        let kept = match kept {
            0 => String::new(),
            kept => format!("; {kept} that only the destination has stay at reset"),
        };
        printer.line(styled(
            style::ASIDE,
            format_args!("  {copied} registers are copied ({knowledge}){kept}; --all lists them"),
        ));
    }
    printer.line("");
}

/// What stands in the way comes first.
const fn weight(action: &Action) -> u8 {
    match action {
        Action::Refuse => 0,
        Action::Undecided => 1,
        Action::Set(_) => 2,
        Action::Ignore => 3,
        Action::KeepAtReset | Action::WriteReset(_) => 4,
        _ => 5,
    }
}

fn action_word(action: &Action) -> String {
    match action {
        Action::Refuse => styled(style::BAD, "refused"),
        Action::Undecided => styled(style::DOUBT, "unknown"),
        Action::Set(_) => styled(style::DOUBT, "set    "),
        Action::Ignore => styled(style::GOOD, "ignored"),
        Action::KeepAtReset | Action::WriteReset(_) => "reset  ".to_owned(),
        _ => "copied ".to_owned(),
    }
}

/// `, vCPUs 0-3` where not all of them agree.
fn on_vcpus(answer: &Answer<'_>, vcpus: &VcpuSet) -> String {
    let all = vcpus.iter().count() == answer.source.vcpus;
    if all {
        String::new()
    } else {
        format!(" (vCPU {vcpus})")
    }
}

/// What is decided alike for one reason stands together: a line for each register, then why and what to do.
fn print_decisions(printer: &mut Printer, answer: &Answer<'_>, rows: &[&(VcpuSet, &Decision)]) {
    struct Group<'a> {
        weight: u8,
        reason: String,
        advice: Option<String>,
        rows: Vec<&'a (VcpuSet, &'a Decision)>,
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows {
        let decision = row.1;
        let certainty = match decision.knowledge {
            Knowledge::Inferred => " (inferred)",
            Knowledge::Proven | Knowledge::Unknown => "",
        };
        let stands_in_the_way = matches!(decision.action, Action::Refuse | Action::Undecided);
        let group = Group {
            weight: weight(&decision.action),
            reason: format!("{}{certainty}", decision.reason.display(answer.tolerances)),
            advice: stands_in_the_way
                .then(|| advice(decision, answer.tolerances))
                .flatten(),
            rows: vec![row],
        };
        let alike = |other: &&mut Group<'_>| {
            (other.weight, &other.reason, &other.advice)
                == (group.weight, &group.reason, &group.advice)
        };
        match groups.iter_mut().find(alike) {
            Some(other) => other.rows.push(row),
            None => groups.push(group),
        }
    }
    for group in groups {
        for (vcpus, decision) in group.rows {
            print_decision(printer, answer, vcpus, decision);
        }
        printer.line(format_args!("           {}", group.reason));
        if let Some(advice) = group.advice {
            printer.line(format_args!(
                "           {}: {advice}",
                styled(style::HINT, "do")
            ));
        }
    }
}

/// A decision's line, and which fields stand in the way.
fn print_decision(
    printer: &mut Printer,
    answer: &Answer<'_>,
    vcpus: &VcpuSet,
    decision: &Decision,
) {
    let id = decision.register;
    let show = |value: &Option<Value>| {
        value
            .as_ref()
            .map(|value| answer.printing.describe(id, value))
    };
    let values = match (
        &decision.action,
        show(&decision.source),
        show(&decision.host),
    ) {
        (Action::Set(to), Some(from), _) => {
            format!("{from} -> {}", answer.printing.describe(id, to))
        }
        (_, Some(source), Some(host)) if source != host => format!("{source}, there {host}"),
        (_, Some(source), _) => source,
        (_, None, Some(host)) => format!("there {host}"),
        (_, None, None) => String::new(),
    };
    printer.line(format_args!(
        "  {}  {}  {values}{}  {}",
        action_word(&decision.action),
        styled(style::NAME, answer.printing.name(id)),
        on_vcpus(answer, vcpus),
        styled(style::ASIDE, format_args!("[{:#018x}]", id.raw())),
    ));
    let differing = match (&decision.action, &decision.source, &decision.host) {
        (Action::Refuse | Action::Undecided, Some(source), Some(host)) => source
            .as_u64()
            .zip(host.as_u64())
            .map(|(source, host)| field_changes(id, source, host)),
        _ => None,
    };
    let proposed = answer
        .check
        .plan
        .proposed
        .iter()
        .any(|adjustment| adjustment.register == id);
    let secret = id.is_secret() && !answer.printing.secrets;
    // A proposal shows the fields.
    if let Some(fields) = differing.filter(|fields| !fields.is_empty() && !proposed && !secret) {
        printer.line(format_args!("             {}", fields.join(", ")));
    }
}

/// What is ignored for one reason stands together.
fn print_ignored(printer: &mut Printer, answer: &Answer<'_>, rows: &[&(VcpuSet, &Decision)]) {
    let mut reasons: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for (vcpus, decision) in rows {
        let id = decision.register;
        let value = decision
            .source
            .as_ref()
            .map(|value| answer.printing.describe(id, value))
            .unwrap_or_default();
        let text = (
            answer.printing.name(id),
            format!(" {value}{}", on_vcpus(answer, vcpus)),
        );
        let reason = decision.reason.display(answer.tolerances).to_string();
        match reasons.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, texts)) => texts.push(text),
            None => reasons.push((reason, vec![text])),
        }
    }
    for (reason, texts) in reasons {
        let mut begin = format!("  {}  ", styled(style::GOOD, "ignored"));
        for line in wrapped(&texts) {
            printer.line(format_args!("{begin}{line}"));
            begin = " ".repeat(11);
        }
        printer.line(format_args!("           {reason}"));
    }
}

/// Names with what is said of them, commas between, in lines of at most this many columns where that is possible.
fn wrapped(texts: &[(String, String)]) -> Vec<String> {
    const COLUMNS: usize = 100;
    let mut lines: Vec<String> = Vec::new();
    let mut column = COLUMNS;
    for (name, said) in texts {
        let width = name.len() + said.len() + ", ".len();
        let text = format!("{}{said}", styled(style::NAME, name));
        match lines.last_mut() {
            Some(line) if column + width <= COLUMNS => {
                line.push_str(", ");
                line.push_str(&text);
                column += width;
            }
            last => {
                if let Some(line) = last {
                    line.push(',');
                }
                lines.push(text);
                column = width;
            }
        }
    }
    lines
}

fn print_extension(
    printer: &mut Printer,
    answer: &Answer<'_>,
    vcpus: &VcpuSet,
    decision: &ExtensionDecision,
) {
    let word = match decision.action {
        ExtensionAction::Refuse => styled(style::BAD, "refused"),
        ExtensionAction::Undecided => styled(style::DOUBT, "unknown"),
        ExtensionAction::Set(_) => styled(style::DOUBT, "set    "),
        ExtensionAction::Ignore => styled(style::GOOD, "left out"),
        ExtensionAction::KeepAtReset => "reset  ".to_owned(),
        _ => "copied ".to_owned(),
    };
    let content = |content: &Content| match content {
        Content::Number(u64::MAX) if decision.name == Extension::WFXT_TIMER => "idle".to_owned(),
        Content::Number(number) => format!("{number:#x}"),
        Content::Bytes(bytes) => format!("{} bytes", bytes.len()),
    };
    let values = match (&decision.source, &decision.action) {
        (Some(from), ExtensionAction::Set(to)) => format!("{} -> {}", content(from), content(to)),
        (None, ExtensionAction::Set(to)) => format!("-> {}", content(to)),
        (Some(from), _) => content(from),
        (None, _) => String::new(),
    };
    printer.line(format_args!(
        "  {word}  {}  {values}{}",
        styled(style::NAME, &decision.name),
        on_vcpus(answer, vcpus)
    ));
    printer.line(format_args!(
        "           {}",
        decision.reason.display(answer.tolerances)
    ));
}

fn visible(printer: &mut Printer, answer: &Answer<'_>) {
    let changes = &answer.check.plan.visible;
    if changes.is_empty() {
        return;
    }
    printer.line("what the guest could notice");
    // What is said of several registers alike stands once.
    let mut groups: Vec<Vec<&VisibleChange>> = Vec::new();
    for change in changes {
        let alike = |other: &&mut Vec<&VisibleChange>| {
            let other = other[0];
            !change.what.is_empty()
                && change.field.is_none()
                && other.field.is_none()
                && (&other.what, other.severity, &other.vcpus)
                    == (&change.what, change.severity, &change.vcpus)
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(change),
            None => groups.push(vec![change]),
        }
    }
    for group in &groups {
        printer.line(format_args!("  {}", visible_line(answer, group)));
    }
    printer.line("");
}

fn severity_word(severity: Severity) -> String {
    let colour = match severity {
        Severity::Low => style::ASIDE,
        Severity::Medium => style::DOUBT,
        Severity::High => style::BAD,
    };
    styled(colour, format_args!("{:<6}", severity.name()))
}

fn visible_line(answer: &Answer<'_>, group: &[&VisibleChange]) -> String {
    let change = group[0];
    let texts: Vec<_> = group
        .iter()
        .map(|change| visible_change(answer, change))
        .collect();
    let what = if change.what.is_empty() {
        String::new()
    } else {
        format!(": {}", change.what)
    };
    format!(
        "{}  {}{}{what}",
        severity_word(change.severity),
        texts.join(", "),
        on_vcpus(answer, &change.vcpus),
    )
}

fn visible_change(answer: &Answer<'_>, change: &VisibleChange) -> String {
    let mut name = change
        .register
        .map(|id| answer.printing.name(id))
        .unwrap_or_default();
    if let Some(field) = &change.field {
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(field);
    }
    let name = styled(style::NAME, name);
    let secret = change
        .register
        .is_some_and(cpreg::register::RegisterId::is_secret);
    let show = |value: u64| {
        let meaning = change
            .register
            .filter(|_| change.field.is_none())
            .and_then(|id| id.value_name(value));
        if secret && !answer.printing.secrets {
            "(secret)".to_owned()
        } else {
            meaning.map_or_else(|| format!("{value:#x}"), str::to_owned)
        }
    };
    match (change.from, change.to) {
        (None, None) => name,
        (Some(from), None) => format!("{name} {}", show(from)),
        (None, Some(to)) => format!("{name} -> {}", show(to)),
        (Some(from), Some(to)) => format!("{name}  {} -> {}", show(from), show(to)),
    }
}

fn adjustments(printer: &mut Printer, answer: &Answer<'_>) {
    let plan = &answer.check.plan;
    if plan.proposed.is_empty() {
        return;
    }
    printer.line(
        "changes of value that would take away what stands in the way; only you can take them",
    );
    for adjustment in &plan.proposed {
        printer.line(format_args!("  {}", adjustment_line(answer, adjustment)));
    }
    let then = match plan.with_proposed {
        Outcome::Ready => "with all of them the VM converts",
        Outcome::Refused => "even with all of them something stands in the way",
        Outcome::Unknown => "even with all of them something is not known",
    };
    let most = plan
        .proposed
        .iter()
        .map(|adjustment| adjustment.severity)
        .max();
    printer.line(format_args!(
        "  {}: {then}; --accept REG takes one, --accept {} all",
        styled(style::HINT, "do"),
        most.map_or("low", Severity::name)
    ));
    printer.line("");
}

fn adjustment_line(answer: &Answer<'_>, adjustment: &Adjustment) -> String {
    let id = adjustment.register;
    let fields = field_changes(id, adjustment.from, adjustment.to);
    let describe = |value: u64| answer.printing.describe(id, &Value::Small(value));
    let fields = if fields.is_empty() || id.value_name(adjustment.to).is_some() {
        String::new()
    } else {
        format!("  {}", fields.join(", "))
    };
    format!(
        "{}  {}  {} -> {}{}{fields}",
        severity_word(adjustment.severity),
        styled(style::NAME, answer.printing.name(id)),
        describe(adjustment.from),
        describe(adjustment.to),
        on_vcpus(answer, &adjustment.vcpus),
    )
}

/// More of a loader's own words than this are cut; JSON has them all.
const MOST_WORDS: usize = 6;

fn loaders(printer: &mut Printer, answer: &Answer<'_>) {
    printer.line("on its own, without cpreg");
    // Generations behave alike: what several would do stands once.
    let mut groups: Vec<(Vec<&Foretold>, Vec<String>)> = Vec::new();
    for foretold in &answer.check.loaders {
        let words = answer.words(foretold.loader, &foretold.load);
        match groups.last_mut() {
            Some((alike, same_words))
                if *same_words == words
                    && alike[0].load.loads == foretold.load.loads
                    && alike[0].load.knowledge == foretold.load.knowledge
                    && alike[0].load.lost == foretold.load.lost =>
            {
                alike.push(foretold);
            }
            _ => groups.push((vec![foretold], words)),
        }
    }
    for (alike, words) in &groups {
        print_loaders(printer, answer, alike, words);
    }
    printer.line("");
}

fn print_loaders(
    printer: &mut Printer,
    answer: &Answer<'_>,
    alike: &[&Foretold],
    words: &[String],
) {
    let load = &alike[0].load;
    let outcome = match load.loads {
        Some(true) => styled(style::GOOD, "loads"),
        Some(false) => styled(style::BAD, "fails"),
        None => styled(style::DOUBT, "unknown"),
    };
    let versions: Vec<_> = alike
        .iter()
        .map(|foretold| {
            let own = if foretold.is_destinations {
                " (the destination's)"
            } else {
                ""
            };
            format!("{}{own}", foretold.loader.version)
        })
        .collect();
    // Ascending, and once for all vCPUs.
    let lost: BTreeSet<_> = load.lost.iter().map(|(_, id)| *id).collect();
    let names: Vec<_> = lost.iter().map(|id| answer.printing.name(*id)).collect();
    let complains = load
        .events
        .iter()
        .any(|event| matches!(event, Event::OnlyInInput { id, .. } if lost.contains(id)));
    let lost = match (names.join(", "), complains) {
        (names, _) if names.is_empty() => String::new(),
        (names, true) => format!("; calls {names} a failure and goes on without"),
        (names, false) => format!("; drops {names} without a word"),
    };
    let knowledge = match load.loads {
        Some(_) => format!(" ({})", load.knowledge),
        None => String::new(),
    };
    printer.line(format_args!(
        "  {} {}: {outcome}{knowledge}{lost}",
        alike[0].loader.program.name().to_uppercase(),
        versions.join(", "),
    ));
    for line in words.iter().take(MOST_WORDS) {
        printer.line(styled(style::ASIDE, format_args!("    {line}")));
    }
    if words.len() > MOST_WORDS {
        printer.line(styled(
            style::ASIDE,
            format_args!("    … and {} lines more", words.len() - MOST_WORDS),
        ));
    }
}
