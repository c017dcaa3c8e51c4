//! [`PolicyConfig`]: input of every decision; [`Planner`]: plans the whole VM.

use cpreg::destination::Destination;
use cpreg::plan::Consents;
use cpreg::shape::ShapeDifference;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_stream::Stream;
use cpreg_stream::incremental::StreamSetup;

/// Input to the decision about every migration through a relay.
#[derive(Clone, Copy, Debug)]
pub struct PolicyConfig<'t> {
    /// Destination, if it is the same for every guest.
    pub destination: Option<&'t Destination>,
    /// Differences that do no harm.
    pub tolerances: &'t Tolerances,
    /// Consents of the user.
    pub consents: &'t Consents,
    /// The outcome is certain before anything is received.
    pub is_certain: bool,
    /// The user accepts a migration without return path, which cannot resume the source after a
    /// late refusal.
    pub allow_no_return_path: bool,
}

/// Reason not to begin a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupRejection {
    /// Machine or RAM layout that differs from the destination's.
    ShapeMismatch(ShapeDifference),
    /// Possible postcopy migration: the guest would stay stopped at the source after a refusal.
    PossiblePostcopy,
    /// Missing return path: the guest would stay stopped at the source after a refusal at the end.
    NoReturnPath,
}

/// VM to forward.
#[derive(Debug)]
pub struct PlannedVm {
    /// Stream that was planned for.
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

    /// Returns the destination for a guest whose first vCPU has been received, if it is known so
    /// early. Called only without [`PolicyConfig::destination`].
    fn destination_for(&mut self, first_vcpu: Stream, setup: &StreamSetup) -> Option<&Destination> {
        let _ = (first_vcpu, setup);
        None
    }

    /// Plans the whole VM; `None` if it is rejected.
    ///
    /// # Errors
    /// If the planner cannot decide; the VM is rejected.
    fn plan(&mut self, stream: Stream) -> Result<Option<PlannedVm>, Self::Failure>;

    /// Returns the failure for a planned state that could not be written into the stream.
    fn conversion_failure(&mut self, error: cpreg_stream::Error) -> Self::Failure;

    /// Handles the decision to send the end of the device state. `running` is the guest's run state
    /// from the stream, if it is present.
    ///
    /// # Errors
    /// If the end must not be sent.
    fn on_device_state_commit(&mut self, running: Option<bool>) -> Result<(), Self::Failure> {
        let _ = running;
        Ok(())
    }
}
