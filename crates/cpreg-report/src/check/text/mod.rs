//! Text of `check`: the verdict and the next command, what blocks the load, what the guest could
//! notice.
//!
//! The short form leaves out registers that are copied or that the built-in table tolerates, and
//! the behaviour of each loader without cpreg. It counts these registers. What the guest could
//! notice, what is not known, what the user or an operator's entry changed, and all notes are in
//! every form but the quiet one.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | order of the sections, the verdict, the next steps |
//! | `layout` | parts of lines that the sections share |
//! | `shape` | differences of the machine |
//! | `alternatives` | what differs between possible destinations |
//! | `hardware` | properties of the hosts that no register list holds |
//! | `decisions` | decisions about registers and extensions |
//! | `visible_changes` | visible changes, and adjustments that need consent |
//! | `loaders` | predictions for each loader without cpreg |

mod alternatives;
mod decisions;
mod hardware;
mod layout;
mod loaders;
mod shape;
mod visible_changes;

use cpreg::plan::Verdict;

use super::{CheckFindings, SCOPE};
use crate::command::CommandKind;
use crate::printer::{Printer, Verbosity, style, styled};
pub(crate) use layout::vcpu_suffix;
pub(crate) use shape::print as print_shape;

/// Scope of the verdict, in the words of the short report.
const SHORT_SCOPE: &str = "CPU state; devices by name and version, not by their state";
/// Indentation of a command on its own line.
const COMMAND_INDENT: &str = "    ";

/// Prints the report.
pub fn print(printer: &mut Printer, findings: &CheckFindings<'_>, verbosity: Verbosity) {
    print_without_copied(printer, findings, verbosity);
    if verbosity == Verbosity::Verbose && findings.decisive_alternatives().is_none() {
        decisions::print_copied(printer, findings);
    }
}

/// Prints the report without the list of copied registers, for an issue.
pub(crate) fn print_without_copied(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    verbosity: Verbosity,
) {
    let verdict = verdict_word(findings.verdict());
    if verbosity == Verbosity::Quiet {
        printer.line(format_args!("{verdict}: {}", findings.meaning()));
        return;
    }
    let is_verbose = verbosity == Verbosity::Verbose;
    printer.paragraph(&format!("{verdict}: "), findings.meaning());
    print_head(printer, findings);
    print_next_steps(printer, findings);
    print_plan(printer, findings, verbosity);
    if let Some(dry_run) = &findings.dry_run {
        dry_run.print(printer);
    }
    if is_verbose && findings.decisive_alternatives().is_none() {
        loaders::print(printer, findings);
    }
    let scope = match findings.scope() {
        SCOPE if !is_verbose => SHORT_SCOPE,
        scope => scope,
    };
    printer.paragraph(&format!("{}: ", styled(style::DIM, "scope")), scope);
}

/// Prints the decisions and their reasons, without the verdict, the loaders and the copied
/// registers.
///
/// A plan that holds for only one of several possible destinations is left out, unless it is the
/// only recorded one.
pub fn print_plan(printer: &mut Printer, findings: &CheckFindings<'_>, verbosity: Verbosity) {
    if let Some(alternatives) = findings.decisive_alternatives() {
        alternatives::print_differences(printer, findings, alternatives);
        if alternatives::print_only_neighbour(printer, alternatives) {
            print_decisions(printer, findings, verbosity);
        }
        return;
    }
    if findings.is_incomparable() {
        print_shape(printer, findings);
        return;
    }
    print_decisions(printer, findings, verbosity);
}

/// Prints the decisions of the shown plan.
fn print_decisions(printer: &mut Printer, findings: &CheckFindings<'_>, verbosity: Verbosity) {
    let is_verbose = verbosity == Verbosity::Verbose;
    print_shape(printer, findings);
    decisions::print_blockers(printer, findings, is_verbose);
    visible_changes::print_adjustments(printer, findings);
    decisions::print_changes(printer, findings, is_verbose);
    decisions::print_tolerated(printer, findings, is_verbose);
    visible_changes::print(printer, findings);
    super::operator_entries::print(printer, findings);
}

/// Returns the verdict in its colour.
pub fn verdict_word(verdict: Verdict) -> String {
    let colour = match verdict {
        Verdict::Loads | Verdict::Converts => style::GOOD,
        Verdict::Refused => style::ERROR,
        Verdict::Unknown => style::WARNING,
    };
    styled(colour, verdict.name())
}

/// Prints the lines about SOURCE, DESTINATION and the written file, and the notes.
fn print_head(printer: &mut Printer, findings: &CheckFindings<'_>) {
    printer.paragraph("  from  ", findings.source.summary());
    let provenance = findings.provenance;
    let destination = match findings.decisive_alternatives() {
        Some(alternatives) if alternatives.depends_on_kernel => {
            alternatives.describe_destinations()
        }
        Some(alternatives) => format!("{} ({provenance})", alternatives.describe_destinations()),
        None => format!("{} ({provenance})", findings.destination.name),
    };
    printer.paragraph("  to    ", destination);
    if findings.command.kind == CommandKind::Convert {
        print_written(printer, findings);
    }
    for note in findings.notes() {
        printer.paragraph("  note: ", note);
    }
    printer.line("");
}

/// Prints the file that `convert` wrote.
fn print_written(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let source = &findings.command.source;
    let text = match (&findings.written, findings.verdict()) {
        (Some(written), _) => {
            let place = if written.is_in_place { " in place" } else { "" };
            let name = if written.is_standard_output() {
                "standard output"
            } else {
                &written.path
            };
            format!("written{place}: {name} ({} bytes)", written.bytes)
        }
        (None, Verdict::Loads | Verdict::Converts) => {
            format!("nothing was written: {source} already loads as it is")
        }
        (None, _) => format!("nothing was written: {source} is unchanged"),
    };
    let colour = match findings.written {
        Some(_) => style::GOOD,
        None => style::WARNING,
    };
    printer.line(format_args!("  {}", styled(colour, text)));
}

/// Prints the next steps. Each command has a line of its own, which is not wrapped.
pub(crate) fn print_next_steps(printer: &mut Printer, findings: &CheckFindings<'_>) {
    let steps = findings.next_steps();
    if steps.is_empty() {
        return;
    }
    let mut label = "next";
    for step in steps {
        let end = if step.commands.is_empty() { "" } else { ":" };
        let begin = format!("{}: ", styled(style::HINT, label));
        printer.paragraph(&begin, format_args!("{}{end}", step.purpose));
        for command in step.commands {
            let command = styled(style::NAME, command);
            printer.line(format_args!("{COMMAND_INDENT}{command}"));
        }
        label = "or";
    }
    printer.line("");
}
