//! [`RelayConfig`]: inputs of the decision on every migration through a relay.

use std::path::Path;

use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, Verdict};
use cpreg::tolerance::Tolerances;
use cpreg_relay::check_policy::PolicyConfig;

use super::preflight::Preflight;
use crate::arguments;
use crate::destination::{DestinationSpec, ResolvedDestination};
use crate::failure::Failure;
use crate::source_host::SourceHost;

/// Name of the VM in reports. The commands that a report proposes have this name as argument.
pub(super) const SOURCE_NAME: &str = "SOURCE";

/// Inputs of the decision on every migration through one relay.
pub(super) struct RelayConfig<'a> {
    pub(super) arguments: &'a arguments::Relay,
    pub(super) tolerances: Tolerances,
    pub(super) consents: Consents,
    pub(super) destination: RelayDestination<'a>,
    /// Result of the check before the migration; `None` without `--from`.
    pub(super) preflight: Option<Preflight>,
    /// `true` if a copy of the destination's QEMU has loaded the VM.
    pub(super) is_rehearsed: bool,
}

/// Destination of a relay.
pub(super) enum RelayDestination<'a> {
    /// Destination that is the same for every guest.
    Fixed(Box<ResolvedDestination>),
    /// Destination that depends on the guest.
    PerGuest(DestinationSpec<'a>),
}

impl RelayConfig<'_> {
    /// Returns the host that all VMs run on, if `--from` names one.
    pub(super) fn source_host(&self) -> Option<&SourceHost> {
        self.preflight.as_ref().and_then(Preflight::host)
    }

    /// Returns the part of the configuration that the relay's policy uses.
    pub(super) fn policy_config(&self) -> PolicyConfig<'_> {
        let verdict = self.preflight.as_ref().map(|preflight| preflight.verdict);
        PolicyConfig {
            destination: match &self.destination {
                RelayDestination::Fixed(resolved) => Some(&resolved.destination),
                RelayDestination::PerGuest(_) => None,
            },
            tolerances: &self.tolerances,
            consents: &self.consents,
            source_hardware: self
                .source_host()
                .map_or(HardwareFacts::UNKNOWN, SourceHost::hardware),
            is_certain: self.is_rehearsed || verdict.is_some_and(Verdict::can_load),
            allow_no_return_path: self.arguments.allow_no_return_path,
        }
    }
}

/// Returns an error if DESTINATION is standard input.
pub(super) fn reject_stdin(to: &Path) -> Result<(), Failure> {
    if to != Path::new("-") {
        return Ok(());
    }
    Err(
        Failure::new("DESTINATION cannot be read from standard input")
            .with_hint("name a file or a recorded host"),
    )
}

/// Returns an error if the user accepts a severity for migrations of several VMs.
pub(super) fn reject_severity(option: &str, consents: &Consents) -> Result<(), Failure> {
    let Some(severity) = consents.accept_up_to else {
        return Ok(());
    };
    Err(Failure::new(format!(
        "{option} with --accept {severity} would accept adjustments that were not reviewed"
    ))
    .with_hint("name the registers (--accept REG) that `cpreg check` proposes"))
}
