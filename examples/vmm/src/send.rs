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

/// Moves the VM. What the other end said that the guest could notice is handed to `notes` before the guest is moved.
pub fn send<L: Line>(
    source: &mut impl Source,
    link: &mut Link<L>,
    mut notes: impl FnMut(&[String]),
) -> Sent {
    match steps(source, link, &mut notes) {
        Ok(figures) => Sent::Moved(figures),
        Err(End::Unknown(failure)) => Sent::Unknown(failure),
        Err(End::Refused(reasons)) => match source.go_on() {
            Ok(()) => Sent::Refused(reasons),
            Err(second) => Sent::Lost(Failure(reasons.join("; ")), second),
        },
        Err(End::Failed(failure)) => {
            // The other end waits for us, and should not have to wait for long. It may be gone.
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            let unwatched = source.unwatch();
            match source.go_on().and(unwatched) {
                Ok(()) => Sent::Failed(failure),
                Err(second) => Sent::Lost(failure, second),
            }
        }
    }
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
    notes: &mut impl FnMut(&[String]),
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
        Message::Ready(noticeable) => notes(&noticeable),
        Message::Refused(reasons) => return Err(End::Refused(reasons)),
        other => return Err(unexpected(&other).into()),
    }

    let mut figures = Figures::default();
    source.watch()?;
    let count = u32::try_from(source.outline().memory / PAGE as u64);
    let count = count.map_err(|_| Failure("too much memory".into()))?;
    // What is zero is zero over there, too.
    figures.pages += send_pages(source, link, 0..count, Zero::Skip)?;
    figures.rounds = 1;
    let mut written = source.written()?;
    while written.len() > FEW && figures.rounds < MOST_ROUNDS {
        figures.pages += send_pages(source, link, written.iter().copied(), Zero::Send)?;
        figures.rounds += 1;
        written = source.written()?;
    }

    source.stop()?;
    let stopped = Instant::now();
    // What was written after the last look at it, and up to the stop.
    written.extend(source.written()?);
    written.sort_unstable();
    written.dedup();
    figures.last_pages = send_pages(source, link, written.iter().copied(), Zero::Send)?;
    let state = Message::State(source.registers()?, source.devices()?);
    say(link, &state)?;
    match hear(link)? {
        Message::Loaded => {}
        Message::Refused(reasons) => {
            source.unwatch()?;
            return Err(End::Refused(reasons));
        }
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
