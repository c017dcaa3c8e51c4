//! [`Preflight`]: check of the source named with `--from`, before the migration starts.
//!
//! A stream, a report, or the monitor of the running QEMU gives the registers and their values. A
//! recorded host gives the registers and their reset values only. With a recorded host, the relay
//! decides during the migration on the registers that the guest has changed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::tolerance::Tolerances;

use super::super::check::{self, Source};
use super::super::rehearse;
use crate::arguments::{self, Format};
use crate::command_line;
use crate::destination::DestinationSpec;
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::local_process::peer_pid;
use crate::printer::Printer;
use crate::source_host::SourceHost;
use cpreg_report::check::model::CheckReport;
use cpreg_report::value::ValueFormat;

/// Timeout of each step of a rehearsal, in seconds.
const STEP_TIMEOUT_SECONDS: u64 = 60;

/// Result of the check of the source.
pub(super) struct Preflight {
    pub(super) verdict: Verdict,
    /// Stream of the VM; `None` if only its host is known.
    source: Option<Input>,
    /// Host of the VM; `None` if a VM is known.
    host: Option<SourceHost>,
    /// Report of the check, as printed text.
    text: String,
    /// Report of the check for JSON.
    model: Box<CheckReport>,
}

impl Preflight {
    /// Checks the source against the destination.
    pub(super) fn run(
        from: &Path,
        arguments: &arguments::Relay,
        spec: &DestinationSpec<'_>,
        tolerances: &Tolerances,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let source = Source::open(from, false, printer)?;
        let resolved = source.resolve(spec, &arguments.loader)?;
        let subject = source.subject(&arguments::FromArgs::default(), printer)?;
        let value_format =
            ValueFormat::new(resolved.destination.accelerator, arguments.show_secrets);
        let findings = check::build_findings(
            &subject,
            &resolved,
            check::CheckInputs {
                tolerances,
                consents: &arguments.consents,
                value_format,
                command: &command_line::typed_relay(arguments),
            },
            printer,
        )?;
        let mut report = printer.new_buffer();
        let verbosity = arguments.verbosity.verbosity();
        check::print_report(&mut report, &findings, Format::Text, verbosity)?;
        let verdict = findings.verdict();
        let (source, host) = match source {
            Source::Vm(source) => (Some(*source), None),
            Source::NewVm(new_vm) => (None, Some(SourceHost::from_destination(&new_vm.host))),
        };
        Ok(Self {
            model: Box::new(CheckReport::from(&findings)),
            verdict,
            source,
            host,
            text: report.into_text(),
        })
    }

    /// Returns the host that all VMs run on, if `--from` names one.
    pub(super) const fn host(&self) -> Option<&SourceHost> {
        self.host.as_ref()
    }

    /// Returns `true` if the source is a VM. The verdict then applies to that VM only. With a
    /// recorded host, the verdict applies to all VMs of the host.
    pub(super) fn has_vm(&self) -> bool {
        self.source.is_some()
    }

    /// Loads the converted VM in a copy of the destination's QEMU, before any RAM is sent.
    ///
    /// Returns the exit status and the report of [`rehearse`]. Returns `None` if only the host is
    /// known, or the destination's process is not on this machine.
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
            printer.note(
                "not rehearsed: the process at the destination's monitor is not a QEMU on this \
                 machine whose command line can be read",
            );
            return Ok(None);
        };
        let rehearsal = arguments::Rehearse {
            source: source.path.clone(),
            converted: true,
            allow_option: Vec::new(),
            timeout: STEP_TIMEOUT_SECONDS,
            verbosity: arguments.verbosity,
            from: arguments::FromArgs::default(),
            consents: arguments.consents.clone(),
            inspect: arguments::InspectArgs {
                format: arguments.format,
                show_secrets: arguments.show_secrets,
                verify: false,
            },
            command,
        };
        let mut report = printer.new_buffer();
        let status = rehearse::rehearse_input(source, &rehearsal, &mut report)?;
        Ok(Some((status, report.into_text())))
    }

    /// Prints the report of the check as text.
    pub(super) fn report(&self, printer: &mut Printer) {
        printer.append(&self.text);
    }

    /// Returns the report of the check for JSON.
    pub(super) const fn check_report(&self) -> &CheckReport {
        &self.model
    }
}

/// Returns the command line of a process, if it can be read.
fn command_line(process: i32) -> Option<Vec<OsString>> {
    let text = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let arguments = text.strip_suffix(&[0])?.split(|byte| *byte == 0);
    Some(
        arguments
            .map(|argument| OsString::from_vec(argument.to_vec()))
            .collect(),
    )
}
