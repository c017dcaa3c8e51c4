//! [`CheckPolicy`]: a [`MigrationPolicy`] that decides by cpreg's plan, like `check` and `convert`.
//!
//! | file | contents |
//! |---|---|
//! | `config` | [`PolicyConfig`], [`SetupRejection`], [`Planner`] |
//! | `vcpu_planner` | decides about the vCPUs one by one |
//!
//! ```text
//! data before RAM     checks the machine and RAM layout and the return path
//! GICv3               keeps its limits for the vCPUs' plans
//! each vCPU           plans it alone, if the result is certain
//! all device state    the planner plans the whole; the edit is made and compared
//! ```
//!
//! This module prints nothing: the [`Planner`] keeps the decisions.

mod config;
mod vcpu_planner;

use cpreg::hardware::HardwareFacts;
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Section, Stream};

pub use config::{PlannedVm, Planner, PolicyConfig, SetupRejection};

use self::vcpu_planner::VcpuPlanner;
use crate::policy::{Decision, MigrationPolicy};

/// Policy of one migration that decides by the plan.
#[derive(Debug)]
pub struct CheckPolicy<'t, P: Planner> {
    config: PolicyConfig<'t>,
    planner: P,
    /// Data in front of RAM, once the relay has received it.
    setup: Option<StreamSetup>,
    vcpu_planner: VcpuPlanner<'t>,
    setup_rejections: Vec<SetupRejection>,
    failure: Option<P::Failure>,
}

impl<'t, P: Planner> CheckPolicy<'t, P> {
    /// Creates the policy of a migration that has not begun.
    pub fn new(config: PolicyConfig<'t>, planner: P) -> Self {
        Self {
            config,
            planner,
            setup: None,
            vcpu_planner: VcpuPlanner::default(),
            setup_rejections: Vec::new(),
            failure: None,
        }
    }

    /// Returns the reasons to reject the migration at its start; empty if it was accepted.
    pub fn setup_rejections(&self) -> &[SetupRejection] {
        &self.setup_rejections
    }

    /// Returns the planner, and the reason if the planner could not decide.
    pub fn into_parts(self) -> (P, Option<P::Failure>) {
        (self.planner, self.failure)
    }

    fn decide(
        &mut self,
        device_state: &DeviceStateBuffer,
        stream: Stream,
    ) -> Result<Decision, P::Failure> {
        let running = stream.run_state().map(|state| state == "running");
        let Some(planned) = self.planner.plan(stream)? else {
            return Ok(Decision::Reject);
        };
        let edit = device_state
            .convert(&planned.stream, &planned.vm)
            .map_err(|error| self.planner.conversion_failure(error))?;
        self.planner.on_device_state_commit(running)?;
        Ok(Decision::Forward(edit))
    }
}

impl<P: Planner> MigrationPolicy for CheckPolicy<'_, P> {
    fn on_setup(&mut self, setup: &StreamSetup) -> bool {
        self.planner.on_migration_started();
        self.setup = Some(setup.clone());
        if let Some(destination) = self.config.destination {
            let differences = destination.setup_differences(setup.machine.as_deref(), &setup.ram);
            let blocking = differences.into_iter().filter(|it| it.blocks);
            self.setup_rejections
                .extend(blocking.map(SetupRejection::ShapeMismatch));
        }
        if !self.config.is_certain && !self.config.allow_no_return_path {
            if setup.postcopy {
                self.setup_rejections.push(SetupRejection::PossiblePostcopy);
            } else if !setup.return_path {
                self.setup_rejections.push(SetupRejection::NoReturnPath);
            }
        }
        self.setup_rejections.is_empty()
    }

    fn on_hardware(&mut self, facts: HardwareFacts) {
        self.vcpu_planner.set_hardware(facts);
    }

    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let setup = self.setup.as_ref();
        self.vcpu_planner
            .add(&self.config, &mut self.planner, setup, cpu)
    }

    fn may_send_vcpus_early(&mut self, sections: &[Section]) -> bool {
        let setup = self.setup.as_ref();
        setup.is_some_and(|setup| {
            self.vcpu_planner
                .can_send_early(&self.config, setup, sections)
        })
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, stream: Stream) -> Decision {
        self.decide(device_state, stream).unwrap_or_else(|failure| {
            self.failure = Some(failure);
            Decision::Reject
        })
    }
}
