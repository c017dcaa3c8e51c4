//! [`PolicyConfig`]: what migrations are decided with; [`Planner`]: who plans for the whole VM.

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
    /// The destination, if it is the same whatever the guest.
    pub destination: Option<&'t Destination>,
    /// Differences that do no harm.
    pub tolerances: &'t Tolerances,
    /// The user's decisions.
    pub consents: &'t Consents,
    /// The outcome is certain before anything comes.
    pub is_certain: bool,
    /// The user consents to a migration that has no way back if it is refused at its end.
    pub allow_no_return_path: bool,
}

/// Reason not to begin a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupRejection {
    /// Its outline is not the destination's.
    ShapeMismatch(ShapeDifference),
    /// Possible postcopy migration: its guest would stand still at the source after a refusal.
    PossiblePostcopy,
    /// Missing return path: its guest would stand still at the source after a refusal at the end.
    NoReturnPath,
}

/// VM that goes on.
#[derive(Debug)]
pub struct PlannedVm {
    /// The stream that was planned for.
    pub stream: Stream,
    /// The CPU state that it goes on with.
    pub vm: Vm,
}

/// Plans for one migration's VM, and is told what happens.
pub trait Planner {
    /// Reason why nothing can be decided.
    type Failure;

    /// A migration has begun.
    fn on_migration_started(&mut self) {}

    /// Tells what the destination is for a guest of which the first vCPU has come, if that can be
    /// told so early. Asked only where [`PolicyConfig::destination`] does not tell.
    fn destination_for(&mut self, first: Stream, outline: &StreamSetup) -> Option<&Destination> {
        let _ = (first, outline);
        None
    }

    /// Plans for the whole VM; nothing if it does not go on.
    ///
    /// # Errors
    /// If nothing can be decided; then it does not go on either.
    fn plan(&mut self, stream: Stream) -> Result<Option<PlannedVm>, Self::Failure>;

    /// The planned state could not be put into the stream.
    fn conversion_failure(&mut self, error: cpreg_stream::Error) -> Self::Failure;

    /// The end of the device state goes on next. `running`: what the stream says the guest did, if
    /// it says it.
    ///
    /// # Errors
    /// If it must not go on.
    fn on_device_state_commit(&mut self, running: Option<bool>) -> Result<(), Self::Failure> {
        let _ = running;
        Ok(())
    }
}
