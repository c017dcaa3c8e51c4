//! [`PolicyConfig`]: input of every decision; [`Planner`]: plans the whole VM.

use cpreg::destination::Destination;
use cpreg::hardware::HardwareFacts;
use cpreg::plan::Consents;
use cpreg::shape::ShapeDifference;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_stream::Stream;
use cpreg_stream::incremental::StreamSetup;

/// Input to the decision about every migration through a relay.
#[derive(Clone, Copy, Debug)]
pub struct PolicyConfig<'t> {
    /// Destination of every guest; `None` if [`Planner::destination_for`] chooses one for each.
    pub destination: Option<&'t Destination>,
    /// Differences of register values that do no harm.
    pub tolerances: &'t Tolerances,
    /// Consents of the user.
    pub consents: &'t Consents,
    /// Known properties of the host that all VMs run on.
    pub source_hardware: HardwareFacts,
    /// `true` if the outcome of every migration is certain before the relay receives anything.
    pub is_certain: bool,
    /// `true` if the user accepts a migration without return path, which cannot resume the source
    /// after a late refusal.
    pub allow_no_return_path: bool,
}

/// Reason not to begin a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupRejection {
    /// Difference between the machine or RAM layout and the destination's.
    ShapeMismatch(ShapeDifference),
    /// Possible postcopy migration: the guest would stay stopped at the source after a refusal.
    PossiblePostcopy,
    /// Missing return path: the guest would stay stopped at the source after a refusal at the end.
    NoReturnPath,
}

/// Accepted VM, as the relay forwards it.
#[derive(Debug)]
pub struct PlannedVm {
    /// Parsed stream, from which the plan was made.
    pub stream: Stream,
    /// CPU state to forward.
    pub vm: Vm,
}

/// Planner for one migration's VM, notified of its progress.
pub trait Planner {
    /// Reason why the planner cannot decide.
    type Failure;

    /// Handles the start of a migration.
    fn on_migration_started(&mut self) {}

    /// Returns the destination for a guest, or `None` if it is not known after the first vCPU. The
    /// policy calls this function only without [`PolicyConfig::destination`].
    fn destination_for(&mut self, first_vcpu: Stream, setup: &StreamSetup) -> Option<&Destination> {
        let _ = (first_vcpu, setup);
        None
    }

    /// Plans the whole VM; `None` if it is rejected.
    ///
    /// # Errors
    /// Returns an error if the planner cannot decide; the policy then rejects the VM.
    fn plan(&mut self, stream: Stream) -> Result<Option<PlannedVm>, Self::Failure>;

    /// Returns the failure for a planned state that could not be written into the stream.
    fn conversion_failure(&mut self, error: cpreg_stream::Error) -> Self::Failure;

    /// Handles the decision to send the end of the device state. `running` is `true` if the
    /// stream's run state says that the guest runs; `None` if the stream has no run state.
    ///
    /// # Errors
    /// Returns an error if the relay must not send the end.
    fn on_device_state_commit(&mut self, running: Option<bool>) -> Result<(), Self::Failure> {
        let _ = running;
        Ok(())
    }
}
