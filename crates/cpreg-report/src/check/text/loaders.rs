//! What each loader would do on its own, in its own words.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use cpreg::destination::load::{LoadEvent, SimulatedLoad};
use cpreg::plan::LoaderPrediction;
use cpreg::register::RegisterId;

use crate::check::CheckFindings;
use crate::printer::{Printer, style, styled};

/// More of a loader's own words than this are cut; JSON has them all.
const MAX_MESSAGES: usize = 6;

pub(super) fn print(printer: &mut Printer, answer: &CheckFindings<'_>) {
    if answer.check.loaders.is_empty() {
        return;
    }
    printer.line("on its own, without cpreg");
    // Generations behave alike: what several would do stands once.
    let mut groups: Vec<(Vec<&LoaderPrediction>, Vec<String>)> = Vec::new();
    for foretold in &answer.check.loaders {
        let words = answer.predicted_messages(foretold.loader, &foretold.load);
        match groups.last_mut() {
            Some((alike, same_words))
                if *same_words == words
                    && alike[0].load.loads == foretold.load.loads
                    && alike[0].load.confidence == foretold.load.confidence
                    && alike[0].load.lost_registers == foretold.load.lost_registers =>
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
    answer: &CheckFindings<'_>,
    alike: &[&LoaderPrediction],
    words: &[String],
) {
    let load = &alike[0].load;
    let outcome = match load.loads {
        Some(true) => styled(style::GOOD, "loads"),
        Some(false) => styled(style::ERROR, "fails"),
        None => styled(style::WARNING, "unknown"),
    };
    let versions: Vec<_> = alike
        .iter()
        .map(|foretold| {
            let own = if foretold.is_destination_loader {
                " (the destination's)"
            } else {
                ""
            };
            format!("{}{own}", foretold.loader.version)
        })
        .collect();
    let lost = describe_lost_registers(answer, load);
    let knowledge = match load.loads {
        Some(_) => format!(" ({})", load.confidence),
        None => String::new(),
    };
    printer.line(format_args!(
        "  {} {}: {outcome}{knowledge}{lost}",
        alike[0].loader.program.name().to_uppercase(),
        versions.join(", "),
    ));
    for line in words.iter().take(MAX_MESSAGES) {
        printer.line(styled(style::DIM, format_args!("    {line}")));
    }
    if words.len() > MAX_MESSAGES {
        printer.line(styled(
            style::DIM,
            format_args!("    … and {} lines more", words.len() - MAX_MESSAGES),
        ));
    }
}

/// What a loader loses though it goes on: silently, or with a failure that it names and then forgets.
fn describe_lost_registers(answer: &CheckFindings<'_>, load: &SimulatedLoad) -> String {
    let is_named = |lost: &(usize, RegisterId)| {
        load.events.iter().any(
            |event| matches!(event, LoadEvent::OnlyInInput { vcpu, id } if (*vcpu, *id) == *lost),
        )
    };
    let names = |named: bool| {
        let lost = load
            .lost_registers
            .iter()
            .filter(|lost| is_named(lost) == named);
        let ids: BTreeSet<RegisterId> = lost.map(|(_, id)| *id).collect();
        let names: Vec<_> = ids.iter().map(|id| answer.value_format.name(*id)).collect();
        names.join(", ")
    };
    let (silently, named) = (names(false), names(true));
    let mut text = String::new();
    if !silently.is_empty() {
        let _ = write!(text, "; drops {silently} without a word");
    }
    if !named.is_empty() {
        let _ = write!(text, "; drops {named} although it says that it fails");
    }
    text
}
