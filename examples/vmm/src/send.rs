//! [`send`]: moves a VM to the other end, step by step.
//!
//! Until *run* is sent, the guest continues at the source after any failure. Afterwards it
//! continues only if the other end reports that it did not and will not run it.

use std::time::{Duration, Instant};

use crate::link::{Link, LinkError, Transport};
use crate::migrate::{Failure, Source, receive_message, send_message, unexpected_message};
use crate::protocol::{MAX_PAGES_PER_MESSAGE, Message, PAGE, Page};

/// Result of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// The guest runs at the other end.
    Moved(MigrationStatistics),
    /// The other end refused, before anything was touched. The guest continues at the source.
    Refused(Vec<String>),
    /// A step failed. The guest continues at the source.
    Failed(Failure),
    /// A step failed, and the guest could not be resumed.
    Lost(Failure, Failure),
    /// The VM was handed over and the other end did not report its state. The guest may run there,
    /// so it must not run here.
    Unknown(Failure),
}

/// Figures of a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MigrationStatistics {
    /// Number of pages sent while the guest ran, including pages sent again.
    pub pages: usize,
    /// Number of pre-copy rounds.
    pub rounds: usize,
    /// Number of pages sent while the guest was stopped.
    pub final_pages: usize,
    /// Time from the stop of the guest to the report that it runs at the other end.
    pub downtime: Duration,
}

/// Number of dirty pages at which the guest is stopped.
const MAX_FINAL_PAGES: usize = 16;
/// Number of pre-copy rounds after which the guest is stopped in any case.
const MAX_ROUNDS: usize = 5;

/// Progress of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The other end can run the guest. Lists the changes that the guest could notice.
    Ready(&'a [String]),
    /// A pre-copy round starts, while the guest runs. The first round skips zero pages.
    PreCopy {
        /// Number of the round, from 1.
        round: usize,
        /// Number of pages.
        pages: usize,
    },
    /// The guest is stopped while the remaining pages and all registers are sent.
    Stopped {
        /// Number of pages.
        pages: usize,
    },
}

/// Moves the VM, and reports each step before it starts.
pub fn send<L: Transport>(
    source: &mut impl Source,
    link: &mut Link<L>,
    mut on_step: impl FnMut(Step<'_>),
) -> SendOutcome {
    match steps(source, link, &mut on_step) {
        Ok(statistics) => SendOutcome::Moved(statistics),
        Err(SendError::Unknown(failure)) => SendOutcome::Unknown(failure),
        Err(SendError::Refused(reasons)) => match resume(source) {
            Ok(()) => SendOutcome::Refused(reasons),
            Err(second) => SendOutcome::Lost(Failure(reasons.join("; ")), second),
        },
        Err(SendError::Failed(failure)) => {
            // The other end waits for the next message. It may have exited.
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            match resume(source) {
                Ok(()) => SendOutcome::Failed(failure),
                Err(second) => SendOutcome::Lost(failure, second),
            }
        }
    }
}

/// Resumes the guest at the source.
fn resume(source: &mut impl Source) -> Result<(), Failure> {
    // A guest with dirty page tracking is slower, but not wrong.
    let _ = source.stop_dirty_tracking();
    source.resume()
}

/// Reason for an incomplete migration.
enum SendError {
    Refused(Vec<String>),
    Failed(Failure),
    /// A failure after *run*.
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
    on_step: &mut impl FnMut(Step<'_>),
) -> Result<MigrationStatistics, SendError> {
    send_message(link, &Message::Hello(source.shape()))?;
    match receive_message(link)? {
        Message::Accepted => {}
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    // The guest is stopped only while its registers are read. It runs while the other end decides.
    source.stop()?;
    let preflight = source
        .registers()
        .and_then(|vm| Ok(Message::Preflight(vm, source.devices()?)));
    source.resume()?;
    send_message(link, &preflight?)?;
    match receive_message(link)? {
        Message::Ready(noticeable) => on_step(Step::Ready(&noticeable)),
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    let mut statistics = MigrationStatistics::default();
    source.start_dirty_tracking()?;
    let count = u32::try_from(source.shape().memory / PAGE as u64);
    let count = count.map_err(|_| Failure("too much memory".into()))?;
    statistics.rounds = 1;
    let pages = usize::try_from(count).unwrap_or(usize::MAX);
    on_step(Step::PreCopy { round: 1, pages });
    // The memory of the other end is zero, so zero pages are skipped.
    statistics.pages += send_pages(source, link, 0..count, ZeroPages::Skip)?;
    let mut dirty = source.dirty_pages()?;
    while dirty.len() > MAX_FINAL_PAGES && statistics.rounds < MAX_ROUNDS {
        statistics.rounds += 1;
        on_step(Step::PreCopy {
            round: statistics.rounds,
            pages: dirty.len(),
        });
        statistics.pages += send_pages(source, link, dirty.iter().copied(), ZeroPages::Send)?;
        dirty = source.dirty_pages()?;
    }

    source.stop()?;
    let stopped = Instant::now();
    // The state is read at once, because the counters of a stopped guest continue until read.
    let state = Message::State(source.registers()?, source.devices()?);
    // Pages written after the last query and before the stop.
    dirty.extend(source.dirty_pages()?);
    dirty.sort_unstable();
    dirty.dedup();
    on_step(Step::Stopped { pages: dirty.len() });
    statistics.final_pages = send_pages(source, link, dirty.iter().copied(), ZeroPages::Send)?;
    send_message(link, &state)?;
    match receive_message(link)? {
        Message::Loaded => {}
        Message::Refused(reasons) => return Err(SendError::Refused(reasons)),
        other => return Err(unexpected_message(&other).into()),
    }

    // From here on the other end owns the guest, even if sending seems to fail. Part of the message
    // may have arrived.
    match link.send(&Message::Run.encode()) {
        Ok(()) | Err(LinkError::Interrupted) => {}
        Err(error) => return Err(SendError::Unknown(error.into())),
    }
    match receive_message(link) {
        Ok(Message::Running) => {
            statistics.downtime = stopped.elapsed();
            Ok(statistics)
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

/// Sends these pages and returns their number.
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
