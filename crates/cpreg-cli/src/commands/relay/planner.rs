//! [`MigrationPlanner`]: plans a migrating VM by the rules of `check` and `convert`.

use std::cell::OnceCell;

use cpreg::destination::Destination;
use cpreg::plan::Verdict;
use cpreg::shape::MachineShape;
use cpreg_relay::check_policy::{PlannedVm, Planner, SetupRejection};
use cpreg_report::check::CheckFindings;
use cpreg_report::remedy;
use cpreg_report::value::ValueFormat;
use cpreg_stream::Stream;
use cpreg_stream::incremental::StreamSetup;

use super::super::{check, convert};
use super::config::{RelayConfig, RelayDestination, SOURCE_NAME};
use super::guard_session::GuardSession;
use crate::command_line;
use crate::destination::{DestinationSpec, ResolvedDestination};
use crate::failure::Failure;
use crate::input::Input;
use crate::printer::Printer;

/// Planner of one migration.
pub(super) struct MigrationPlanner<'c> {
    config: &'c RelayConfig<'c>,
    guard: Option<&'c GuardSession>,
    /// Destination for this guest; empty until [`Self::resolve`] knows the whole stream.
    destination: &'c OnceCell<ResolvedDestination>,
    /// Destination resolved from the first vCPU, used until [`Self::resolve`] adds the whole shape.
    provisional_destination: Option<ResolvedDestination>,
    /// Printer for the notes of the check.
    printer: Printer,
    findings: Option<CheckFindings<'c>>,
}

/// Decision on a migration.
pub(super) struct PolicyReport<'c> {
    pub(super) findings: Option<CheckFindings<'c>>,
    /// Reasons why the relay rejected the migration before it sent any RAM.
    pub(super) reasons: Vec<String>,
    /// Error that prevented a decision.
    pub(super) failure: Option<Failure>,
}

impl<'c> MigrationPlanner<'c> {
    pub(super) fn new(
        config: &'c RelayConfig<'c>,
        guard: Option<&'c GuardSession>,
        destination: &'c OnceCell<ResolvedDestination>,
    ) -> Self {
        Self {
            config,
            guard,
            destination,
            provisional_destination: None,
            printer: Printer::default(),
            findings: None,
        }
    }

    pub(super) fn into_findings(self) -> Option<CheckFindings<'c>> {
        self.findings
    }

    /// Returns the destination for the guest in `source`.
    fn resolve(&mut self, source: &Input) -> Result<&'c ResolvedDestination, Failure> {
        let provisional = self.provisional_destination.take();
        Ok(match &self.config.destination {
            RelayDestination::Fixed(resolved) => resolved,
            RelayDestination::PerGuest(spec) => {
                let resolved = if let Some(mut resolved) = provisional {
                    resolved.set_shape(&source.stream()?.shape());
                    resolved
                } else {
                    spec.resolve_for_stream(source, &self.config.arguments.loader)?
                };
                self.destination.get_or_init(|| resolved)
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

    fn destination_for(&mut self, first_vcpu: Stream, setup: &StreamSetup) -> Option<&Destination> {
        let RelayDestination::PerGuest(spec @ DestinationSpec::Host(_)) = &self.config.destination
        else {
            return None;
        };
        let first_vcpu = Input::from_live_stream(SOURCE_NAME, first_vcpu);
        let mut resolved = spec
            .resolve_for_stream(&first_vcpu, &self.config.arguments.loader)
            .ok()?;
        // Only the whole VM can be planned with and without an undetermined feature.
        if !resolved.is_certain() {
            return None;
        }
        resolved.set_shape(&MachineShape {
            machine: setup.machine.clone(),
            ..MachineShape::default()
        });
        Some(&self.provisional_destination.insert(resolved).destination)
    }

    fn plan(&mut self, stream: Stream) -> Result<Option<PlannedVm>, Failure> {
        let arguments = self.config.arguments;
        let source = Input::from_live_stream(SOURCE_NAME, stream);
        let resolved = self.resolve(&source)?;
        let value_format =
            ValueFormat::new(resolved.destination.accelerator, arguments.show_secrets);
        let findings = check::build_findings(
            &check::Subject::from_stream(&source, self.config.source_host())?,
            resolved,
            check::CheckInputs {
                tolerances: &self.config.tolerances,
                consents: &arguments.consents,
                value_format,
                command: &command_line::typed_relay(arguments),
            },
            &self.printer,
        )?;
        let planned = match findings.verdict() {
            Verdict::Loads | Verdict::Converts => Some(PlannedVm {
                vm: findings.check.plan.apply(&findings.vm),
                stream: source.into_stream()?,
            }),
            Verdict::Refused | Verdict::Unknown => None,
        };
        self.findings = Some(findings);
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

/// Describes a reason why the relay rejected a migration before it sent any RAM.
///
/// A service of many migrations cannot name the source of each.
pub(super) fn describe_rejection(reason: &SetupRejection, is_service: bool) -> String {
    let consent_hint = if is_service {
        "start the relay with --allow-no-return-path"
    } else {
        "name the source with --from, so that the verdict is known before the migration starts, or \
         consent with --allow-no-return-path"
    };
    match reason {
        SetupRejection::ShapeMismatch(difference) => {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            let reason = difference
                .reason
                .iter()
                .map(|reason| format!(" ({reason})"));
            let fix = match &difference.remedy {
                Some(remedy) => remedy::command(remedy),
                None => "start the destination's QEMU with the source's".to_owned(),
            };
            format!(
                "{}: {} at the source, {} at the destination{}; {fix}",
                difference.part,
                value(&difference.source),
                value(&difference.destination),
                reason.collect::<String>()
            )
        }
        SetupRejection::PossiblePostcopy => format!(
            "the migration may switch to postcopy (capability postcopy-ram), and a later refusal \
             would leave the guest stopped at the source; {consent_hint}, or switch postcopy-ram \
             off"
        ),
        _ => format!(
            "the migration has no return path, and a refusal at its end would leave the guest \
             stopped at the source; switch the capability return-path on at the source, or \
             {consent_hint}"
        ),
    }
}
