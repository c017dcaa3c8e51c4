//! [`Observation`]: input of a decision; [`GuardAction`]: its result.

use std::time::Duration;

use crate::guard::machine::{Command, GuardState};
use crate::guard::states::SideStatus;
use crate::guard::vm_location_report::VmLocationReport;

/// Time for a QEMU to notice a lost connection or to resume its guest by itself, which it usually
/// does at once.
pub(in crate::guard) const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// Time without an answer or progress after which the guard no longer waits for a QEMU.
pub(in crate::guard) const UNRESPONSIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time without any change after which the guard leaves the decision to the user.
pub(in crate::guard) const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Input of a decision.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Observation {
    pub(in crate::guard) source: SideStatus,
    pub(in crate::guard) destination: SideStatus,
    /// State of the guarded migration after all events so far.
    pub(in crate::guard) state: GuardState,
    /// Time since `source`, `destination` or `state` last changed.
    pub(in crate::guard) unchanged_for: Duration,
}

/// Result of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) enum GuardAction {
    /// Polls again.
    Wait,
    /// Sends a command to one QEMU.
    Execute(Command),
    /// Ends the guard with this report.
    Conclude(VmLocationReport),
}
