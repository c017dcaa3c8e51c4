//! [`Preflight`]: what is certain of a migration before it begins, because the source is known: `--from`.
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
use super::guard_session::peer_pid;
use crate::arguments;
use crate::contents;
use crate::destination::DestinationSpec;
use crate::destination::hosts::{self, Guest, HostOrFile};
use crate::failure::{Failure, Status};
use crate::input::{Content, Input};
use crate::printer::Printer;
use cpreg_report::value::ValueFormat;

/// How long each step of a rehearsal may take, in seconds.
const STEP_TIMEOUT_SECONDS: u64 = 60;

/// What `check` says of the source.
pub(super) struct Preflight {
    pub(super) verdict: Verdict,
    /// The VM, if more than its host is known.
    source: Option<Input>,
    /// The report, as it is printed.
    text: String,
}

impl Preflight {
    /// Checks the source against the destination.
    pub(super) fn run(
        from: &Path,
        arguments: &arguments::Relay,
        found: &DestinationSpec<'_>,
        tolerances: &Tolerances,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let source = match hosts::open(from, false, printer)? {
            HostOrFile::File(input) => *input,
            HostOrFile::Host(host) => host.input_for_guest(Guest::Unspecified)?,
        };
        let (subject, named) = if matches!(source.content, Content::Stream(_)) {
            let named = found.resolve_for_stream(&source, &arguments.loader)?;
            (Subject::from_stream(&source)?, named)
        } else {
            let host = contents::from_input(&source)?.destination;
            let named = found.resolve_for_host(&host, &arguments.loader)?;
            (Subject::from_host(&host), named)
        };
        let printing = ValueFormat::new(named.destination.accelerator, arguments.show_secrets);
        let answer = check::build_findings_for(
            subject,
            &named,
            tolerances,
            &arguments.consents,
            printing,
            printer,
        )?;
        let mut report = Printer::default();
        check::print_report(&mut report, &answer, arguments.format, false)?;
        Ok(Self {
            verdict: answer.verdict(),
            source: matches!(source.content, Content::Stream(_)).then_some(source),
            text: report.into_text(),
        })
    }

    /// Whether a VM is known, and not only its host: what is certain is then certain of that one.
    pub(super) fn has_vm(&self) -> bool {
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
        let Some(command) = peer_pid(monitor).and_then(command_line) else {
            printer.note("not rehearsed: what listens at the destination's monitor is no QEMU of this machine that can be started again");
            return Ok(None);
        };
        let rehearsal = arguments::Rehearse {
            source: source.path.clone(),
            converted: true,
            allow_option: Vec::new(),
            timeout: STEP_TIMEOUT_SECONDS,
            all: false,
            consents: arguments.consents.clone(),
            inspect: arguments::InspectArgs {
                format: arguments.format,
                show_secrets: arguments.show_secrets,
                verify: false,
            },
            command,
        };
        let mut report = Printer::default();
        let status = rehearse::rehearse_input(source, &rehearsal, &mut report)?;
        Ok(Some((status, report.into_text())))
    }

    /// Prints what `check` says.
    pub(super) fn report(&self, printer: &mut Printer) {
        printer.append(&self.text);
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
