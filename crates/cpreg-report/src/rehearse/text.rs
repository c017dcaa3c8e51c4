//! The text of `rehearse`.

use cpreg::plan::{Deviation, Verdict};

use super::model::UnverifiedPart;
use super::{LoadOutcome, RehearsalFindings, SCOPE};
use crate::check::text::{print_plan, print_shape, vcpu_suffix, verdict_word};
use crate::printer::{Printer, style, styled};

/// More of QEMU's words than this are cut; JSON has them all.
const MAX_STDERR_LINES: usize = 8;

/// Prints the whole report. `all`: also what is simply copied.
pub fn print(printer: &mut Printer, tried: &RehearsalFindings<'_>, all: bool) {
    let answer = tried.prediction;
    printer.line(format_args!(
        "{}: {}",
        verdict_word(tried.verdict),
        tried.meaning()
    ));
    let source = &answer.source;
    printer.line(format_args!(
        "  from {}, without its RAM{}",
        source.summary(),
        if tried.converted && tried.outcome.is_some() {
            ", converted"
        } else {
            ""
        }
    ));
    printer.line(format_args!("  to   {}", answer.destination.name));
    printer.line("");
    print_stderr(printer, tried);
    print_deviations(printer, tried);
    // A VM that needs no change leaves nothing to decide; of a QEMU that is not known nothing is planned.
    let changes_nothing = tried.verdict == Verdict::Loads || answer.verdict() == Verdict::Loads;
    if tried.initial_state_error.is_none() && changes_nothing && tried.is_unpredicted() {
        let text =
            "as far as cpreg knows this QEMU has all its registers, and takes what they hold";
        printer.line(styled(style::DIM, text));
        printer.line("");
    }
    match () {
        () if tried.initial_state_error.is_some() => {}
        () if all || !changes_nothing => print_plan(printer, answer, all),
        () => print_shape(printer, answer),
    }
    print_next_steps(printer, tried);
    print_not_verified(printer, &tried.not_verified);
    print_replacements(printer, tried);
    printer.line(format_args!("{}: {SCOPE}", styled(style::DIM, "scope")));
}

/// What to do next, where a repair is the way.
fn print_next_steps(printer: &mut Printer, tried: &RehearsalFindings<'_>) {
    let lines = tried.next_steps();
    for (at, line) in lines.iter().enumerate() {
        let word = if at == 0 { "do" } else { "then" };
        printer.line(format_args!("{}: {line}", styled(style::HINT, word)));
    }
    if !lines.is_empty() {
        printer.line("");
    }
}

fn print_stderr(printer: &mut Printer, tried: &RehearsalFindings<'_>) {
    let after = tried.final_state_error.as_ref();
    if let Some(error) = &tried.initial_state_error {
        printer.line("QEMU could not say what it has, so cpreg plans nothing for it");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    // The same twice helps nobody.
    if let Some(error) = after.filter(|_| tried.initial_state_error.is_none()) {
        printer.line("QEMU could not say what it holds after the load");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    if matches!(tried.outcome, Some(LoadOutcome::Failed { .. })) && tried.stderr.is_empty() {
        printer.line("QEMU said nothing");
        printer.line("");
    }
    if tried.stderr.is_empty() {
        return;
    }
    printer.line("QEMU said");
    // What it only warns of comes last: there can be a line for every register.
    let warns = |line: &&String| line.contains(": warning: ");
    let failures = tried.stderr.iter().filter(|line| !warns(line));
    let lines = failures.chain(tried.stderr.iter().filter(warns));
    for line in lines.take(MAX_STDERR_LINES) {
        printer.line(styled(style::DIM, format_args!("  {line}")));
    }
    if tried.stderr.len() > MAX_STDERR_LINES {
        let more = tried.stderr.len() - MAX_STDERR_LINES;
        let text = format_args!("  … and {more} more, warnings last; --format json has them all");
        printer.line(styled(style::DIM, text));
    }
    for explanation in tried.non_register_explanations() {
        printer.line(format_args!("  means: {}", explanation.meaning));
        for cause in explanation.causes {
            printer.line(format_args!("  usually: {}", cause.description));
        }
    }
    printer.line("");
}

fn print_deviations(printer: &mut Printer, tried: &RehearsalFindings<'_>) {
    if tried.deviations.is_empty() {
        return;
    }
    printer.line("lost or changed by this load");
    for (vcpus, deviation) in &tried.deviations {
        let text = describe_deviation(tried, deviation);
        printer.line(format_args!(
            "  {text}{}",
            vcpu_suffix(tried.prediction, vcpus)
        ));
    }
    printer.line("");
}

fn describe_deviation(tried: &RehearsalFindings<'_>, deviation: &Deviation) -> String {
    let printing = tried.prediction.value_format;
    match deviation {
        Deviation::Register {
            id,
            expected,
            actual: found,
        } => {
            let name = styled(style::NAME, printing.name(*id));
            let expected = printing.describe(*id, expected);
            match found {
                Some(found) => format!("{name}  {expected} -> {}", printing.describe(*id, found)),
                None => format!("{name}  {expected}, and it is not there"),
            }
        }
        Deviation::Extension {
            name,
            actual: found,
            ..
        } => {
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

fn print_not_verified(printer: &mut Printer, parts: &[UnverifiedPart]) {
    if parts.is_empty() {
        return;
    }
    printer.line("not verified");
    for part in parts {
        printer.line(format_args!(
            "  {}: {}",
            styled(style::NAME, &part.part),
            part.reason
        ));
    }
    printer.line("");
}

fn print_replacements(printer: &mut Printer, tried: &RehearsalFindings<'_>) {
    printer.line("not as in your command line, so that nothing of yours is touched");
    let (added, others): (Vec<_>, Vec<_>) = tried
        .replacements
        .iter()
        .partition(|change| change.before.is_empty());
    for change in others {
        let was = change.before.join(" ");
        let text = if change.after.is_empty() {
            format!("{was} left out")
        } else {
            format!("{was} -> {}", change.after.join(" "))
        };
        let reason = styled(style::DIM, &change.reason);
        printer.line(format_args!("  {text}: {reason}"));
    }
    let added: Vec<_> = added.iter().map(|change| change.after.join(" ")).collect();
    if !added.is_empty() {
        printer.line(format_args!("  {} added", added.join(" ")));
    }
    printer.line("");
}
