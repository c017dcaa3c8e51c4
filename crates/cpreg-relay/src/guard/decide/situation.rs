//! [`Situation`]: all that a decision looks at; [`Action`]: what it comes to.

use std::time::Duration;

use crate::guard::machine::{Command, GuardState};
use crate::guard::states::Side;
use crate::guard::whereabouts::Whereabouts;

/// How long a QEMU gets to do by itself what it usually does at once: to notice that a connection is gone, to let its guest go on.
pub(in crate::guard) const SOON: Duration = Duration::from_secs(2);

/// How long one that hangs or does not answer gets.
pub(in crate::guard) const LATE: Duration = Duration::from_secs(30);

/// How long is waited in vain, before the user has to look.
pub(in crate::guard) const FOR_GOOD: Duration = Duration::from_secs(120);

/// All that a decision looks at.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Situation {
    pub(in crate::guard) source: Side,
    pub(in crate::guard) dest: Side,
    /// Events so far.
    pub(in crate::guard) state: GuardState,
    /// How long nothing of the above has changed.
    pub(in crate::guard) unchanged: Duration,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::guard) enum Action {
    /// Look again.
    Wait,
    /// Tell one of them something.
    Tell(Command),
    /// It is over.
    Conclude(Whereabouts),
}
