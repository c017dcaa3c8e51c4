//! [`DeviceStateProgress`]: progress of the device state and its transitions; [`shutdown_action`]:
//! the end of both connections.
//!
//! ```text
//! NotStarted ──FirstByteReceived──> Receiving ──FullyReceived──> Received
//!      ^                                │                           │
//!      └───────────Truncated────────────┘                      SendStarted
//!                                                                   v
//! Sent(None) <───────────────SendCompleted────────────────────  PartlySent
//!
//! Sent(None)    ──ReturnPathShut(n)────────────────────────> Sent(Some(n))
//! Sent(None)    ──ReturnPathLost───────────────────────────> Indeterminate
//! Sent(_)       ──SourceClosed─────────────────────────────> Indeterminate
//! Sent(_)       ──TrailingDataReceived, DestinationClosed──> Indeterminate
//! Indeterminate ──ReturnPathShut(n)────────────────────────> Sent(Some(n))
//! ```
//!
//! All other events leave the state unchanged. [`super::vm_location`] derives the location of the
//! VM from the last state.

/// Progress of the device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateProgress {
    /// The source has sent no device state, or has failed before its end. The relay may have sent
    /// the vCPUs, which the destination cannot run without the rest.
    NotStarted,
    /// The relay received part of the device state and sent none, or only the vCPUs. The source may
    /// have sent the rest already.
    Receiving,
    /// The relay received all device state and sent none, or only the vCPUs.
    Received,
    /// The relay sent part of the device state.
    PartlySent,
    /// The relay sent all device state; holds the value of the destination's SHUT, if received.
    Sent(Option<u32>),
    /// The relay wrote what appeared to be all device state, but the destination may lack some.
    /// Either the connection to the destination was lost, or the data was incomplete.
    Indeterminate,
}

/// Event of the device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateEvent {
    /// The relay received the first byte of the device state.
    FirstByteReceived,
    /// The source closed the connection before the end of the device state, so its migration fails.
    Truncated,
    /// The relay received all device state.
    FullyReceived,
    /// The relay begins to send the device state.
    SendStarted,
    /// The relay wrote all device state.
    SendCompleted,
    /// The relay received more data after the presumed end.
    TrailingDataReceived,
    /// The destination closed its connection before the relay had written everything.
    DestinationClosed,
    /// The relay received this SHUT value on the return path.
    ReturnPathShut(u32),
    /// The destination closed the return path with an error, so its answer may be lost.
    ReturnPathLost,
    /// The source closed its connection although it had not received the answer it waits for.
    SourceClosed,
}

impl DeviceStateProgress {
    /// Returns the state after an event.
    pub(super) const fn transition(self, event: DeviceStateEvent) -> Self {
        match (self, event) {
            (Self::NotStarted, DeviceStateEvent::FirstByteReceived) => Self::Receiving,
            (Self::Receiving, DeviceStateEvent::Truncated) => Self::NotStarted,
            (Self::NotStarted | Self::Receiving, DeviceStateEvent::FullyReceived) => Self::Received,
            (Self::Received, DeviceStateEvent::SendStarted) => Self::PartlySent,
            (Self::PartlySent, DeviceStateEvent::SendCompleted) => Self::Sent(None),
            (
                Self::Sent(_),
                DeviceStateEvent::TrailingDataReceived
                | DeviceStateEvent::DestinationClosed
                | DeviceStateEvent::SourceClosed,
            ) => Self::Indeterminate,
            (Self::Sent(_) | Self::Indeterminate, DeviceStateEvent::ReturnPathShut(value)) => {
                Self::Sent(Some(value))
            }
            (Self::Sent(None), DeviceStateEvent::ReturnPathLost) => Self::Indeterminate,
            (progress, _) => progress,
        }
    }

    /// Returns `true` if the relay sent all device state, as far as it knows.
    pub(super) const fn is_sent(self) -> bool {
        matches!(self, Self::Sent(_))
    }

    /// Returns `true` if the relay wrote what appeared to be all device state.
    pub(super) const fn is_fully_written(self) -> bool {
        matches!(self, Self::Sent(_) | Self::Indeterminate)
    }

    /// Returns `true` if the relay sent the device state in part or whole.
    pub(super) const fn is_partly_or_fully_sent(self) -> bool {
        matches!(self, Self::PartlySent | Self::Sent(_) | Self::Indeterminate)
    }
}

/// End of the main channel to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainChannelEnd {
    /// The source sent everything.
    Completed,
    /// The policy rejected the VM, the user cancelled, or the relay could not read, write or parse
    /// data.
    Stopped,
    /// The connection to the source broke after the destination had received all device state. The
    /// relay has closed its direction to the destination.
    SourceLost,
}

/// Action on both connections at the end of the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownAction {
    /// None: both sides close by themselves.
    None,
    /// Shuts the source's connection down.
    ShutdownSource,
    /// Shuts both connections down.
    ShutdownBoth,
    /// Sends the source an error SHUT if possible and gives it time to close, then shuts both
    /// connections down.
    SendShutError,
}

/// Returns the action on both connections. `has_return_path` is `true` if the source reads the
/// return path. `is_package` is `true` if the device state is the package of a postcopy migration.
pub(super) const fn shutdown_action(
    end: MainChannelEnd,
    progress: DeviceStateProgress,
    has_return_path: bool,
    is_package: bool,
) -> ShutdownAction {
    match end {
        MainChannelEnd::Completed => ShutdownAction::None,
        MainChannelEnd::SourceLost => ShutdownAction::ShutdownSource,
        MainChannelEnd::Stopped => match progress {
            DeviceStateProgress::NotStarted
            | DeviceStateProgress::Receiving
            | DeviceStateProgress::Received
                if has_return_path =>
            {
                ShutdownAction::SendShutError
            }
            // The relay has to report the failure in time. The source may not have opened the
            // return path yet; closing the connection reports the failure as well.
            DeviceStateProgress::PartlySent | DeviceStateProgress::Indeterminate
                if has_return_path && is_package =>
            {
                ShutdownAction::SendShutError
            }
            _ => ShutdownAction::ShutdownBoth,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::DeviceStateProgress::{
        Indeterminate, NotStarted, PartlySent, Received, Receiving, Sent,
    };
    use super::*;

    const ALL: [DeviceStateProgress; 8] = [
        NotStarted,
        Receiving,
        Received,
        PartlySent,
        Sent(None),
        Sent(Some(0)),
        Sent(Some(1)),
        Indeterminate,
    ];

    #[test]
    fn transitions_of_all_states() {
        use DeviceStateEvent::{
            DestinationClosed, FirstByteReceived, FullyReceived, ReturnPathLost, ReturnPathShut,
            SendCompleted, SendStarted, SourceClosed, TrailingDataReceived, Truncated,
        };
        let [silent, loaded, failed] = [Sent(None), Sent(Some(0)), Sent(Some(1))];
        let lost = [silent, loaded, failed].map(|before| (before, Indeterminate));
        let to_loaded = [silent, failed, Indeterminate].map(|before| (before, loaded));
        let to_failed = [silent, loaded, Indeterminate].map(|before| (before, failed));
        // Each event with its transitions; it leaves all other states unchanged.
        let table: [(DeviceStateEvent, &[_]); 11] = [
            (FirstByteReceived, &[(NotStarted, Receiving)]),
            (Truncated, &[(Receiving, NotStarted)]),
            (
                FullyReceived,
                &[(NotStarted, Received), (Receiving, Received)],
            ),
            (SendStarted, &[(Received, PartlySent)]),
            (SendCompleted, &[(PartlySent, silent)]),
            (TrailingDataReceived, &lost),
            (DestinationClosed, &lost),
            (SourceClosed, &lost),
            (ReturnPathShut(0), &to_loaded),
            (ReturnPathShut(1), &to_failed),
            (ReturnPathLost, &[(silent, Indeterminate)]),
        ];
        for (event, transitions) in table {
            for before in ALL {
                let after = transitions
                    .iter()
                    .find(|(from, _)| *from == before)
                    .map_or(before, |(_, to)| *to);
                assert_eq!(before.transition(event), after, "{before:?}: {event:?}");
            }
        }
    }

    #[test]
    fn shutdown_actions() {
        use ShutdownAction::{SendShutError, ShutdownBoth, ShutdownSource};
        // Without a return path, with one, and with one and a package.
        for (progress, expected) in [
            (NotStarted, [ShutdownBoth, SendShutError, SendShutError]),
            (Receiving, [ShutdownBoth, SendShutError, SendShutError]),
            (Received, [ShutdownBoth, SendShutError, SendShutError]),
            (PartlySent, [ShutdownBoth, ShutdownBoth, SendShutError]),
            (Indeterminate, [ShutdownBoth, ShutdownBoth, SendShutError]),
            (Sent(None), [ShutdownBoth, ShutdownBoth, ShutdownBoth]),
            (Sent(Some(1)), [ShutdownBoth, ShutdownBoth, ShutdownBoth]),
        ] {
            let cases = [(false, false), (true, false), (true, true)];
            for ((has_return_path, is_package), expected) in cases.into_iter().zip(expected) {
                let action = |end| shutdown_action(end, progress, has_return_path, is_package);
                assert_eq!(
                    action(MainChannelEnd::Stopped),
                    expected,
                    "{progress:?}, {has_return_path}, {is_package}"
                );
                assert_eq!(action(MainChannelEnd::Completed), ShutdownAction::None);
                assert_eq!(action(MainChannelEnd::SourceLost), ShutdownSource);
            }
        }
    }
}
