//! [`send`]: moves a VM to the other end, step by step. Until *run* is said its guest goes on here whatever happens; afterwards it never
//! does, unless the other end says that it did not and will not run it.

use std::time::{Duration, Instant};

use crate::link::{Line, Link, LinkError};
use crate::migrate::{Failure, Source, hear, say, unexpected};
use crate::protocol::{BATCH, Message, PAGE, Page};

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The guest runs at the other end.
    Moved(Figures),
    /// The other end refused, before anything was touched. The guest goes on here.
    Refused(Vec<String>),
    /// It failed. The guest goes on here.
    Failed(Failure),
    /// It failed, and the guest could not be made to go on either.
    Lost(Failure, Failure),
    /// The VM was given up and the other end did not say what became of it: it may run there, and must not run here.
    Unknown(Failure),
}

/// What it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Pages that were sent while the guest ran, those sent again included.
    pub pages: usize,
    /// In how many rounds.
    pub rounds: usize,
    /// Pages that were sent while it was stopped.
    pub last_pages: usize,
    /// How long the guest stood still: from its stop to the other end's word that it runs.
    pub pause: Duration,
}

/// When to stop the guest: so few pages are left, or that many rounds did not get there.
const FEW: usize = 16;
const MOST_ROUNDS: usize = 5;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The other end would take the guest, which could notice this.
    Ready(&'a [String]),
    /// The guest runs on while pages go over: the round, from 1, and of how many pages. Of the first round those that are zero are not sent.
    PreCopy {
        /// Which round.
        round: usize,
        /// How many pages.
        pages: usize,
    },
    /// The guest stands still while so many pages and all registers go over.
    Stopped {
        /// How many pages.
        pages: usize,
    },
}

/// Moves the VM, and tells how far it is before each step.
pub fn send<L: Line>(
    source: &mut impl Source,
    link: &mut Link<L>,
    mut tell: impl FnMut(Step<'_>),
) -> Sent {
    match steps(source, link, &mut tell) {
        Ok(figures) => Sent::Moved(figures),
        Err(End::Unknown(failure)) => Sent::Unknown(failure),
        Err(End::Refused(reasons)) => match go_on(source) {
            Ok(()) => Sent::Refused(reasons),
            Err(second) => Sent::Lost(Failure(reasons.join("; ")), second),
        },
        Err(End::Failed(failure)) => {
            // The other end waits for us, and should not have to wait for long. It may be gone.
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            match go_on(source) {
                Ok(()) => Sent::Failed(failure),
                Err(second) => Sent::Lost(failure, second),
            }
        }
    }
}

/// Lets the guest go on here.
fn go_on(source: &mut impl Source) -> Result<(), Failure> {
    // A guest that is watched on is slower, and no worse.
    let _ = source.unwatch();
    source.go_on()
}

/// Why it did not come to the end.
enum End {
    Refused(Vec<String>),
    Failed(Failure),
    /// After *run*.
    Unknown(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn steps<L: Line>(
    source: &mut impl Source,
    link: &mut Link<L>,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<Figures, End> {
    say(link, &Message::Hello(source.outline()))?;
    match hear(link)? {
        Message::Accepted => {}
        Message::Refused(reasons) => return Err(End::Refused(reasons)),
        other => return Err(unexpected(&other).into()),
    }

    // The guest stands still for as long as it takes to read its registers, and goes on while the other end makes up its mind.
    source.stop()?;
    let look = source
        .registers()
        .and_then(|vm| Ok(Message::Look(vm, source.devices()?)));
    source.go_on()?;
    say(link, &look?)?;
    match hear(link)? {
        Message::Ready(noticeable) => tell(Step::Ready(&noticeable)),
        Message::Refused(reasons) => return Err(End::Refused(reasons)),
        other => return Err(unexpected(&other).into()),
    }

    let mut figures = Figures::default();
    source.watch()?;
    let count = u32::try_from(source.outline().memory / PAGE as u64);
    let count = count.map_err(|_| Failure("too much memory".into()))?;
    figures.rounds = 1;
    let pages = usize::try_from(count).unwrap_or(usize::MAX);
    tell(Step::PreCopy { round: 1, pages });
    // What is zero is zero over there, too.
    figures.pages += send_pages(source, link, 0..count, Zero::Skip)?;
    let mut written = source.written()?;
    while written.len() > FEW && figures.rounds < MOST_ROUNDS {
        figures.rounds += 1;
        tell(Step::PreCopy {
            round: figures.rounds,
            pages: written.len(),
        });
        figures.pages += send_pages(source, link, written.iter().copied(), Zero::Send)?;
        written = source.written()?;
    }

    source.stop()?;
    let stopped = Instant::now();
    // At once: a stopped guest's counters run on until they are read.
    let state = Message::State(source.registers()?, source.devices()?);
    // What was written after the last look at it, and up to the stop.
    written.extend(source.written()?);
    written.sort_unstable();
    written.dedup();
    tell(Step::Stopped {
        pages: written.len(),
    });
    figures.last_pages = send_pages(source, link, written.iter().copied(), Zero::Send)?;
    say(link, &state)?;
    match hear(link)? {
        Message::Loaded => {}
        Message::Refused(reasons) => return Err(End::Refused(reasons)),
        other => return Err(unexpected(&other).into()),
    }

    // From here on it is the other end's, even if saying so seems to fail: part of it may have got there.
    match link.send(&Message::Run.encode()) {
        Ok(()) | Err(LinkError::Interrupted) => {}
        Err(error) => return Err(End::Unknown(error.into())),
    }
    match hear(link) {
        Ok(Message::Running) => {
            figures.pause = stopped.elapsed();
            Ok(figures)
        }
        Ok(failed @ Message::Failed(_)) => Err(unexpected(&failed).into()),
        Ok(other) => Err(End::Unknown(unexpected(&other))),
        Err(failure) => Err(End::Unknown(failure)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Zero {
    Skip,
    Send,
}

/// Sends these pages; how many were sent.
fn send_pages<L: Line>(
    source: &impl Source,
    link: &mut Link<L>,
    numbers: impl Iterator<Item = u32>,
    zero: Zero,
) -> Result<usize, Failure> {
    let mut sent = 0;
    let mut batch: Vec<Page> = Vec::new();
    for number in numbers {
        let mut content = Box::new([0; PAGE]);
        source.page(number, &mut content)?;
        let is_zero = content.iter().all(|byte| *byte == 0);
        if is_zero && zero == Zero::Skip {
            continue;
        }
        batch.push((number, (!is_zero).then_some(content)));
        sent += 1;
        if batch.len() == BATCH {
            say(link, &Message::Pages(std::mem::take(&mut batch)))?;
        }
    }
    if !batch.is_empty() {
        say(link, &Message::Pages(batch))?;
    }
    Ok(sent)
}
