//! Predictions of each loader's result and messages if it loads the VM without cpreg.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cpreg::destination::load::{LoadEvent, SimulatedLoad};
use cpreg::plan::LoaderPrediction;
use cpreg::register::RegisterId;

use crate::check::CheckFindings;
use crate::printer::{Printer, heading, style, styled};
use crate::text::pluralize;

/// Maximum number of messages per loader in the text; JSON has all messages.
const MAX_MESSAGES: usize = 6;

pub(super) fn print(printer: &mut Printer, findings: &CheckFindings<'_>) {
    if findings.check.loaders.is_empty() {
        return;
    }
    printer.line(heading("without cpreg:"));
    // Neighbouring versions often behave the same; one entry then covers them.
    let mut groups: Vec<(Vec<&LoaderPrediction>, Vec<String>)> = Vec::new();
    for prediction in &findings.check.loaders {
        let messages = findings.predicted_messages(prediction.loader, &prediction.load);
        match groups.last_mut() {
            Some((predictions, same_messages))
                if *same_messages == messages
                    && predictions[0].load.loads == prediction.load.loads
                    && predictions[0].load.confidence == prediction.load.confidence
                    && predictions[0].load.lost_registers == prediction.load.lost_registers =>
            {
                predictions.push(prediction);
            }
            _ => groups.push((vec![prediction], messages)),
        }
    }
    for (predictions, messages) in &groups {
        print_loaders(printer, findings, predictions, messages);
    }
    printer.line("");
}

fn print_loaders(
    printer: &mut Printer,
    findings: &CheckFindings<'_>,
    predictions: &[&LoaderPrediction],
    messages: &[String],
) {
    let load = &predictions[0].load;
    let outcome = match load.loads {
        Some(true) => styled(style::GOOD, "loads"),
        Some(false) => styled(style::ERROR, "fails"),
        None => styled(style::WARNING, "unknown"),
    };
    let versions: Vec<_> = predictions
        .iter()
        .map(|prediction| {
            let suffix = if prediction.is_destination_loader {
                " (at the destination)"
            } else {
                ""
            };
            format!("{}{suffix}", prediction.loader.version)
        })
        .collect();
    let lost = describe_lost_registers(findings, load);
    let confidence = match load.loads {
        Some(_) => format!(" ({})", load.confidence),
        None => String::new(),
    };
    let program = predictions[0].loader.program.name().to_uppercase();
    printer.paragraph(
        &format!("  {program} {}: ", versions.join(", ")),
        format_args!("{outcome}{confidence}{lost}"),
    );
    for line in messages.iter().take(MAX_MESSAGES) {
        printer.line(styled(style::DIM, format_args!("    {line}")));
    }
    if messages.len() > MAX_MESSAGES {
        printer.line(styled(
            style::DIM,
            format_args!(
                "    … and {}",
                pluralize(messages.len() - MAX_MESSAGES, "more line")
            ),
        ));
    }
}

/// Returns the registers that a loader loses although the load continues.
///
/// The loader drops a register silently, or prints a message and then ignores the error.
fn describe_lost_registers(findings: &CheckFindings<'_>, load: &SimulatedLoad) -> String {
    let is_reported = |lost: &(usize, RegisterId)| {
        load.events.iter().any(
            |event| matches!(event, LoadEvent::SourceOnly { vcpu, id } if (*vcpu, *id) == *lost),
        )
    };
    let names = |reported: bool| {
        let lost = load
            .lost_registers
            .iter()
            .filter(|lost| is_reported(lost) == reported);
        let ids: BTreeSet<RegisterId> = lost.map(|(_, id)| *id).collect();
        let names: Vec<_> = ids
            .iter()
            .map(|id| findings.value_format.name(*id))
            .collect();
        names.join(", ")
    };
    let (silent, reported) = (names(false), names(true));
    let mut text = String::new();
    if !silent.is_empty() {
        let _ = write!(text, "; silently drops {silent}");
    }
    if !reported.is_empty() {
        let _ = write!(text, "; drops {reported} although it reports a failure");
    }
    text
}
