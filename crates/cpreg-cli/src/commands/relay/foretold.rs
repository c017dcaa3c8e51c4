//! [`Foretold`]: what is certain of a migration before it begins, because the source is known: `--from`.
//!
//! A stream, a report, or the monitor of the running QEMU tells the registers and their values. A recorded host tells which registers there
//! are, and the values that they have at reset; those that a guest changes are decided about when they come.

use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::tolerance::Tolerances;

use super::super::check::{self, Subject};
use crate::arguments;
use crate::destination::Found;
use crate::destination::hosts::{self, Guest, Opened};
use crate::failure::Failure;
use crate::input::Content;
use crate::printer::Printer;
use crate::report::contents::Contents;
use crate::report::value::Printing;

/// What `check` says of the source.
pub(super) struct Foretold {
    pub(super) verdict: Verdict,
    /// The report, as it is printed.
    text: String,
}

impl Foretold {
    /// Checks the source against the destination.
    pub(super) fn of(
        from: &Path,
        arguments: &arguments::Relay,
        found: Found<'_>,
        tolerances: &Tolerances,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let source = match hosts::open(from, false, printer)? {
            Opened::File(input) => *input,
            Opened::Host(host) => host.for_guest(Guest::Nobody)?.0,
        };
        let (subject, named) = if matches!(source.content, Content::Stream(_)) {
            let (named, _) = found.for_guest(&source, &arguments.going)?;
            (Subject::of_stream(&source)?, named)
        } else {
            let host = Contents::of(&source)?.destination;
            let named = found.for_guest_of(&host, &arguments.going)?;
            (Subject::of_host(&host), named)
        };
        let printing = Printing::new(named.destination.accelerator, arguments.secrets);
        let answer = check::answer_about(
            subject,
            &named,
            tolerances,
            &arguments.consenting,
            printing,
            printer,
        )?;
        let mut report = Printer::default();
        check::report(&mut report, &answer, arguments.format, false)?;
        Ok(Self {
            verdict: answer.verdict(),
            text: report.into_answer(),
        })
    }

    /// Prints what `check` says.
    pub(super) fn report(&self, printer: &mut Printer) {
        printer.whole(&self.text);
    }
}
