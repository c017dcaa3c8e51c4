//! [`send`]: moves a VM to the other end, step by step. Until *run* is said its guest goes on here whatever happens; afterwards it never
//! does, unless the other end says that it did not and will not run it.

use std::time::{Duration, Instant};

use crate::link::{Link, LinkError, Transport};
use crate::migrate::{Failure, Source, receive_message, send_message, unexpected_message};
use crate::protocol::{MAX_PAGES_PER_MESSAGE, Message, PAGE, Page};

/// How a migration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The guest runs at the other end.
    Moved(MigrationStatistics),
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
pub struct MigrationStatistics {
    /// Pages that were sent while the guest ran, those sent again included.
    pub pages: usize,
    /// In how many rounds.
    pub rounds: usize,
    /// Pages that were sent while it was stopped.
    pub final_pages: usize,
    /// How long the guest stood still: from its stop to the other end's word that it runs.
    pub downtime: Duration,
}

/// When to stop the guest: so few pages are left, or that many rounds did not get there.
const MAX_FINAL_PAGES: usize = 16;
const MAX_ROUNDS: usize = 5;

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
pub fn send<L: Transport>(
    source: &mut impl Source,
    link: &mut Link<L>,
    mut tell: impl FnMut(Step<'_>),
) -> SendOutcome {
    match steps(source, link, &mut tell) {
        Ok(figures) => SendOutcome::Moved(figures),
        Err(SendError::Unknown(failure)) => SendOutcome::Unknown(failure),
        Err(SendError::Refused(reasons)) => match resume(source) {
            Ok(()) => SendOutcome::Refused(reasons),
            Err(second) => SendOutcome::Lost(Failure(reasons.join("; ")), second),
        },
        Err(SendError::Failed(failure)) => {
            // The other end waits for us, and should not have to wait for long. It may be gone.
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            match resume(source) {
                Ok(()) => SendOutcome::Failed(failure),
                Err(second) => SendOutcome::Lost(failure, second),
            }
        }
    }
}

/// Lets the guest go on here.
fn resume(source: &mut impl Source) -> Result<(), Failure> {
    // A guest that is watched on is slower, and no worse.
    let _ = source.stop_dirty_tracking();
    source.resume()
}

/// Why it did not come to the end.
enum SendError {
    Refused(Vec<String>),
    Failed(Failure),
    /// After *run*.
    Unknown(Failure),
}

impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn steps<L: Transport>(
    source: &mut impl Source,
    link: &mut Link<L>,
    tell: &mut impl FnMut(Step<'_>),
) -> Result<MigrationStatistics, SendError> {
    send_message(link, &Message::Hello(source.shape()))?;
    match receive_message(link)? {
        Message::Accepted => {}
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    // The guest stands still for as long as it takes to read its registers, and goes on while the other end makes up its mind.
    source.stop()?;
    let look = source
        .registers()
        .and_then(|vm| Ok(Message::Preflight(vm, source.devices()?)));
    source.resume()?;
    send_message(link, &look?)?;
    match receive_message(link)? {
        Message::Ready(noticeable) => tell(Step::Ready(&noticeable)),
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    let mut figures = MigrationStatistics::default();
    source.start_dirty_tracking()?;
    let count = u32::try_from(source.shape().memory / PAGE as u64);
    let count = count.map_err(|_| Failure("too much memory".into()))?;
    figures.rounds = 1;
    let pages = usize::try_from(count).unwrap_or(usize::MAX);
    tell(Step::PreCopy { round: 1, pages });
    // What is zero is zero over there, too.
    figures.pages += send_pages(source, link, 0..count, ZeroPages::Skip)?;
    let mut written = source.dirty_pages()?;
    while written.len() > MAX_FINAL_PAGES && figures.rounds < MAX_ROUNDS {
        figures.rounds += 1;
        tell(Step::PreCopy {
            round: figures.rounds,
            pages: written.len(),
        });
        figures.pages += send_pages(source, link, written.iter().copied(), ZeroPages::Send)?;
        written = source.dirty_pages()?;
    }

    source.stop()?;
    let stopped = Instant::now();
    // At once: a stopped guest's counters run on until they are read.
    let state = Message::State(source.registers()?, source.devices()?);
    // What was written after the last look at it, and up to the stop.
    written.extend(source.dirty_pages()?);
    written.sort_unstable();
    written.dedup();
    tell(Step::Stopped {
        pages: written.len(),
    });
    figures.final_pages = send_pages(source, link, written.iter().copied(), ZeroPages::Send)?;
    send_message(link, &state)?;
    match receive_message(link)? {
        Message::Loaded => {}
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    // From here on it is the other end's, even if saying so seems to fail: part of it may have got there.
    match link.send(&Message::Run.encode()) {
        Ok(()) | Err(LinkError::Interrupted) => {}
        Err(error) => return Err(SendError::Unknown(error.into())),
    }
    match receive_message(link) {
        Ok(Message::Running) => {
            figures.downtime = stopped.elapsed();
            Ok(figures)
        }
        Ok(failed @ Message::Failed(_)) => Err(unexpected_message(&failed).into()),
        Ok(other) => Err(SendError::Unknown(unexpected_message(&other))),
        Err(failure) => Err(SendError::Unknown(failure)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ZeroPages {
    Skip,
    Send,
}

/// Sends these pages; how many were sent.
fn send_pages<L: Transport>(
    source: &impl Source,
    link: &mut Link<L>,
    numbers: impl Iterator<Item = u32>,
    zero: ZeroPages,
) -> Result<usize, Failure> {
    let mut sent = 0;
    let mut batch: Vec<Page> = Vec::new();
    for number in numbers {
        let mut content = Box::new([0; PAGE]);
        source.page(number, &mut content)?;
        let is_zero = content.iter().all(|byte| *byte == 0);
        if is_zero && zero == ZeroPages::Skip {
            continue;
        }
        batch.push((number, (!is_zero).then_some(content)));
        sent += 1;
        if batch.len() == MAX_PAGES_PER_MESSAGE {
            send_message(link, &Message::Pages(std::mem::take(&mut batch)))?;
        }
    }
    if !batch.is_empty() {
        send_message(link, &Message::Pages(batch))?;
    }
    Ok(sent)
}
