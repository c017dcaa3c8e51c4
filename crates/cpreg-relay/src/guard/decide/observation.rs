//! [`Observation`]: all that a decision looks at; [`GuardAction`]: what it comes to.

use std::time::Duration;

use crate::guard::machine::{Command, GuardState};
use crate::guard::states::SideStatus;
use crate::guard::vm_location_report::VmLocationReport;

/// How long a QEMU gets to do by itself what it usually does at once: to notice that a connection is gone, to let its guest go on.
pub(in crate::guard) const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// How long one that hangs or does not answer gets.
pub(in crate::guard) const UNRESPONSIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long is waited in vain, before the user has to look.
pub(in crate::guard) const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// All that a decision looks at.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Observation {
    pub(in crate::guard) source: SideStatus,
    pub(in crate::guard) destination: SideStatus,
    /// Events so far.
    pub(in crate::guard) state: GuardState,
    /// How long nothing of the above has changed.
    pub(in crate::guard) unchanged_for: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) enum GuardAction {
    /// Look again.
    Wait,
    /// Tell one of them something.
    Execute(Command),
    /// It is over.
    Conclude(VmLocationReport),
}
