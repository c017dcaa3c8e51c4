//! [`RelayConfig`]: what every migration through a relay is decided with.

use cpreg::plan::{Consents, Verdict};
use cpreg::tolerance::Tolerances;
use cpreg_relay::check_policy::PolicyConfig;

use super::preflight::Preflight;
use crate::arguments;
use crate::destination::{DestinationSpec, ResolvedDestination};

/// What the VM is called in reports: what stands for it in the commands that they propose.
pub(super) const SOURCE_NAME: &str = "SOURCE";

/// What every migration through this relay is decided with.
pub(super) struct RelayConfig<'a> {
    pub(super) arguments: &'a arguments::Relay,
    pub(super) tolerances: Tolerances,
    pub(super) consents: Consents,
    pub(super) destination: RelayDestination<'a>,
    /// What was certain before.
    pub(super) preflight: Option<Preflight>,
    /// A copy of the destination's QEMU has loaded it.
    pub(super) is_rehearsed: bool,
}

/// The destination.
pub(super) enum RelayDestination<'a> {
    /// It is the same whatever the guest.
    Fixed(ResolvedDestination),
    /// What it is depends on the guest.
    PerGuest(DestinationSpec<'a>),
}

impl RelayConfig<'_> {
    /// Returns what the relay needs of it.
    pub(super) fn policy_config(&self) -> PolicyConfig<'_> {
        let foretold = self.preflight.as_ref().map(|foretold| foretold.verdict);
        PolicyConfig {
            destination: match &self.destination {
                RelayDestination::Fixed(named) => Some(&named.destination),
                RelayDestination::PerGuest(_) => None,
            },
            tolerances: &self.tolerances,
            consents: &self.consents,
            is_certain: self.is_rehearsed
                || matches!(foretold, Some(Verdict::Loads | Verdict::Converts)),
            allow_no_return_path: self.arguments.allow_no_return_path,
        }
    }
}
