//! [`ByteCounts`]: numbers of forwarded bytes of all channels, with the events about them.
//!
//! With multifd or postcopy, most of RAM does not use the main channel. So each channel reports
//! progress, not only the main channel.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use cpreg_stream::incremental::Phase;

use crate::event::{Event, Observer};
use crate::io::splice::ByteCounter;

/// Bytes of one kind of channel between two progress events.
const PROGRESS_INTERVAL_BYTES: u64 = 4 << 20;

/// Numbers of forwarded bytes of a migration. Several threads add to them at the same time.
pub(super) struct ByteCounts<'o> {
    observer: &'o dyn Observer,
    phase: Mutex<Phase>,
    main_channel: AtomicU64,
    other_channels: AtomicU64,
}

impl<'o> ByteCounts<'o> {
    pub(super) const fn new(observer: &'o dyn Observer) -> Self {
        Self {
            observer,
            phase: Mutex::new(Phase::Header),
            main_channel: AtomicU64::new(0),
            other_channels: AtomicU64::new(0),
        }
    }

    /// Returns the number of bytes received on the main channel.
    pub(super) fn main_channel(&self) -> u64 {
        self.main_channel.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes forwarded on the other channels.
    pub(super) fn other_channels(&self) -> u64 {
        self.other_channels.load(Ordering::Relaxed)
    }

    /// Sets the phase of the main channel and the number of bytes received on it.
    pub(super) fn set_main_channel(&self, phase: Phase, bytes: u64) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        let before = self.main_channel.swap(bytes, Ordering::Relaxed);
        self.report_interval(before, bytes);
    }

    /// Returns the counter of further bytes of the main channel.
    pub(super) const fn main_channel_counter(&self) -> Counter<'_> {
        Counter {
            counts: self,
            bytes: &self.main_channel,
        }
    }

    /// Returns the counter of bytes of the other channels.
    pub(super) const fn other_channel_counter(&self) -> Counter<'_> {
        Counter {
            counts: self,
            bytes: &self.other_channels,
        }
    }

    /// Reports progress if a number of bytes that grew from `before` to `after` reached the next
    /// interval.
    fn report_interval(&self, before: u64, after: u64) {
        if before / PROGRESS_INTERVAL_BYTES == after / PROGRESS_INTERVAL_BYTES {
            return;
        }
        let phase = *self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.observer.on_event(&Event::Progress {
            phase,
            bytes: self.main_channel(),
            other_channel_bytes: self.other_channels(),
        });
    }
}

/// Counter of the bytes of one kind of channel.
#[derive(Clone, Copy)]
pub(super) struct Counter<'c> {
    counts: &'c ByteCounts<'c>,
    bytes: &'c AtomicU64,
}

impl ByteCounter for Counter<'_> {
    fn add(&self, count: u64) {
        let before = self.bytes.fetch_add(count, Ordering::Relaxed);
        self.counts.report_interval(before, before + count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Progress events: phase, bytes of the main channel, bytes of the others.
    #[derive(Default)]
    struct Recorder(Mutex<Vec<(Phase, u64, u64)>>);

    impl Observer for Recorder {
        fn on_event(&self, event: &Event<'_>) {
            let Event::Progress {
                phase,
                bytes,
                other_channel_bytes,
            } = event
            else {
                panic!("{event:?}");
            };
            let mut events = self.0.lock().expect("no other thread panics");
            events.push((*phase, *bytes, *other_channel_bytes));
        }
    }

    impl Recorder {
        fn take(&self) -> Vec<(Phase, u64, u64)> {
            std::mem::take(&mut *self.0.lock().expect("no other thread panics"))
        }
    }

    #[test]
    fn every_channel_reports_progress() {
        const INTERVAL: u64 = PROGRESS_INTERVAL_BYTES;
        let recorder = Recorder::default();
        let counts = ByteCounts::new(&recorder);
        counts.set_main_channel(Phase::Ram, INTERVAL - 1);
        assert_eq!(recorder.take(), []);
        counts.set_main_channel(Phase::Ram, INTERVAL);
        assert_eq!(recorder.take(), [(Phase::Ram, INTERVAL, 0)]);

        // Multifd channels carry RAM while the main channel is silent.
        let counter = counts.other_channel_counter();
        counter.add(INTERVAL - 1);
        assert_eq!(recorder.take(), []);
        counter.add(1);
        counter.add(3 * INTERVAL);
        let expected = [INTERVAL, 4 * INTERVAL].map(|other| (Phase::Ram, INTERVAL, other));
        assert_eq!(recorder.take(), expected);
        assert_eq!(counts.other_channels(), 4 * INTERVAL);

        // After a switch to postcopy, the main channel is copied unparsed.
        counts.set_main_channel(Phase::DeviceState, INTERVAL + 7);
        counts.main_channel_counter().add(INTERVAL);
        let expected = [(Phase::DeviceState, 2 * INTERVAL + 7, 4 * INTERVAL)];
        assert_eq!(recorder.take(), expected);
    }
}
