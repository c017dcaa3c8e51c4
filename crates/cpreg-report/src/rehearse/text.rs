//! The text of `rehearse`.

use cpreg::plan::{Deviation, Verdict};

use super::model::NotJudged;
use super::{Outcome, SCOPE, Tried};
use crate::check::text::{on_vcpus, print_plan, shape, verdict_word};
use crate::printer::{Printer, style, styled};

/// More of QEMU's words than this are cut; JSON has them all.
const MOST_WORDS: usize = 8;

/// Prints the whole report. `all`: also what is simply copied.
pub fn print(printer: &mut Printer, tried: &Tried<'_>, all: bool) {
    let answer = tried.answer;
    printer.line(format_args!(
        "{}: {}",
        verdict_word(tried.verdict),
        tried.meaning()
    ));
    let source = &answer.source;
    printer.line(format_args!(
        "  from {}, without its RAM{}",
        source.summary(),
        if tried.repaired && tried.outcome.is_some() {
            ", repaired"
        } else {
            ""
        }
    ));
    printer.line(format_args!("  to   {}", answer.destination.name));
    printer.line("");
    said(printer, tried);
    deviations(printer, tried);
    // A VM that needs no change leaves nothing to decide; of a QEMU that is not known nothing is planned.
    let changes_nothing = tried.verdict == Verdict::Loads || answer.verdict() == Verdict::Loads;
    if tried.unknown_host.is_none() && changes_nothing && tried.is_unforeseen() {
        let text =
            "as far as cpreg knows this QEMU has all its registers, and takes what they hold";
        printer.line(styled(style::ASIDE, text));
        printer.line("");
    }
    match () {
        () if tried.unknown_host.is_some() => {}
        () if all || !changes_nothing => print_plan(printer, answer, all),
        () => shape(printer, answer),
    }
    ways(printer, tried);
    not_judged(printer, &tried.not_judged);
    replaced(printer, tried);
    printer.line(format_args!("{}: {SCOPE}", styled(style::ASIDE, "scope")));
}

/// What to do next, where a repair is the way.
fn ways(printer: &mut Printer, tried: &Tried<'_>) {
    let lines = tried.ways();
    for (at, line) in lines.iter().enumerate() {
        let word = if at == 0 { "do" } else { "then" };
        printer.line(format_args!("{}: {line}", styled(style::HINT, word)));
    }
    if !lines.is_empty() {
        printer.line("");
    }
}

fn said(printer: &mut Printer, tried: &Tried<'_>) {
    let after = tried.unreadable.as_ref();
    if let Some(error) = &tried.unknown_host {
        printer.line("QEMU could not say what it has, so cpreg plans nothing for it");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    // The same twice helps nobody.
    if let Some(error) = after.filter(|_| tried.unknown_host.is_none()) {
        printer.line("QEMU could not say what it holds after the load");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    if matches!(tried.outcome, Some(Outcome::Failed { .. })) && tried.said.is_empty() {
        printer.line("QEMU said nothing");
        printer.line("");
    }
    if tried.said.is_empty() {
        return;
    }
    printer.line("QEMU said");
    // What it only warns of comes last: there can be a line for every register.
    let warns = |line: &&String| line.contains(": warning: ");
    let failures = tried.said.iter().filter(|line| !warns(line));
    let lines = failures.chain(tried.said.iter().filter(warns));
    for line in lines.take(MOST_WORDS) {
        printer.line(styled(style::ASIDE, format_args!("  {line}")));
    }
    if tried.said.len() > MOST_WORDS {
        let more = tried.said.len() - MOST_WORDS;
        let text = format_args!("  … and {more} more, warnings last; --format json has them all");
        printer.line(styled(style::ASIDE, text));
    }
    for explanation in tried.explained_beside_registers() {
        printer.line(format_args!("  means: {}", explanation.means));
        for cause in explanation.causes {
            printer.line(format_args!("  usually: {}", cause.what));
        }
    }
    printer.line("");
}

fn deviations(printer: &mut Printer, tried: &Tried<'_>) {
    if tried.deviations.is_empty() {
        return;
    }
    printer.line("lost or changed by this load");
    for (vcpus, deviation) in &tried.deviations {
        let text = describe(tried, deviation);
        printer.line(format_args!("  {text}{}", on_vcpus(tried.answer, vcpus)));
    }
    printer.line("");
}

fn describe(tried: &Tried<'_>, deviation: &Deviation) -> String {
    let printing = tried.answer.printing;
    match deviation {
        Deviation::Register {
            id,
            expected,
            found,
        } => {
            let name = styled(style::NAME, printing.name(*id));
            let expected = printing.describe(*id, expected);
            match found {
                Some(found) => format!("{name}  {expected} -> {}", printing.describe(*id, found)),
                None => format!("{name}  {expected}, and it is not there"),
            }
        }
        Deviation::Extension { name, found, .. } => {
            let what = if found.is_some() {
                "holds something else"
            } else {
                "is not there"
            };
            format!("{}  {what}", styled(style::NAME, name))
        }
        _ => String::new(),
    }
}

fn not_judged(printer: &mut Printer, parts: &[NotJudged]) {
    if parts.is_empty() {
        return;
    }
    printer.line("not judged");
    for part in parts {
        printer.line(format_args!(
            "  {}: {}",
            styled(style::NAME, &part.what),
            part.reason
        ));
    }
    printer.line("");
}

fn replaced(printer: &mut Printer, tried: &Tried<'_>) {
    printer.line("not as in your command line, so that nothing of yours is touched");
    let (added, others): (Vec<_>, Vec<_>) = tried
        .replaced
        .iter()
        .partition(|change| change.was.is_empty());
    for change in others {
        let was = change.was.join(" ");
        let text = if change.now.is_empty() {
            format!("{was} left out")
        } else {
            format!("{was} -> {}", change.now.join(" "))
        };
        let reason = styled(style::ASIDE, &change.reason);
        printer.line(format_args!("  {text}: {reason}"));
    }
    let added: Vec<_> = added.iter().map(|change| change.now.join(" ")).collect();
    if !added.is_empty() {
        printer.line(format_args!("  {} added", added.join(" ")));
    }
    printer.line("");
}
