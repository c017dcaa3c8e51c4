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

use cpreg_stream::incremental::Outline;

use crate::progress::Came;

/// Where a VM is, by what passed through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Whereabouts {
    /// At the source, and its guest runs, or is as it was before.
    SourceGoesOn,
    /// At the source, stopped: it believes that it has migrated.
    SourceStopped,
    /// At the source, which had switched to postcopy: up to that QEMU, whether its guest goes on or is stopped.
    SourcePaused,
    /// At the destination, which said that it loaded it.
    Destination,
    /// Everything went to the destination; nobody has said that it loaded it.
    ProbablyDestination,
    /// Its device state went on in part or whole, and then a connection broke.
    Unknown,
}

impl Whereabouts {
    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceGoesOn => "source",
            Self::SourceStopped => "source-stopped",
            Self::SourcePaused => "source-postcopy-paused",
            Self::Destination => "destination",
            Self::ProbablyDestination => "probably-destination",
            Self::Unknown => "unknown",
        }
    }

    /// What to do now, where there is something to do.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::SourceGoesOn | Self::Destination => None,
            Self::SourceStopped => Some(
                "QMP `cont` at the source lets the guest go on; the destination cannot run it: it has no device state",
            ),
            Self::SourcePaused => Some(
                "QMP `query-status` at the source: QEMU 10.0 and later let the guest go on by themselves; older ones may stand still (`finish-migrate`), see the runbook; the destination cannot run it: it has no device state",
            ),
            Self::ProbablyDestination => {
                Some("QMP `query-status` at the destination tells whether it loaded it")
            }
            Self::Unknown => Some(
                "QMP `query-status` on both sides tells; let the source go on (`cont`) only if the destination is gone or has not loaded the VM",
            ),
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceGoesOn => "at the source, which goes on with it",
            Self::SourceStopped => "at the source, stopped: that QEMU believes it has migrated",
            Self::SourcePaused => "at the source, which had switched to postcopy",
            Self::Destination => "at the destination",
            Self::ProbablyDestination => {
                "at the destination, which got all of it and has not said whether it loaded it"
            }
            Self::Unknown => {
                "not known: the connection broke behind the first byte of device state"
            }
        })
    }
}

/// Where the VM is.
pub(super) fn whereabouts(outline: Option<&Outline>, came: Came, is_postcopy: bool) -> Whereabouts {
    let answers = outline.is_some_and(|outline| outline.return_path);
    match came {
        Came::NotYet => Whereabouts::SourceGoesOn,
        // A package is complete when it has come, and the source has switched.
        Came::Begun | Came::Here | Came::Partly if is_postcopy => Whereabouts::SourcePaused,
        Came::Begun | Came::Here if answers => Whereabouts::SourceGoesOn,
        Came::Begun | Came::Here => Whereabouts::SourceStopped,
        // A destination that lacks no more than the end of the description loads it.
        Came::Partly => Whereabouts::Unknown,
        Came::Through(Some(0)) => Whereabouts::Destination,
        Came::Through(Some(_)) if is_postcopy => Whereabouts::Unknown,
        Came::Through(Some(_)) => Whereabouts::SourceGoesOn,
        Came::Lost => Whereabouts::Unknown,
        Came::Through(None) if is_postcopy || answers => Whereabouts::Unknown,
        Came::Through(None) => Whereabouts::ProbablyDestination,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_in_the_table() {
        let outline = |return_path| Outline {
            machine: None,
            ram: Vec::new(),
            return_path,
            postcopy: false,
        };
        let at =
            |answers, came, is_postcopy| whereabouts(Some(&outline(answers)), came, is_postcopy);
        for answers in [false, true] {
            assert_eq!(at(answers, Came::NotYet, false), Whereabouts::SourceGoesOn);
        }
        for came in [Came::Begun, Came::Here] {
            assert_eq!(at(true, came, false), Whereabouts::SourceGoesOn);
            assert_eq!(at(false, came, false), Whereabouts::SourceStopped);
            assert_eq!(at(true, came, true), Whereabouts::SourcePaused);
        }
        for answers in [false, true] {
            assert_eq!(at(answers, Came::Partly, false), Whereabouts::Unknown);
        }
        assert_eq!(at(true, Came::Partly, true), Whereabouts::SourcePaused);
        assert_eq!(at(false, Came::Lost, false), Whereabouts::Unknown);
        let loaded = Came::Through(Some(0));
        assert_eq!(at(true, loaded, false), Whereabouts::Destination);
        assert_eq!(at(true, loaded, true), Whereabouts::Destination);
        let failed = Came::Through(Some(1));
        assert_eq!(at(true, failed, false), Whereabouts::SourceGoesOn);
        let silent = Came::Through(None);
        assert_eq!(at(true, silent, false), Whereabouts::Unknown);
        assert_eq!(at(false, silent, false), Whereabouts::ProbablyDestination);
    }
}
