//! [`Came`]: progress of the device state, and its transitions; [`farewell`]: the answer to both
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
pub(super) enum Came {
    /// The source has not sent all of it. Perhaps its vCPUs went on, with which the destination can do nothing.
    NotYet,
    /// Some of it came and none of it went on, or its vCPUs alone. The source may have sent all: the rest may be on its way.
    Begun,
    /// All of it came, and none of it went on, or its vCPUs alone.
    Here,
    /// Some of it went on.
    Partly,
    /// All of it went on; what the destination said of it on the return path.
    Through(Option<u32>),
    /// What was taken for all of it was handed to the system; the destination ended the connection in a way in which some of it may
    /// be lost, or it was not all.
    Lost,
}

/// Something that happened to the device state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// Its first byte came.
    Begins,
    /// The source ended it before its end, and knows that.
    CutShort,
    /// All of it came.
    AllCame,
    /// Forwarding of it starts.
    GoesOn,
    /// All of it was handed to the system.
    WentOn,
    /// More came behind what was taken for its end.
    MoreCame,
    /// The destination's end of the connection was gone when it had been handed over.
    NotTaken,
    /// The destination said this on the return path.
    Answered(u32),
    /// The destination closed the return path in a way in which an answer may be lost.
    AnswerLost,
    /// The source, which waits for an answer, had ended its connection before it was told one.
    SourceLeft,
}

impl Came {
    /// Returns the state after an event.
    pub(super) const fn after(self, happened: Happened) -> Self {
        match (self, happened) {
            (Self::NotYet, Happened::Begins) => Self::Begun,
            (Self::Begun, Happened::CutShort) => Self::NotYet,
            (Self::NotYet | Self::Begun, Happened::AllCame) => Self::Here,
            (Self::Here, Happened::GoesOn) => Self::Partly,
            (Self::Partly, Happened::WentOn) => Self::Through(None),
            (Self::Through(_), Happened::MoreCame | Happened::NotTaken | Happened::SourceLeft) => {
                Self::Lost
            }
            (Self::Through(_) | Self::Lost, Happened::Answered(said)) => Self::Through(Some(said)),
            (Self::Through(None), Happened::AnswerLost) => Self::Lost,
            (came, _) => came,
        }
    }

    /// Returns `true` if all of it went on, as far as the relay sees.
    pub(super) const fn is_through(self) -> bool {
        matches!(self, Self::Through(_))
    }

    /// Returns `true` if everything that was taken for the device state was handed over.
    pub(super) const fn was_handed_over(self) -> bool {
        matches!(self, Self::Through(_) | Self::Lost)
    }

    /// Returns `true` if part of it went on, or all.
    pub(super) const fn went_on(self) -> bool {
        matches!(self, Self::Partly | Self::Through(_) | Self::Lost)
    }
}

/// End of the main channel to the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The source had nothing more to send.
    WentOn,
    /// The judge refused, somebody asked to end, or something could not be read, written or
    /// understood.
    Stopped,
    /// The source had gone, and the destination has all device state and was told that nothing more
    /// comes.
    SourceGone,
}

/// Answer to both sides at the end of the main channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: both close when they are done.
    None,
    /// The source's connection is cut.
    CutSource,
    /// Both connections are cut.
    CutBoth,
    /// The source is told that the destination has failed, if that can be said, and gets time to
    /// close; then both are cut.
    SayFailed,
}

/// Returns the answer to both sides. `has_return_path`: the source listens to answers;
/// `is_package`: the device state is that of a postcopy migration.
pub(super) const fn farewell(
    end: End,
    came: Came,
    has_return_path: bool,
    is_package: bool,
) -> Farewell {
    match end {
        End::WentOn => Farewell::None,
        End::SourceGone => Farewell::CutSource,
        End::Stopped => match came {
            Came::NotYet | Came::Begun | Came::Here if has_return_path => Farewell::SayFailed,
            // Only who refuses in time can say so; the way back may not be open yet, and closing says it too.
            Came::Partly | Came::Lost if has_return_path && is_package => Farewell::SayFailed,
            _ => Farewell::CutBoth,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::Came::{Begun, Here, Lost, NotYet, Partly, Through};
    use super::*;

    const ALL: [Came; 8] = [
        NotYet,
        Begun,
        Here,
        Partly,
        Through(None),
        Through(Some(0)),
        Through(Some(1)),
        Lost,
    ];

    #[test]
    fn every_event_in_every_state() {
        let [silent, loaded, failed] = [Through(None), Through(Some(0)), Through(Some(1))];
        for (happened, expected) in [
            (
                Happened::Begins,
                [Begun, Begun, Here, Partly, silent, loaded, failed, Lost],
            ),
            (
                Happened::CutShort,
                [NotYet, NotYet, Here, Partly, silent, loaded, failed, Lost],
            ),
            (
                Happened::AllCame,
                [Here, Here, Here, Partly, silent, loaded, failed, Lost],
            ),
            (
                Happened::GoesOn,
                [NotYet, Begun, Partly, Partly, silent, loaded, failed, Lost],
            ),
            (
                Happened::WentOn,
                [NotYet, Begun, Here, silent, silent, loaded, failed, Lost],
            ),
            (
                Happened::MoreCame,
                [NotYet, Begun, Here, Partly, Lost, Lost, Lost, Lost],
            ),
            (
                Happened::NotTaken,
                [NotYet, Begun, Here, Partly, Lost, Lost, Lost, Lost],
            ),
            (
                Happened::Answered(0),
                [NotYet, Begun, Here, Partly, loaded, loaded, loaded, loaded],
            ),
            (
                Happened::Answered(1),
                [NotYet, Begun, Here, Partly, failed, failed, failed, failed],
            ),
            (
                Happened::AnswerLost,
                [NotYet, Begun, Here, Partly, Lost, loaded, failed, Lost],
            ),
            (
                Happened::SourceLeft,
                [NotYet, Begun, Here, Partly, Lost, Lost, Lost, Lost],
            ),
        ] {
            for (before, after) in ALL.into_iter().zip(expected) {
                assert_eq!(before.after(happened), after, "{before:?}: {happened:?}");
            }
        }
    }

    #[test]
    fn what_both_sides_are_told() {
        use Farewell::{CutBoth, CutSource, SayFailed};
        // Without a return path; with one; with one, and the device state is a package.
        for (came, expected) in [
            (NotYet, [CutBoth, SayFailed, SayFailed]),
            (Begun, [CutBoth, SayFailed, SayFailed]),
            (Here, [CutBoth, SayFailed, SayFailed]),
            (Partly, [CutBoth, CutBoth, SayFailed]),
            (Lost, [CutBoth, CutBoth, SayFailed]),
            (Through(None), [CutBoth, CutBoth, CutBoth]),
            (Through(Some(1)), [CutBoth, CutBoth, CutBoth]),
        ] {
            let ways = [(false, false), (true, false), (true, true)];
            for ((answers, package), expected) in ways.into_iter().zip(expected) {
                let told = |end| farewell(end, came, answers, package);
                assert_eq!(
                    told(End::Stopped),
                    expected,
                    "{came:?}, {answers}, {package}"
                );
                assert_eq!(told(End::WentOn), Farewell::None);
                assert_eq!(told(End::SourceGone), CutSource);
            }
        }
    }
}
