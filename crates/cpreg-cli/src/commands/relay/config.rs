//! [`Desk`]: what every migration through a relay is decided with.

use cpreg::plan::{Consents, Verdict};
use cpreg::tolerance::Tolerances;
use cpreg_relay::check_policy::Terms;

use super::foretold::Foretold;
use crate::arguments;
use crate::destination::{Found, Named};

/// What the VM is called in reports: what stands for it in the commands that they propose.
pub(super) const NAME: &str = "SOURCE";

/// What every migration through this relay is decided with.
pub(super) struct Desk<'a> {
    pub(super) arguments: &'a arguments::Relay,
    pub(super) tolerances: Tolerances,
    pub(super) consents: Consents,
    pub(super) there: There<'a>,
    /// What was certain before.
    pub(super) foretold: Option<Foretold>,
    /// A copy of the destination's QEMU has loaded it.
    pub(super) is_rehearsed: bool,
}

/// The destination.
pub(super) enum There<'a> {
    /// It is the same whatever the guest.
    Known(Named),
    /// What it is depends on the guest.
    ByGuest(Found<'a>),
}

impl Desk<'_> {
    /// Returns what the relay needs of it.
    pub(super) fn terms(&self) -> Terms<'_> {
        let foretold = self.foretold.as_ref().map(|foretold| foretold.verdict);
        Terms {
            destination: match &self.there {
                There::Known(named) => Some(&named.destination),
                There::ByGuest(_) => None,
            },
            tolerances: &self.tolerances,
            consents: &self.consents,
            is_certain: self.is_rehearsed
                || matches!(foretold, Some(Verdict::Loads | Verdict::Converts)),
            no_way_back: self.arguments.no_way_back,
        }
    }
}
