//! [`Came`]: progress of the device state, and its transitions; [`shutdown_action`]: the answer to both
//! sides when the main channel ends.
//!
//! ```text
//! NotYet ──Begins──> Begun ──AllCame──> Here ──GoesOn──> Partly ──WentOn──> Through(None)
//!    ^                 │                                                        │
//!    └───CutShort──────┘             Through(None) ──Answered(n)──> Through(Some(n))
//!                                    Through(_) ──SourceLeft──────> Lost
//!                                    Through(None) ──AnswerLost───> Lost
//!                                    Through(_) ──MoreCame, NotTaken──> Lost
//!                                    Lost ──Answered(n)──> Through(Some(n))
//! ```
//!
//! What does not stand there changes nothing. Where the VM is then, [`super::vm_location`] tells.

/// How far the device state came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateProgress {
    /// The source has not sent all of it. Perhaps its vCPUs went on, with which the destination can do nothing.
    NotStarted,
    /// Some of it came and none of it went on, or its vCPUs alone. The source may have sent all: the rest may be on its way.
    Receiving,
    /// All of it came, and none of it went on, or its vCPUs alone.
    Received,
    /// Some of it went on.
    PartlySent,
    /// All of it went on; what the destination said of it on the return path.
    Sent(Option<u32>),
    /// What was taken for all of it was handed to the system; the destination ended the connection in a way in which some of it may
    /// be lost, or it was not all.
    Indeterminate,
}

/// Something that happened to the device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceStateEvent {
    /// Its first byte came.
    FirstByteReceived,
    /// The source ended it before its end, and knows that.
    Truncated,
    /// All of it came.
    FullyReceived,
    /// Forwarding of it starts.
    SendStarted,
    /// All of it was handed to the system.
    SendCompleted,
    /// More came behind what was taken for its end.
    TrailingDataReceived,
    /// The destination's end of the connection was gone when it had been handed over.
    DestinationClosed,
    /// The destination said this on the return path.
    ReturnPathShut(u32),
    /// The destination closed the return path in a way in which an answer may be lost.
    ReturnPathLost,
    /// The source, which waits for an answer, had ended its connection before it was told one.
    SourceClosed,
}

impl DeviceStateProgress {
    /// Returns the state after an event.
    pub(super) const fn transition(self, happened: DeviceStateEvent) -> Self {
        match (self, happened) {
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
            (Self::Sent(_) | Self::Indeterminate, DeviceStateEvent::ReturnPathShut(said)) => {
                Self::Sent(Some(said))
            }
            (Self::Sent(None), DeviceStateEvent::ReturnPathLost) => Self::Indeterminate,
            (came, _) => came,
        }
    }

    /// Returns `true` if all of it went on, as far as the relay sees.
    pub(super) const fn is_sent(self) -> bool {
        matches!(self, Self::Sent(_))
    }

    /// Returns `true` if everything that was taken for the device state was handed over.
    pub(super) const fn is_fully_written(self) -> bool {
        matches!(self, Self::Sent(_) | Self::Indeterminate)
    }

    /// Returns `true` if part of it went on, or all.
    pub(super) const fn is_partly_or_fully_sent(self) -> bool {
        matches!(self, Self::PartlySent | Self::Sent(_) | Self::Indeterminate)
    }
}

/// End of the main channel to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MainChannelEnd {
    /// The source had nothing more to send.
    Completed,
    /// The judge refused, somebody asked to end, or something could not be read, written or
    /// understood.
    Stopped,
    /// The source had gone, and the destination has all device state and was told that nothing more
    /// comes.
    SourceLost,
}

/// Answer to both sides at the end of the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownAction {
    /// Nothing: both close when they are done.
    None,
    /// The source's connection is cut.
    ShutdownSource,
    /// Both connections are cut.
    ShutdownBoth,
    /// The source is told that the destination has failed, if that can be said, and gets time to
    /// close; then both are cut.
    SendShutError,
}

/// Returns the answer to both sides. `has_return_path`: the source listens to answers;
/// `is_package`: the device state is that of a postcopy migration.
pub(super) const fn shutdown_action(
    end: MainChannelEnd,
    came: DeviceStateProgress,
    has_return_path: bool,
    is_package: bool,
) -> ShutdownAction {
    match end {
        MainChannelEnd::Completed => ShutdownAction::None,
        MainChannelEnd::SourceLost => ShutdownAction::ShutdownSource,
        MainChannelEnd::Stopped => match came {
            DeviceStateProgress::NotStarted
            | DeviceStateProgress::Receiving
            | DeviceStateProgress::Received
                if has_return_path =>
            {
                ShutdownAction::SendShutError
            }
            // Only who refuses in time can say so; the way back may not be open yet, and closing says it too.
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
    fn every_event_in_every_state() {
        let [silent, loaded, failed] = [Sent(None), Sent(Some(0)), Sent(Some(1))];
        for (happened, expected) in [
            (
                DeviceStateEvent::FirstByteReceived,
                [
                    Receiving,
                    Receiving,
                    Received,
                    PartlySent,
                    silent,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::Truncated,
                [
                    NotStarted,
                    NotStarted,
                    Received,
                    PartlySent,
                    silent,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::FullyReceived,
                [
                    Received,
                    Received,
                    Received,
                    PartlySent,
                    silent,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::SendStarted,
                [
                    NotStarted,
                    Receiving,
                    PartlySent,
                    PartlySent,
                    silent,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::SendCompleted,
                [
                    NotStarted,
                    Receiving,
                    Received,
                    silent,
                    silent,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::TrailingDataReceived,
                [
                    NotStarted,
                    Receiving,
                    Received,
                    PartlySent,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::DestinationClosed,
                [
                    NotStarted,
                    Receiving,
                    Received,
                    PartlySent,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::ReturnPathShut(0),
                [
                    NotStarted, Receiving, Received, PartlySent, loaded, loaded, loaded, loaded,
                ],
            ),
            (
                DeviceStateEvent::ReturnPathShut(1),
                [
                    NotStarted, Receiving, Received, PartlySent, failed, failed, failed, failed,
                ],
            ),
            (
                DeviceStateEvent::ReturnPathLost,
                [
                    NotStarted,
                    Receiving,
                    Received,
                    PartlySent,
                    Indeterminate,
                    loaded,
                    failed,
                    Indeterminate,
                ],
            ),
            (
                DeviceStateEvent::SourceClosed,
                [
                    NotStarted,
                    Receiving,
                    Received,
                    PartlySent,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                    Indeterminate,
                ],
            ),
        ] {
            for (before, after) in ALL.into_iter().zip(expected) {
                assert_eq!(
                    before.transition(happened),
                    after,
                    "{before:?}: {happened:?}"
                );
            }
        }
    }

    #[test]
    fn what_both_sides_are_told() {
        use ShutdownAction::{SendShutError, ShutdownBoth, ShutdownSource};
        // Without a return path; with one; with one, and the device state is a package.
        for (came, expected) in [
            (NotStarted, [ShutdownBoth, SendShutError, SendShutError]),
            (Receiving, [ShutdownBoth, SendShutError, SendShutError]),
            (Received, [ShutdownBoth, SendShutError, SendShutError]),
            (PartlySent, [ShutdownBoth, ShutdownBoth, SendShutError]),
            (Indeterminate, [ShutdownBoth, ShutdownBoth, SendShutError]),
            (Sent(None), [ShutdownBoth, ShutdownBoth, ShutdownBoth]),
            (Sent(Some(1)), [ShutdownBoth, ShutdownBoth, ShutdownBoth]),
        ] {
            let ways = [(false, false), (true, false), (true, true)];
            for ((answers, package), expected) in ways.into_iter().zip(expected) {
                let told = |end| shutdown_action(end, came, answers, package);
                assert_eq!(
                    told(MainChannelEnd::Stopped),
                    expected,
                    "{came:?}, {answers}, {package}"
                );
                assert_eq!(told(MainChannelEnd::Completed), ShutdownAction::None);
                assert_eq!(told(MainChannelEnd::SourceLost), ShutdownSource);
            }
        }
    }
}
