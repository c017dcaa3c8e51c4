//! [`Foretold`]: what is certain of a migration before it begins, because the source is known: `--from`.
//!
//! A stream, a report, or the monitor of the running QEMU tells the registers and their values. A recorded host tells which registers there
//! are, and the values that they have at reset; those that a guest changes are decided about when they come.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::tolerance::Tolerances;

use super::super::check::{self, Subject};
use super::super::rehearse;
use super::guarded::process;
use crate::arguments;
use crate::contents;
use crate::destination::Found;
use crate::destination::hosts::{self, Guest, Opened};
use crate::failure::{Failure, Status};
use crate::input::{Content, Input};
use crate::printer::Printer;
use cpreg_report::value::Printing;

/// How long each step of a rehearsal may take, in seconds.
const PATIENCE: u64 = 60;

/// What `check` says of the source.
pub(super) struct Foretold {
    pub(super) verdict: Verdict,
    /// The VM, if more than its host is known.
    source: Option<Input>,
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
        let source = match hosts::open(from, false, printer)? {
            Opened::File(input) => *input,
            Opened::Host(host) => host.input_for_guest(Guest::Nobody)?,
        };
        let (subject, named) = if matches!(source.content, Content::Stream(_)) {
            let named = found.named_for(&source, &arguments.going)?;
            (Subject::of_stream(&source)?, named)
        } else {
            let host = contents::of(&source)?.destination;
            let named = found.named_for_guest_of(&host, &arguments.going)?;
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
            source: matches!(source.content, Content::Stream(_)).then_some(source),
            text: report.into_answer(),
        })
    }

    /// Whether a VM is known, and not only its host: what is certain is then certain of that one.
    pub(super) fn is_of_one_vm(&self) -> bool {
        self.source.is_some()
    }

    /// Has a copy of the destination's QEMU load the VM as it would be passed on, before anything flows: its status, and the report of
    /// [`rehearse`]. Nothing if it is not known which VM, or the destination's process is not on this machine.
    pub(super) fn rehearse(
        &self,
        monitor: &Path,
        arguments: &arguments::Relay,
        printer: &Printer,
    ) -> Result<Option<(Status, String)>, Failure> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let Some(command) = process(monitor).and_then(command_line) else {
            printer.note("not rehearsed: what listens at the destination's monitor is no QEMU of this machine that can be started again");
            return Ok(None);
        };
        let rehearsal = arguments::Rehearse {
            source: source.path.clone(),
            repaired: true,
            keep: Vec::new(),
            timeout: PATIENCE,
            all: false,
            consenting: arguments.consenting.clone(),
            reading: arguments::Reading {
                format: arguments.format,
                secrets: arguments.secrets,
                verify: false,
            },
            command,
        };
        let mut report = Printer::default();
        let status = rehearse::of(source, &rehearsal, &mut report)?;
        Ok(Some((status, report.into_answer())))
    }

    /// Prints what `check` says.
    pub(super) fn report(&self, printer: &mut Printer) {
        printer.whole(&self.text);
    }
}

/// The command line of a process, if it can be read.
fn command_line(process: i32) -> Option<Vec<OsString>> {
    let text = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let words = text.strip_suffix(&[0])?.split(|byte| *byte == 0);
    Some(
        words
            .map(|word| OsString::from_vec(word.to_vec()))
            .collect(),
    )
}
