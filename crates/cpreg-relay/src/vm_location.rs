//! [`VmLocation`]: the side that has the VM after a migration through the relay, as far as the
//! relay alone can know.
//!
//! The list gives the point at which the migration ended:
//!
//! - Any migration, before the device state: the migration fails, and the guest continues at the
//!   source.
//! - Precopy with return path, at the device state: the migration fails, and the guest continues at
//!   the source.
//! - Precopy without return path, at the device state: the source has sent everything. The source
//!   reports `completed` and its guest is stopped; QMP `cont` resumes the guest.
//! - Postcopy, at the package: in QEMU 10.0 and later the migration fails, and the guest continues
//!   at the source. In 7.2 the guest is stopped, in `postcopy-paused`, seldom `failed`.
//! - Precopy with return path, after the device state: the destination's SHUT decides.
//! - Any other, after the device state: the location is not certain, because no answer arrives.
//!
//! Observed with QEMU 7.2, 10.0 and 11.1 (docs/facts.md). The guard, which has the monitors of both
//! sides, knows more.

use std::fmt;

use cpreg_stream::incremental::StreamSetup;

use crate::progress::DeviceStateProgress;

/// Location of a VM, judged by the data that passed through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VmLocation {
    /// At the source; the guest runs or is paused as before the migration.
    SourceRunning,
    /// At the source, stopped; QEMU there regards the migration as completed.
    SourceStopped,
    /// At the source, which had switched to postcopy. The QEMU version decides whether its guest
    /// continues or is stopped.
    SourcePostcopyPaused,
    /// At the destination, which confirmed that it loaded the VM.
    Destination,
    /// At the destination, which received everything but did not confirm that it loaded the VM.
    DestinationUnconfirmed,
    /// Not known, because a connection broke after the relay had sent part or all of the device
    /// state.
    Unknown,
}

impl VmLocation {
    /// Returns the name for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceRunning => "source",
            Self::SourceStopped => "source-stopped",
            Self::SourcePostcopyPaused => "source-postcopy-paused",
            Self::Destination => "destination",
            Self::DestinationUnconfirmed => "destination-unconfirmed",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the next step for the user, if there is one.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::SourceRunning | Self::Destination => None,
            Self::SourceStopped => Some(
                "resume the guest with QMP `cont` at the source. The destination cannot run it: \
                 it lacks the device state",
            ),
            Self::SourcePostcopyPaused => Some(
                "run QMP `query-status` at the source: QEMU 10.0 and later resume the guest \
                 themselves, older versions may leave it stopped (`finish-migrate`, see \
                 docs/operators-guide.md). The destination cannot run it: it lacks the device state",
            ),
            Self::DestinationUnconfirmed => {
                Some("run QMP `query-status` at the destination: it shows whether the VM is loaded")
            }
            Self::Unknown => Some(
                "run QMP `query-status` on both sides. Resume the source (`cont`) only if the \
                 destination has exited or has not loaded the VM",
            ),
        }
    }
}

impl fmt::Display for VmLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceRunning => "at the source, as before the migration",
            Self::SourceStopped => {
                "at the source, stopped: QEMU there regards the migration as completed"
            }
            Self::SourcePostcopyPaused => "at the source, which had switched to postcopy",
            Self::Destination => "at the destination",
            Self::DestinationUnconfirmed => {
                "at the destination, which received all of it but did not confirm the load"
            }
            Self::Unknown => "not known: the connection broke after the first byte of device state",
        })
    }
}

/// Returns the location of the VM after a migration that ended in this state.
pub(super) fn locate_vm(
    setup: Option<&StreamSetup>,
    progress: DeviceStateProgress,
    is_postcopy: bool,
) -> VmLocation {
    let has_return_path = setup.is_some_and(|setup| setup.return_path);
    match progress {
        DeviceStateProgress::NotStarted => VmLocation::SourceRunning,
        // A package that has been received is complete, and the source has switched to postcopy.
        DeviceStateProgress::Receiving
        | DeviceStateProgress::Received
        | DeviceStateProgress::PartlySent
            if is_postcopy =>
        {
            VmLocation::SourcePostcopyPaused
        }
        DeviceStateProgress::Receiving | DeviceStateProgress::Received if has_return_path => {
            VmLocation::SourceRunning
        }
        DeviceStateProgress::Receiving | DeviceStateProgress::Received => VmLocation::SourceStopped,
        // If only the end of the description is missing, the destination loads the VM all the same.
        DeviceStateProgress::PartlySent => VmLocation::Unknown,
        DeviceStateProgress::Sent(Some(0)) => VmLocation::Destination,
        DeviceStateProgress::Sent(Some(_)) if is_postcopy => VmLocation::Unknown,
        DeviceStateProgress::Sent(Some(_)) => VmLocation::SourceRunning,
        DeviceStateProgress::Indeterminate => VmLocation::Unknown,
        DeviceStateProgress::Sent(None) if is_postcopy || has_return_path => VmLocation::Unknown,
        DeviceStateProgress::Sent(None) => VmLocation::DestinationUnconfirmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_match_the_module_doc() {
        let setup = |return_path| StreamSetup {
            machine: None,
            ram: Vec::new(),
            return_path,
            postcopy: false,
        };
        let at = |has_return_path, progress, is_postcopy| {
            locate_vm(Some(&setup(has_return_path)), progress, is_postcopy)
        };
        for has_return_path in [false, true] {
            assert_eq!(
                at(has_return_path, DeviceStateProgress::NotStarted, false),
                VmLocation::SourceRunning
            );
        }
        for progress in [
            DeviceStateProgress::Receiving,
            DeviceStateProgress::Received,
        ] {
            assert_eq!(at(true, progress, false), VmLocation::SourceRunning);
            assert_eq!(at(false, progress, false), VmLocation::SourceStopped);
            assert_eq!(at(true, progress, true), VmLocation::SourcePostcopyPaused);
        }
        for has_return_path in [false, true] {
            assert_eq!(
                at(has_return_path, DeviceStateProgress::PartlySent, false),
                VmLocation::Unknown
            );
        }
        assert_eq!(
            at(true, DeviceStateProgress::PartlySent, true),
            VmLocation::SourcePostcopyPaused
        );
        assert_eq!(
            at(false, DeviceStateProgress::Indeterminate, false),
            VmLocation::Unknown
        );
        let loaded = DeviceStateProgress::Sent(Some(0));
        assert_eq!(at(true, loaded, false), VmLocation::Destination);
        assert_eq!(at(true, loaded, true), VmLocation::Destination);
        let failed = DeviceStateProgress::Sent(Some(1));
        assert_eq!(at(true, failed, false), VmLocation::SourceRunning);
        let silent = DeviceStateProgress::Sent(None);
        assert_eq!(at(true, silent, false), VmLocation::Unknown);
        assert_eq!(at(false, silent, false), VmLocation::DestinationUnconfirmed);
    }
}
