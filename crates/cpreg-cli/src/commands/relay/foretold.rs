//! [`Foretold`]: what is certain of a migration before it begins, because the source is known: `--from`.
//!
//! A stream, a report, or the monitor of the running QEMU tells the registers and their values. A recorded host tells which registers there
//! are, and the values that they have at reset; those that a guest changes are decided about when they come.

use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::tolerance::Tolerances;

use super::super::check;
use crate::arguments;
use crate::destination::Found;
use crate::failure::Failure;
use crate::input::Input;
use crate::printer::Printer;
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
        found: &Found<'_>,
        tolerances: &Tolerances,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let source = Input::open(from, false, printer)?;
        let named = found.named_for(&source, &arguments.going)?;
        let printing = Printing::new(named.destination.accelerator, arguments.secrets);
        let answer = check::answer(
            &source,
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
