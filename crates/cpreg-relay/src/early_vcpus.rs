//! [`EarlyVcpus`]: vCPUs that the relay sends before it has received the devices after them.
//!
//! - The policy receives the GICv3 in front of the vCPUs, because QEMU aborts on one that KVM
//!   refuses. If the relay cannot read the GICv3, it sends nothing early.
//! - After each vCPU, the policy decides how it is sent.
//! - After the last vCPU, the policy decides if the vCPUs may be sent early. If so, the relay sends
//!   their sections and the bytes in front of them.
//! - After all device state, the policy decides about the whole. The decided bytes must begin with
//!   those sent early; the relay then sends the rest.
//!
//! The pause between the last vCPU and the first byte sent is thus the work for one vCPU. The end
//! of the stream always waits for the decision about the whole, and no destination runs the VM
//! without the end. If the policy leaves one vCPU undecided, the relay sends nothing early.

use std::time::{Duration, Instant};

use crate::error::Error;
use crate::policy::MigrationPolicy;
use cpreg_stream::incremental::{EarlyOutput, IncrementalParser, VcpuScanner};

/// Progress of the early vCPUs of one migration.
#[derive(Debug, Default)]
pub(super) struct EarlyVcpus {
    scanner: VcpuScanner,
    /// Sections of the vCPUs as the relay sends them.
    output: EarlyOutput,
    state: EarlyVcpusState,
    /// Time at which the last byte of the newest vCPU was read.
    last_received_at: Option<Instant>,
    /// Bytes that the relay sent early.
    sent_bytes: Vec<u8>,
    /// Time from reading the last byte of the last vCPU to writing the first byte of the first.
    added_downtime: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EarlyVcpusState {
    #[default]
    Receiving,
    /// State in which the relay sends nothing early.
    Disabled,
    Sent,
}

/// Bytes for the relay to send early.
pub(super) struct EarlyBytes {
    pub(super) bytes: Vec<u8>,
    /// Number of bytes in front of the first vCPU.
    pub(super) prefix_len: usize,
}

impl EarlyVcpus {
    /// Scans the buffered device state and returns the bytes to send early. `read_at` is the time
    /// at which the relay read the newest of these buffered bytes.
    pub(super) fn poll(
        &mut self,
        parser: &IncrementalParser,
        read_at: Instant,
        policy: &mut dyn MigrationPolicy,
    ) -> Option<EarlyBytes> {
        let known_count = self.scanner.cpus().len();
        if self.state == EarlyVcpusState::Sent {
            return None;
        }
        self.scanner.scan(parser);
        let cpus = self.scanner.cpus();
        if cpus.len() > known_count {
            self.last_received_at = Some(read_at);
        }
        if self.state != EarlyVcpusState::Receiving {
            return None;
        }
        if known_count == 0 && !cpus.is_empty() {
            policy.on_hardware(self.scanner.hardware());
        }
        for cpu in &cpus[known_count..] {
            let converted = policy.on_vcpu(cpu);
            let result =
                converted.map(|converted| self.output.push(parser, &self.scanner, &converted));
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
        if !policy.may_send_vcpus_early(self.scanner.sections()) {
            return None;
        }
        let output = std::mem::take(&mut self.output);
        let (bytes, prefix_len) = output.finish(&self.scanner).ok()?;
        Some(EarlyBytes { bytes, prefix_len })
    }

    /// Records that the relay sent these bytes. `first_at` is the time at which it wrote the first
    /// byte of the first vCPU.
    pub(super) fn mark_sent(&mut self, early: EarlyBytes, first_at: Instant) {
        self.state = EarlyVcpusState::Sent;
        self.scanner = VcpuScanner::default();
        self.sent_bytes = early.bytes;
        self.record_first_byte_sent(first_at);
    }

    /// Records the time at which the first byte of a vCPU was written.
    pub(super) fn record_first_byte_sent(&mut self, at: Instant) {
        if let (None, Some(received_at)) = (self.added_downtime, self.last_received_at) {
            self.added_downtime = Some(at.saturating_duration_since(received_at));
        }
    }

    /// Returns the time from reading the last byte of the last vCPU to writing the first byte of
    /// the first. `None` if the relay did not recognise the vCPUs on arrival.
    pub(super) fn added_downtime(&self) -> Option<Duration> {
        self.added_downtime
    }

    /// Compares decided bytes at offset `from` with those sent early. Returns the number of bytes
    /// that the relay has already sent.
    ///
    /// # Errors
    /// If the decided bytes differ from those sent early.
    pub(super) fn check(&self, from: usize, decided: &[u8]) -> Result<usize, Error> {
        let sent = self.sent_bytes.get(from..).unwrap_or_default();
        let count = sent.len().min(decided.len());
        if sent[..count] == decided[..count] {
            return Ok(count);
        }
        Err(Self::disagreement())
    }

    /// Returns the error for device state that does not begin with the bytes sent early.
    pub(super) fn disagreement() -> Error {
        Error::stream(
            cpreg_stream::ErrorKind::Disagreement,
            "the vCPUs were sent early, and with the devices after them they would differ",
        )
        .with_hint(
            "the destination cannot run the VM, because the end of the stream was not sent. The \
             stream \
             is damaged, or the guest sends misleading data",
        )
    }

    /// Returns the number of bytes that the relay sent early.
    pub(super) fn sent_len(&self) -> usize {
        self.sent_bytes.len()
    }
}
