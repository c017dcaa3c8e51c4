//! Text of `rehearse`.

use cpreg::plan::{Deviation, Verdict};

use super::model::UnverifiedPart;
use super::{LoadOutcome, RehearsalFindings, SCOPE};
use crate::check::text::{
    print_next_steps as print_steps_of_plan, print_plan, print_shape, vcpu_suffix, verdict_word,
};
use crate::printer::{Printer, Verbosity, heading, style, styled};

/// Maximum number of QEMU's messages in the text; JSON has all messages.
const MAX_STDERR_LINES: usize = 8;

/// Prints the report.
pub fn print(printer: &mut Printer, findings: &RehearsalFindings<'_>, verbosity: Verbosity) {
    let prediction = findings.prediction;
    let verdict = verdict_word(findings.verdict);
    if verbosity == Verbosity::Quiet {
        printer.line(format_args!("{verdict}: {}", findings.meaning()));
        return;
    }
    printer.paragraph(&format!("{verdict}: "), findings.meaning());
    let source = &prediction.source;
    let converted = if findings.converted && findings.outcome.is_some() {
        ", converted"
    } else {
        ""
    };
    printer.paragraph(
        "  from  ",
        format_args!("{}, without its RAM{converted}", source.summary()),
    );
    printer.paragraph("  to    ", &prediction.destination.name);
    printer.line("");
    print_stderr(printer, findings);
    print_deviations(printer, findings);
    // A VM that loads unconverted needs no decisions, and an unknown QEMU has no plan.
    let changes_nothing =
        findings.verdict == Verdict::Loads || prediction.verdict() == Verdict::Loads;
    if findings.initial_state_error.is_none() && changes_nothing && findings.is_unpredicted() {
        let text =
            "as far as cpreg knows, this QEMU has all registers of the VM and accepts their values";
        printer.paragraph("", styled(style::DIM, text));
        printer.line("");
    }
    if findings.initial_state_error.is_none() {
        if verbosity == Verbosity::Verbose || !changes_nothing {
            if prediction.verdict() == Verdict::Unknown {
                print_steps_of_plan(printer, prediction);
            }
            print_plan(printer, prediction, verbosity);
        } else {
            print_shape(printer, prediction);
        }
    }
    print_next_steps(printer, findings);
    print_not_verified(printer, &findings.not_verified);
    print_replacements(printer, findings);
    printer.paragraph(&format!("{}: ", styled(style::DIM, "scope")), SCOPE);
}

/// Prints the next steps, if the VM can be repaired.
fn print_next_steps(printer: &mut Printer, findings: &RehearsalFindings<'_>) {
    let lines = findings.next_steps();
    for (index, line) in lines.iter().enumerate() {
        let label = if index == 0 { "fix" } else { "then" };
        printer.paragraph(&format!("{}: ", styled(style::HINT, label)), line);
    }
    if !lines.is_empty() {
        printer.line("");
    }
}

fn print_stderr(printer: &mut Printer, findings: &RehearsalFindings<'_>) {
    let after = findings.final_state_error.as_ref();
    if let Some(error) = &findings.initial_state_error {
        printer.line("no plan, because the CPU state of this QEMU is not known:");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    // The same error before and after the load is printed once.
    if let Some(error) = after.filter(|_| findings.initial_state_error.is_none()) {
        printer.line("the CPU state after the load is not known:");
        printer.line(format_args!("  {error}"));
        printer.line("");
    }
    if matches!(findings.outcome, Some(LoadOutcome::Failed { .. })) && findings.stderr.is_empty() {
        printer.line("QEMU printed no messages");
        printer.line("");
    }
    if findings.stderr.is_empty() {
        return;
    }
    printer.line(heading("messages of QEMU:"));
    // Warnings are last, because QEMU can print one for every register.
    let is_warning = |line: &&String| line.contains(": warning: ");
    let failures = findings.stderr.iter().filter(|line| !is_warning(line));
    let lines = failures.chain(findings.stderr.iter().filter(is_warning));
    for line in lines.take(MAX_STDERR_LINES) {
        printer.line(styled(style::DIM, format_args!("  {line}")));
    }
    if findings.stderr.len() > MAX_STDERR_LINES {
        let more = findings.stderr.len() - MAX_STDERR_LINES;
        let text = format_args!("  … and {more} more, warnings last; --format json has them all");
        printer.line(styled(style::DIM, text));
    }
    for explanation in findings.non_register_explanations() {
        printer.paragraph("  meaning: ", explanation.meaning);
        for cause in explanation.causes {
            printer.paragraph("  usual cause: ", cause.description);
        }
    }
    printer.line("");
}

fn print_deviations(printer: &mut Printer, findings: &RehearsalFindings<'_>) {
    if findings.deviations.is_empty() {
        return;
    }
    printer.line(heading("lost or changed by this load:"));
    for (vcpus, deviation) in &findings.deviations {
        let text = describe_deviation(findings, deviation);
        printer.line(format_args!(
            "  {text}{}",
            vcpu_suffix(findings.prediction, vcpus)
        ));
    }
    printer.line("");
}

fn describe_deviation(findings: &RehearsalFindings<'_>, deviation: &Deviation) -> String {
    let value_format = findings.prediction.value_format;
    match deviation {
        Deviation::Register {
            id,
            expected,
            actual,
        } => {
            let name = styled(style::NAME, value_format.name(*id));
            let expected = value_format.describe(*id, expected);
            match actual {
                Some(actual) => format!(
                    "{name}  {expected} -> {}",
                    value_format.describe(*id, actual)
                ),
                None => format!("{name}  {expected} -> missing"),
            }
        }
        Deviation::Extension { name, actual, .. } => {
            let change = if actual.is_some() {
                "changed"
            } else {
                "missing"
            };
            format!("{}  {change}", styled(style::NAME, name))
        }
        _ => String::new(),
    }
}

fn print_not_verified(printer: &mut Printer, parts: &[UnverifiedPart]) {
    if parts.is_empty() {
        return;
    }
    printer.line(heading("not verified:"));
    for part in parts {
        let begin = format!("  {}: ", styled(style::NAME, &part.part));
        printer.paragraph(&begin, &part.reason);
    }
    printer.line("");
}

fn print_replacements(printer: &mut Printer, findings: &RehearsalFindings<'_>) {
    printer.line(heading(
        "changes to your command line, which protect your files and networks:",
    ));
    let (added, others): (Vec<_>, Vec<_>) = findings
        .replacements
        .iter()
        .partition(|change| change.before.is_empty());
    for change in others {
        let before = change.before.join(" ");
        let text = if change.after.is_empty() {
            format!("{before} omitted")
        } else {
            format!("{before} -> {}", change.after.join(" "))
        };
        let reason = styled(style::DIM, &change.reason);
        printer.paragraph("  ", format_args!("{text}: {reason}"));
    }
    let added: Vec<_> = added.iter().map(|change| change.after.join(" ")).collect();
    if !added.is_empty() {
        printer.paragraph("  ", format_args!("{} added", added.join(" ")));
    }
    printer.line("");
}
