//! [`EarlyVcpus`]: the vCPUs, which are decided about one by one as they come, and go on before the devices behind them have come.
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
use crate::policy::MigrationPolicy;
use cpreg_stream::incremental::{EarlyOutput, IncrementalParser, VcpuScanner};

/// The vCPUs on their way.
#[derive(Debug, Default)]
pub(super) struct EarlyVcpus {
    scanner: VcpuScanner,
    /// Their sections as they go on.
    output: EarlyOutput,
    state: EarlyVcpusState,
    /// When the last byte of the newest vCPU had been read.
    last_received_at: Option<Instant>,
    /// What went on.
    sent_bytes: Vec<u8>,
    /// From the last byte of the last vCPU to the first byte of the first one, which has been written.
    added_downtime: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EarlyVcpusState {
    #[default]
    Receiving,
    /// Nothing goes on early.
    Disabled,
    Sent,
}

/// What goes on early.
pub(super) struct EarlyBytes {
    pub(super) bytes: Vec<u8>,
    /// So many of them stand before the first vCPU.
    pub(super) prefix_len: usize,
}

impl EarlyVcpus {
    /// Looks at what the flow has held back; `read_at`: when the newest of it was read. Gives what goes on now.
    pub(super) fn poll(
        &mut self,
        flow: &IncrementalParser,
        read_at: Instant,
        judge: &mut dyn MigrationPolicy,
    ) -> Option<EarlyBytes> {
        let known = self.scanner.cpus().len();
        if self.state == EarlyVcpusState::Sent {
            return None;
        }
        self.scanner.scan(flow);
        let come = self.scanner.cpus();
        if come.len() > known {
            self.last_received_at = Some(read_at);
        }
        if self.state != EarlyVcpusState::Receiving {
            return None;
        }
        for cpu in &come[known..] {
            let changed = judge.on_vcpu(cpu);
            let result = changed.map(|changed| self.output.push(flow, &self.scanner, &changed));
            if !matches!(result, Some(Ok(()))) {
                self.state = EarlyVcpusState::Disabled;
                return None;
            }
        }
        if self.scanner.has_failed() {
            self.state = EarlyVcpusState::Disabled;
        }
        if !self.scanner.is_complete() {
            return None;
        }
        self.state = EarlyVcpusState::Disabled;
        if !judge.may_send_vcpus_early(self.scanner.sections()) {
            return None;
        }
        let changed = std::mem::take(&mut self.output);
        let (bytes, before) = changed.finish(&self.scanner).ok()?;
        Some(EarlyBytes {
            bytes,
            prefix_len: before,
        })
    }

    /// All of that was written, and the first byte of the first vCPU then.
    pub(super) fn mark_sent(&mut self, early: EarlyBytes, first_at: Instant) {
        self.state = EarlyVcpusState::Sent;
        self.scanner = VcpuScanner::default();
        self.sent_bytes = early.bytes;
        self.record_first_byte_sent(first_at);
    }

    /// When the first byte of a vCPU was written.
    pub(super) fn record_first_byte_sent(&mut self, at: Instant) {
        if let (None, Some(came_at)) = (self.added_downtime, self.last_received_at) {
            self.added_downtime = Some(at.saturating_duration_since(came_at));
        }
    }

    /// From the last byte of the last vCPU to the first byte of the first; nothing if the vCPUs were not told apart as they came.
    pub(super) fn added_downtime(&self) -> Option<Duration> {
        self.added_downtime
    }

    /// What went on early must be how the device state begins, as it was decided in the end.
    pub(super) fn check(&self, from: usize, decided: &[u8]) -> Result<usize, Error> {
        let sent = self.sent_bytes.get(from..).unwrap_or_default();
        let count = sent.len().min(decided.len());
        if sent[..count] == decided[..count] {
            return Ok(count);
        }
        Err(Self::disagreement())
    }

    /// What went on early is not how the device state begins.
    pub(super) fn disagreement() -> Error {
        Error::stream(
            cpreg_stream::ErrorKind::Disagreement,
            "the vCPUs went on as they came, and with the devices behind them they would be others",
        )
        .with_hint(
            "the destination cannot run the VM: the end was not sent; the stream is damaged, or \
             its guest tries to mislead",
        )
    }

    /// How many bytes went on early.
    pub(super) fn sent_len(&self) -> usize {
        self.sent_bytes.len()
    }
}
