//! [`Case`]: what is asked while a migration is under way, and what was answered. It is answered as `check` and `convert` do.

use std::cell::OnceCell;

use cpreg::destination::Destination;
use cpreg::plan::Verdict;
use cpreg::shape::MachineShape;
use cpreg_relay::check_policy::{PlannedVm, Planner, SetupRejection};
use cpreg_report::check::CheckFindings;
use cpreg_report::value::ValueFormat;
use cpreg_stream::Stream;
use cpreg_stream::incremental::StreamSetup;

use super::super::{check, convert};
use super::config::{RelayConfig, RelayDestination, SOURCE_NAME};
use super::guard_session::GuardSession;
use crate::destination::{DestinationSpec, ResolvedDestination};
use crate::failure::Failure;
use crate::input::Input;
use crate::printer::Printer;

/// One migration.
pub(super) struct MigrationPlanner<'c> {
    config: &'c RelayConfig<'c>,
    guard: Option<&'c GuardSession>,
    /// What the destination is for this guest.
    destination: &'c OnceCell<ResolvedDestination>,
    /// Destination for this guest, as its first vCPU told.
    early_destination: Option<ResolvedDestination>,
    /// Takes notes.
    printer: Printer,
    findings: Option<CheckFindings<'c>>,
}

/// What was decided.
pub(super) struct PolicyReport<'c> {
    pub(super) findings: Option<CheckFindings<'c>>,
    /// Why it was not begun.
    pub(super) reasons: Vec<String>,
    /// Why nothing could be decided.
    pub(super) failure: Option<Failure>,
}

impl<'c> MigrationPlanner<'c> {
    pub(super) fn new(
        desk: &'c RelayConfig<'c>,
        guard: Option<&'c GuardSession>,
        named: &'c OnceCell<ResolvedDestination>,
    ) -> Self {
        Self {
            config: desk,
            guard,
            destination: named,
            early_destination: None,
            printer: Printer::default(),
            findings: None,
        }
    }

    pub(super) fn into_findings(self) -> Option<CheckFindings<'c>> {
        self.findings
    }

    /// Returns the destination for the guest in `source`.
    fn resolve(&mut self, source: &Input) -> Result<&'c ResolvedDestination, Failure> {
        let early = self.early_destination.take();
        Ok(match &self.config.destination {
            RelayDestination::Fixed(named) => named,
            RelayDestination::PerGuest(found) => {
                let named = if let Some(mut named) = early {
                    named.set_shape(source.stream()?.shape());
                    named
                } else {
                    found.resolve_for_stream(source, &self.config.arguments.loader)?
                };
                self.destination.get_or_init(|| named)
            }
        })
    }
}

impl Planner for MigrationPlanner<'_> {
    type Failure = Failure;

    fn on_migration_started(&mut self) {
        if let Some(guard) = self.guard {
            guard.migration_started();
        }
    }

    fn destination_for(&mut self, first: Stream, outline: &StreamSetup) -> Option<&Destination> {
        let RelayDestination::PerGuest(found @ DestinationSpec::Host(_)) = &self.config.destination
        else {
            return None;
        };
        let first = Input::from_live_stream(SOURCE_NAME, first);
        let mut named = found
            .resolve_for_stream(&first, &self.config.arguments.loader)
            .ok()?;
        named.set_shape(MachineShape {
            machine: outline.machine.clone(),
            ..MachineShape::default()
        });
        Some(&self.early_destination.insert(named).destination)
    }

    fn plan(&mut self, stream: Stream) -> Result<Option<PlannedVm>, Failure> {
        let arguments = self.config.arguments;
        let source = Input::from_live_stream(SOURCE_NAME, stream);
        let named = self.resolve(&source)?;
        let printing = ValueFormat::new(named.destination.accelerator, arguments.show_secrets);
        let answer = check::build_findings(
            &source,
            named,
            &self.config.tolerances,
            &arguments.consents,
            printing,
            &self.printer,
        )?;
        let planned = match answer.verdict() {
            Verdict::Loads | Verdict::Converts => Some(PlannedVm {
                vm: answer.check.plan.apply(&answer.vm),
                stream: source.into_stream()?,
            }),
            Verdict::Refused | Verdict::Unknown => None,
        };
        self.findings = Some(answer);
        Ok(planned)
    }

    fn conversion_failure(&mut self, error: cpreg_stream::Error) -> Failure {
        convert::conversion_failure(SOURCE_NAME, &error)
    }

    fn on_device_state_commit(&mut self, running: Option<bool>) -> Result<(), Failure> {
        self.guard
            .map_or(Ok(()), |guard| guard.device_state_committed(running))
    }
}

/// Words a reason not to begin.
pub(super) fn describe_rejection(reason: &SetupRejection) -> String {
    const CONSENT_HINT: &str = "name the source so that the outcome is certain before it begins (--from), or consent to that (--allow-no-return-path)";
    match reason {
        SetupRejection::ShapeMismatch(difference) => {
            let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            format!(
                "{}: {} at the source, {} at the destination; start the destination's QEMU with the source's",
                difference.subject,
                side(&difference.source),
                side(&difference.destination)
            )
        }
        SetupRejection::PossiblePostcopy => format!(
            "it may become a postcopy migration (capability postcopy-ram), and if it had to be refused then, its guest would stand still at the source; {CONSENT_HINT}, or switch postcopy-ram off"
        ),
        _ => format!(
            "it has no return path, and if it had to be refused at its end, its guest would stand still at the source; switch the capability return-path on at the source, or {CONSENT_HINT}"
        ),
    }
}
