//! [`CheckPolicy`]: a [`MigrationPolicy`] that decides by cpreg's plan, as `check` and `convert` do.
//!
//! | file | what lives there |
//! |---|---|
//! | `terms` | [`PolicyConfig`]: what every migration is decided with; [`NotBegun`]: why one does not begin; [`Planner`]: who plans |
//! | `vcpus` | the vCPUs, decided about one by one as they come |
//!
//! ```text
//! what stands before RAM    may it begin? its outline, and whether there is a way back
//! the next vCPU             the plan for it alone, if that is certain
//! all device state          the planner plans for the whole; the edit is made, and compared
//! ```
//!
//! Nothing is printed here: what was decided is for the [`Planner`] to keep.

mod config;
mod vcpu_planner;

use cpreg::shape::MachineShape;
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Cpu, Section, Stream};

pub use config::{PlannedVm, Planner, PolicyConfig, SetupRejection};

use self::vcpu_planner::VcpuPlanner;
use crate::policy::{Decision, MigrationPolicy};

/// One migration, decided about by the plan.
#[derive(Debug)]
pub struct CheckPolicy<'t, P: Planner> {
    config: PolicyConfig<'t>,
    planner: P,
    /// What came before RAM.
    setup: Option<StreamSetup>,
    vcpu_planner: VcpuPlanner<'t>,
    setup_rejections: Vec<SetupRejection>,
    failure: Option<P::Failure>,
}

impl<'t, P: Planner> CheckPolicy<'t, P> {
    /// A migration of which nothing has come.
    pub fn new(terms: PolicyConfig<'t>, planner: P) -> Self {
        Self {
            config: terms,
            planner,
            setup: None,
            vcpu_planner: VcpuPlanner::default(),
            setup_rejections: Vec::new(),
            failure: None,
        }
    }

    /// Returns the reasons not to begin; none if the migration began.
    pub fn setup_rejections(&self) -> &[SetupRejection] {
        &self.setup_rejections
    }

    /// The planner, and why nothing could be decided, if so.
    pub fn into_parts(self) -> (P, Option<P::Failure>) {
        (self.planner, self.failure)
    }

    fn decide(&mut self, held: &DeviceStateBuffer, stream: Stream) -> Result<Decision, P::Failure> {
        let running = stream.run_state().map(|state| state == "running");
        let Some(planned) = self.planner.plan(stream)? else {
            return Ok(Decision::Reject);
        };
        let edit = held
            .convert(&planned.stream, &planned.vm)
            .map_err(|error| self.planner.conversion_failure(error))?;
        self.planner.on_device_state_commit(running)?;
        Ok(Decision::Forward(edit))
    }
}

impl<P: Planner> MigrationPolicy for CheckPolicy<'_, P> {
    fn on_setup(&mut self, outline: &StreamSetup) -> bool {
        self.planner.on_migration_started();
        self.setup = Some(outline.clone());
        let there = self.config.destination;
        if let Some(there) = there.and_then(|there| there.shape.as_ref()) {
            let here = MachineShape {
                machine: outline.machine.clone(),
                ram: outline.ram.clone(),
                ..there.clone()
            };
            let differences = here.differences(there).into_iter();
            let refusing = differences.filter(|difference| difference.blocks);
            self.setup_rejections
                .extend(refusing.map(SetupRejection::ShapeMismatch));
        }
        if !self.config.is_certain && !self.config.allow_no_return_path {
            if outline.postcopy {
                self.setup_rejections.push(SetupRejection::PossiblePostcopy);
            } else if !outline.return_path {
                self.setup_rejections.push(SetupRejection::NoReturnPath);
            }
        }
        self.setup_rejections.is_empty()
    }

    fn on_vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let outline = self.setup.as_ref();
        self.vcpu_planner
            .add(&self.config, &mut self.planner, outline, cpu)
    }

    fn may_send_vcpus_early(&mut self, come: &[Section]) -> bool {
        let outline = self.setup.as_ref();
        outline.is_some_and(|outline| {
            self.vcpu_planner
                .can_send_early(&self.config, outline, come)
        })
    }

    fn on_device_state(&mut self, held: &DeviceStateBuffer, stream: Stream) -> Decision {
        self.decide(held, stream).unwrap_or_else(|failure| {
            self.failure = Some(failure);
            Decision::Reject
        })
    }
}
