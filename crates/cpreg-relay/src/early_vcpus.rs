//! [`Ahead`]: the vCPUs, which are decided about one by one as they come, and go on before the devices behind them have come.
//!
//! | when | what |
//! |---|---|
//! | a vCPU has come | the judge is asked what becomes of it |
//! | all have come | the judge is asked once more; their sections go on, and what stands before them |
//! | all device state has come | the judge decides about the whole; what went on must be how that begins, and the rest follows |
//!
//! So the pause between the last vCPU and the first byte that goes on is what is left to do for one vCPU. The end of the stream is
//! always held back until the whole has been decided about; without it no destination runs the VM. Where anything is not told early,
//! nothing goes on early.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::policy::Judge;
use cpreg_stream::incremental::{Changed, Flow, Vcpus};

/// The vCPUs on their way.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    vcpus: Vcpus,
    /// Their sections as they go on.
    changed: Changed,
    state: State,
    /// When the last byte of the newest vCPU had been read.
    came_at: Option<Instant>,
    /// What went on.
    sent: Vec<u8>,
    /// From the last byte of the last vCPU to the first byte of the first one, which has been written.
    pause: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Coming,
    /// Nothing goes on early.
    Held,
    Sent,
}

/// What goes on early.
pub(super) struct Early {
    pub(super) bytes: Vec<u8>,
    /// So many of them stand before the first vCPU.
    pub(super) before: usize,
}

impl Ahead {
    /// Looks at what the flow has held back; `read_at`: when the newest of it was read. Gives what goes on now.
    pub(super) fn look(
        &mut self,
        flow: &Flow,
        read_at: Instant,
        judge: &mut dyn Judge,
    ) -> Option<Early> {
        let known = self.vcpus.cpus().len();
        if self.state == State::Sent {
            return None;
        }
        self.vcpus.go_over(flow);
        let come = self.vcpus.cpus();
        if come.len() > known {
            self.came_at = Some(read_at);
        }
        if self.state != State::Coming {
            return None;
        }
        for cpu in &come[known..] {
            let changed = judge.vcpu(cpu);
            let result = changed.map(|changed| self.changed.push(flow, &self.vcpus, &changed));
            if !matches!(result, Some(Ok(()))) {
                self.state = State::Held;
                return None;
            }
        }
        if self.vcpus.are_given_up() {
            self.state = State::Held;
        }
        if !self.vcpus.are_all() {
            return None;
        }
        self.state = State::Held;
        if !judge.vcpus_may_go_on(self.vcpus.sections()) {
            return None;
        }
        let changed = std::mem::take(&mut self.changed);
        let (bytes, before) = changed.finish(&self.vcpus).ok()?;
        Some(Early { bytes, before })
    }

    /// All of that was written, and the first byte of the first vCPU then.
    pub(super) fn went_on(&mut self, early: Early, first_at: Instant) {
        self.state = State::Sent;
        self.vcpus = Vcpus::default();
        self.sent = early.bytes;
        self.first_byte_went_on(first_at);
    }

    /// When the first byte of a vCPU was written.
    pub(super) fn first_byte_went_on(&mut self, at: Instant) {
        if let (None, Some(came_at)) = (self.pause, self.came_at) {
            self.pause = Some(at.saturating_duration_since(came_at));
        }
    }

    /// From the last byte of the last vCPU to the first byte of the first; nothing if the vCPUs were not told apart as they came.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// What went on early must be how the device state begins, as it was decided in the end.
    pub(super) fn check(&self, from: usize, decided: &[u8]) -> Result<usize, Error> {
        let sent = self.sent.get(from..).unwrap_or_default();
        let count = sent.len().min(decided.len());
        if sent[..count] == decided[..count] {
            return Ok(count);
        }
        Err(Self::disagreement())
    }

    /// What went on early is not how the device state begins.
    pub(super) fn disagreement() -> Error {
        Error::of_stream(
            cpreg_stream::ErrorKind::Disagreement,
            "the vCPUs went on as they came, and with the devices behind them they would be others",
        )
        .with_hint(
            "the destination cannot run the VM: the end was not sent; the stream is damaged, or \
             its guest tries to mislead",
        )
    }

    /// How many bytes went on early.
    pub(super) fn sent(&self) -> usize {
        self.sent.len()
    }
}
