//! Where the VM is when a migration through the relay has ended, as far as the relay alone can tell, and how it is brought back to life.
//!
//! | how the VM is sent | it ends | QEMU at the source |
//! |---|---|---|
//! | any | before the device state | the migration fails, the guest runs on |
//! | precopy, with return path | at the device state | the migration fails, the guest runs on |
//! | precopy, without | at the device state | it has sent everything: `completed`, the guest is stopped; QMP `cont` |
//! | postcopy | at the package | QEMU 10.0 and later: the migration fails, the guest runs on; 7.2: stopped, in `postcopy-paused`, seldom `failed` |
//! | precopy, with return path | behind the device state | what the destination said tells |
//! | any other | behind the device state | nobody tells the relay |
//!
//! Seen with QEMU 7.2, 10.0 and 11.1 (docs/facts.md). Who has the monitors of both sides knows more.

use std::fmt;

use cpreg_stream::incremental::StreamSetup;

use crate::progress::DeviceStateProgress;

/// Where a VM is, by what passed through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VmLocation {
    /// At the source, and its guest runs, or is as it was before.
    SourceRunning,
    /// At the source, stopped: it believes that it has migrated.
    SourceStopped,
    /// At the source, which had switched to postcopy: up to that QEMU, whether its guest goes on or is stopped.
    SourcePostcopyPaused,
    /// At the destination, which said that it loaded it.
    Destination,
    /// Everything went to the destination; nobody has said that it loaded it.
    DestinationUnconfirmed,
    /// Its device state went on in part or whole, and then a connection broke.
    Unknown,
}

impl VmLocation {
    /// Its name in logs.
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

    /// What to do now, where there is something to do.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::SourceRunning | Self::Destination => None,
            Self::SourceStopped => Some(
                "QMP `cont` at the source lets the guest go on; the destination cannot run it: it has no device state",
            ),
            Self::SourcePostcopyPaused => Some(
                "QMP `query-status` at the source: QEMU 10.0 and later let the guest go on by themselves; older ones may stand still (`finish-migrate`), see the runbook; the destination cannot run it: it has no device state",
            ),
            Self::DestinationUnconfirmed => {
                Some("QMP `query-status` at the destination tells whether it loaded it")
            }
            Self::Unknown => Some(
                "QMP `query-status` on both sides tells; let the source go on (`cont`) only if the destination is gone or has not loaded the VM",
            ),
        }
    }
}

impl fmt::Display for VmLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceRunning => "at the source, which goes on with it",
            Self::SourceStopped => "at the source, stopped: that QEMU believes it has migrated",
            Self::SourcePostcopyPaused => "at the source, which had switched to postcopy",
            Self::Destination => "at the destination",
            Self::DestinationUnconfirmed => {
                "at the destination, which got all of it and has not said whether it loaded it"
            }
            Self::Unknown => {
                "not known: the connection broke behind the first byte of device state"
            }
        })
    }
}

/// Where the VM is.
pub(super) fn locate_vm(
    outline: Option<&StreamSetup>,
    came: DeviceStateProgress,
    is_postcopy: bool,
) -> VmLocation {
    let answers = outline.is_some_and(|outline| outline.return_path);
    match came {
        DeviceStateProgress::NotStarted => VmLocation::SourceRunning,
        // A package is complete when it has come, and the source has switched.
        DeviceStateProgress::Receiving
        | DeviceStateProgress::Received
        | DeviceStateProgress::PartlySent
            if is_postcopy =>
        {
            VmLocation::SourcePostcopyPaused
        }
        DeviceStateProgress::Receiving | DeviceStateProgress::Received if answers => {
            VmLocation::SourceRunning
        }
        DeviceStateProgress::Receiving | DeviceStateProgress::Received => VmLocation::SourceStopped,
        // A destination that lacks no more than the end of the description loads it.
        DeviceStateProgress::PartlySent => VmLocation::Unknown,
        DeviceStateProgress::Sent(Some(0)) => VmLocation::Destination,
        DeviceStateProgress::Sent(Some(_)) if is_postcopy => VmLocation::Unknown,
        DeviceStateProgress::Sent(Some(_)) => VmLocation::SourceRunning,
        DeviceStateProgress::Indeterminate => VmLocation::Unknown,
        DeviceStateProgress::Sent(None) if is_postcopy || answers => VmLocation::Unknown,
        DeviceStateProgress::Sent(None) => VmLocation::DestinationUnconfirmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_the_table() {
        let outline = |return_path| StreamSetup {
            machine: None,
            ram: Vec::new(),
            return_path,
            postcopy: false,
        };
        let at = |answers, came, is_postcopy| locate_vm(Some(&outline(answers)), came, is_postcopy);
        for answers in [false, true] {
            assert_eq!(
                at(answers, DeviceStateProgress::NotStarted, false),
                VmLocation::SourceRunning
            );
        }
        for came in [
            DeviceStateProgress::Receiving,
            DeviceStateProgress::Received,
        ] {
            assert_eq!(at(true, came, false), VmLocation::SourceRunning);
            assert_eq!(at(false, came, false), VmLocation::SourceStopped);
            assert_eq!(at(true, came, true), VmLocation::SourcePostcopyPaused);
        }
        for answers in [false, true] {
            assert_eq!(
                at(answers, DeviceStateProgress::PartlySent, false),
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
