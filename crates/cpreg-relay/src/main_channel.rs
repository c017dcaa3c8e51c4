//! Main channel from the source to the destination. The relay forwards RAM at once, buffers the
//! device state until the decision, and forwards the rest unparsed. With [`crate::early_vcpus`], it
//! sends the vCPUs before it has received the rest of the device state.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::byte_counts::ByteCounts;
use crate::early_vcpus::{EarlyBytes, EarlyVcpus};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::io::cancel::CancelToken;
use crate::io::connection::{Reader, Writer};
use crate::io::splice::{CopySide, splice_all};
use crate::policy::{Decision, MigrationPolicy};
use crate::progress::{DeviceStateEvent, DeviceStateProgress};
use cpreg_stream::VMDESCRIPTION;
use cpreg_stream::incremental::{DeviceStateBuffer, IncrementalParser, Phase, StreamSetup};
use cpreg_stream::{Edit, Stream};

/// Size of the read buffer in bytes; the data stays in the CPU cache until it is written.
const READ_BUFFER_LEN: usize = 256 << 10;
/// Maximum size in bytes of a read within the device state, about two vCPUs. The relay thus
/// converts the first vCPUs while it receives the others.
const DEVICE_STATE_CHUNK_LEN: usize = 16 << 10;
/// Interval without data after which the relay tries to parse the buffered device state. Only a
/// description marks the end of a stream.
const IDLE_PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Time without data after which incomplete device state is an error. Before that, more of it may
/// follow.
const INCOMPLETE_STATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reason why the main channel ended early.
#[derive(Debug)]
pub(super) enum StopReason {
    /// The policy rejected the VM.
    Refused,
    /// The relay could not read, write or parse data.
    Failed(Error),
    /// The connection to the source broke after the destination had received all device state. The
    /// relay has closed its direction to the destination.
    SourceLost(Error),
    /// The user cancelled.
    Cancelled,
}

impl From<Error> for StopReason {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<cpreg_stream::Error> for StopReason {
    fn from(error: cpreg_stream::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Main channel from the source to the destination.
pub(super) struct MainChannel<'f> {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) policy: &'f mut dyn MigrationPolicy,
    pub(super) observer: &'f dyn Observer,
    /// Numbers of bytes of all channels.
    pub(super) byte_counts: &'f ByteCounts<'f>,
    pub(super) state: MainChannelState,
    /// Timeout without a byte from the source before its RAM begins.
    pub(super) setup_timeout: Duration,
}

/// Progress of the main channel.
#[derive(Debug)]
pub(super) struct MainChannelState {
    pub(super) setup: Option<StreamSetup>,
    /// Number of bytes sent to the destination.
    pub(super) bytes_sent: u64,
    pub(super) phase: Phase,
    pub(super) progress: DeviceStateProgress,
    /// `true` if the device state is the package of a postcopy migration.
    pub(super) is_package: bool,
}

impl Default for MainChannelState {
    fn default() -> Self {
        Self {
            setup: None,
            bytes_sent: 0,
            phase: Phase::Header,
            progress: DeviceStateProgress::NotStarted,
            is_package: false,
        }
    }
}

impl MainChannelState {
    /// Applies an event of the device state.
    pub(super) fn apply(&mut self, event: DeviceStateEvent) {
        self.progress = self.progress.transition(event);
    }
}

/// Bytes that the relay has read but neither forwarded nor moved to the device state.
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl MainChannel<'_> {
    /// Forwards the stream until the source sends no more.
    ///
    /// Cancelling `user` has an effect until all device state has been received; cancelling
    /// `session` ends the channel at any time.
    pub(super) fn run(
        &mut self,
        user: &CancelToken,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        let mut parser = IncrementalParser::bidirectional();
        let mut buffer = Buffer {
            bytes: vec![0; READ_BUFFER_LEN],
            filled: 0,
        };
        let mut early_vcpus = EarlyVcpus::default();
        let (device_state, stream) =
            self.receive_device_state(&mut parser, &mut buffer, &mut early_vcpus, user)?;
        let received_at = Instant::now();
        self.state.apply(DeviceStateEvent::FullyReceived);
        self.state.is_package = stream.package().is_some();
        let is_described = stream.description().is_some();
        self.observer.on_event(&Event::DeviceStateReceived {
            bytes: device_state.length(),
            is_package: self.state.is_package,
        });
        let edit = match self.policy.on_device_state(&device_state, stream) {
            Decision::Forward(edit) => edit,
            Decision::Reject => return Err(StopReason::Refused),
        };
        let has_return_path = self
            .state
            .setup
            .as_ref()
            .is_some_and(|setup| setup.return_path);
        if has_return_path && self.writer.has_peer_ended() {
            // The destination must send an answer, so a closed return path means that it has
            // exited. The system might still accept bytes for it.
            return Err(write_error(Errno::PIPE.into()));
        }
        self.send_device_state(&device_state, &edit, &mut early_vcpus, received_at, session)?;
        if !self.state.is_package && !edit.is_identity() {
            self.expect_eof(&mut buffer, TrailingData::new(is_described), session)?;
        }
        let rest = &buffer.bytes[..buffer.filled];
        self.writer.write_all(rest, session).map_err(write_error)?;
        self.state.bytes_sent += rest.len() as u64;
        drop(buffer);
        // The source still sends the last RAM pages, a late description, or nothing.
        let counter = self.byte_counts.main_channel_counter();
        let result = splice_all(&mut self.reader, &mut self.writer, session, &counter);
        self.state.bytes_sent += match &result {
            Ok(copied) => *copied,
            Err(error) => error.copied,
        };
        result.map_err(|error| match error.side {
            CopySide::Input => self.finish_after_source_loss(error.error),
            CopySide::Output => write_error(error.error),
        })?;
        if self.writer.finish().is_err() {
            self.state.apply(DeviceStateEvent::DestinationClosed);
        }
        Ok(())
    }

    /// Closes the direction to the destination after the connection to the source broke. The
    /// destination, which has all device state, can then read the rest and answer.
    fn finish_after_source_loss(&mut self, error: Error) -> StopReason {
        let _ = self.writer.finish();
        match read_error(error) {
            StopReason::Failed(error) => StopReason::SourceLost(error),
            other => other,
        }
    }

    /// Forwards the data that may follow the description: zeros until the source closes, or a late
    /// description.
    ///
    /// Other data shows that the presumed end was not the end. A guest can put the bytes of an end
    /// into a device, and the source may pause right after these bytes. The relay has then edited
    /// data of the device by mistake. The destination still waits for the rest, which it must not
    /// receive.
    fn expect_eof(
        &mut self,
        buffer: &mut Buffer,
        mut trailing: TrailingData,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        loop {
            let rest = &buffer.bytes[..std::mem::take(&mut buffer.filled)];
            if !trailing.accept(rest) {
                self.state.apply(DeviceStateEvent::TrailingDataReceived);
                let message = "more data follows a complete stream: a device holds an imitation of \
                               the end of a stream";
                return Err(Error::stream(cpreg_stream::ErrorKind::Malformed, message)
                    .with_offset(self.state.bytes_sent)
                    .with_hint(
                        "migrate again. If that does not help, examine what the guest does with \
                         its devices",
                    )
                    .into());
            }
            self.writer.write_all(rest, session).map_err(write_error)?;
            self.state.bytes_sent += rest.len() as u64;
            let count = self.reader.read(&mut buffer.bytes, session);
            buffer.filled = count.map_err(|error| self.finish_after_source_loss(error))?;
            if buffer.filled == 0 {
                return Ok(());
            }
        }
    }

    /// Forwards the stream until the relay has received all of the device state.
    fn receive_device_state(
        &mut self,
        parser: &mut IncrementalParser,
        buffer: &mut Buffer,
        early_vcpus: &mut EarlyVcpus,
        user: &CancelToken,
    ) -> Result<(DeviceStateBuffer, Stream), StopReason> {
        let mut open_error: Option<cpreg_stream::Error> = None;
        let mut last_read_at = Instant::now();
        loop {
            if buffer.filled == buffer.bytes.len() {
                // A record in front of RAM is longer than the buffer; the parser limits its length.
                buffer.bytes.resize(2 * buffer.filled, 0);
            }
            let is_device_state = parser.phase() == Phase::DeviceState;
            let room = &mut buffer.bytes[buffer.filled..];
            let count = if is_device_state {
                let limit = room.len().min(DEVICE_STATE_CHUNK_LEN);
                let room = &mut room[..limit];
                let deadline = Instant::now() + IDLE_PROBE_INTERVAL;
                self.reader.read_with_deadline(room, deadline, user)
            } else if self.state.setup.is_none() {
                let deadline = Instant::now() + self.setup_timeout;
                self.reader.read_with_deadline(room, deadline, user)
            } else {
                self.reader.read(room, user).map(Some)
            };
            let count = count.map_err(read_error)?;
            let Some(count) = count else {
                if self.state.setup.is_none() {
                    return Err(Error::new(
                        ErrorKind::Connection,
                        "the source sends nothing after the beginning of a stream",
                    )
                    .into());
                }
                if last_read_at.elapsed() >= INCOMPLETE_STATE_TIMEOUT
                    && let Some(error) = open_error
                {
                    return Err(error.into());
                }
                if let Some(opened) = try_open(parser, &mut open_error, false) {
                    return Ok(opened);
                }
                continue;
            };
            last_read_at = Instant::now();
            buffer.filled += count;
            let is_last = count == 0;
            let consumed = parser.feed(&buffer.bytes[..buffer.filled], is_last)?;
            self.advance(parser)?;
            self.writer
                .write_all(&buffer.bytes[..consumed.forward], user)
                .map_err(write_error)?;
            self.state.bytes_sent += consumed.forward as u64;
            let consumed_len = consumed.forward + consumed.buffered;
            buffer.bytes.copy_within(consumed_len..buffer.filled, 0);
            buffer.filled -= consumed_len;
            if parser.phase() == Phase::DeviceState
                && let Some(early) = early_vcpus.poll(parser, last_read_at, self.policy)
            {
                self.send_early_vcpus(early, early_vcpus, user)?;
            }
            if (is_last || parser.looks_complete())
                && let Some(opened) = try_open(parser, &mut open_error, true)
            {
                return Ok(opened);
            }
            if parser.has_package()
                && parser.looks_complete()
                && let Some(error) = open_error.take()
            {
                // The package is complete and RAM follows it, so waiting does not help.
                return Err(error.into());
            }
            if is_last {
                let is_truncated = open_error
                    .as_ref()
                    .is_none_or(|error| error.kind() == cpreg_stream::ErrorKind::Truncated);
                if is_truncated && !parser.looks_complete() {
                    // The source has closed early, so its migration fails and it keeps the VM.
                    self.state.apply(DeviceStateEvent::Truncated);
                }
                let truncated =
                    || cpreg_stream::Error::truncated(parser.offset(), parser.offset(), 1);
                return Err(open_error.unwrap_or_else(truncated).into());
            }
        }
    }

    /// Reports progress, and asks the policy once if the migration may begin.
    fn advance(&mut self, parser: &IncrementalParser) -> Result<(), StopReason> {
        let state = &mut self.state;
        if state.setup.is_none()
            && let Some(setup) = parser.setup()
        {
            self.observer.on_event(&Event::Setup(&setup));
            let is_accepted = self.policy.on_setup(&setup);
            state.setup = Some(setup);
            if !is_accepted {
                return Err(StopReason::Refused);
            }
        }
        let (phase, bytes) = (parser.phase(), parser.offset());
        if phase != state.phase {
            state.phase = phase;
            if phase == Phase::DeviceState {
                state.apply(DeviceStateEvent::FirstByteReceived);
                state.is_package = parser.has_package();
            }
            self.observer.on_event(&Event::Phase { phase, bytes });
        }
        self.byte_counts.set_main_channel(phase, bytes);
        Ok(())
    }

    /// Sends the vCPUs, and the device state in front of them, before the decision about all.
    fn send_early_vcpus(
        &mut self,
        early: EarlyBytes,
        early_vcpus: &mut EarlyVcpus,
        user: &CancelToken,
    ) -> Result<(), StopReason> {
        let mut written = 0;
        let mut first_at = None;
        while let Some(rest) = early.bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let count = self.writer.write(rest, user).map_err(write_error)?;
            written += count;
            self.state.bytes_sent += count as u64;
            if first_at.is_none() && written > early.prefix_len {
                first_at = Some(Instant::now());
            }
        }
        early_vcpus.mark_sent(early, first_at.unwrap_or_else(Instant::now));
        Ok(())
    }

    /// Sends the device state as edited.
    fn send_device_state(
        &mut self,
        device_state: &DeviceStateBuffer,
        edit: &Edit,
        early_vcpus: &mut EarlyVcpus,
        received_at: Instant,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        self.state.apply(DeviceStateEvent::SendStarted);
        let mut writer = VerifyingWriter {
            writer: &mut self.writer,
            session,
            early_vcpus,
            bytes: 0,
            first_written_at: None,
            disagreement: None,
        };
        let result = device_state.write(edit, &mut writer);
        let (bytes, first_at) = (writer.bytes, writer.first_written_at);
        if let Some(error) = writer.disagreement {
            return Err(error.into());
        }
        let early_bytes = early_vcpus.sent_len() as u64;
        self.state.bytes_sent += bytes.saturating_sub(early_bytes);
        result?;
        if bytes < early_bytes {
            return Err(EarlyVcpus::disagreement().into());
        }
        self.state.apply(DeviceStateEvent::SendCompleted);
        let first_at = first_at.unwrap_or_else(Instant::now);
        early_vcpus.record_first_byte_sent(first_at);
        let added_downtime = early_vcpus.added_downtime();
        let added_downtime =
            added_downtime.unwrap_or_else(|| first_at.saturating_duration_since(received_at));
        self.observer.on_event(&Event::DeviceStateSent {
            bytes,
            early_bytes,
            added_downtime_us: u64::try_from(added_downtime.as_micros()).unwrap_or(u64::MAX),
        });
        Ok(())
    }
}

/// Data that may follow the end of a precopy stream.
struct TrailingData {
    /// Bytes received of the type and length of a late description; `None` if none may follow.
    header: Option<Vec<u8>>,
    /// Number of bytes of the late description's text not yet received.
    remaining: usize,
}

impl TrailingData {
    fn new(is_described: bool) -> Self {
        Self {
            header: (!is_described).then(Vec::new),
            remaining: 0,
        }
    }

    /// Returns `true` if `bytes` may follow the end: one description and zeros.
    fn accept(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| {
            if self.remaining > 0 {
                self.remaining -= 1;
                return true;
            }
            let Some(header) = &mut self.header else {
                return *byte == 0;
            };
            if header.is_empty() && *byte != VMDESCRIPTION {
                self.header = None;
                return *byte == 0;
            }
            header.push(*byte);
            if let [_, a, b, c, d] = header[..] {
                let length = u32::from_be_bytes([a, b, c, d]);
                self.remaining = usize::try_from(length).unwrap_or(usize::MAX);
                self.header = None;
            }
            true
        })
    }
}

/// Parses the buffered device state if it is complete. `has_end_mark` is `true` if the parser has
/// found the mark of its end, or the input has ended.
fn try_open(
    parser: &mut IncrementalParser,
    open_error: &mut Option<cpreg_stream::Error>,
    has_end_mark: bool,
) -> Option<(DeviceStateBuffer, Stream)> {
    let device_state = parser.take_device_state().ok()?;
    let error = match device_state.open_stream() {
        // Without an end mark, the stream must contain the run state, which QEMU sends after the
        // devices.
        Ok(stream) if has_end_mark || stream.run_state().is_some() => {
            return Some((device_state, stream));
        }
        Ok(_) => None,
        Err(error) => Some(error),
    };
    parser.restore_device_state(device_state);
    if let Some(error) = error {
        // If the end mark is present, the missing data will not arrive.
        let is_final =
            error.kind() != cpreg_stream::ErrorKind::Truncated || parser.looks_complete();
        *open_error = is_final.then_some(error);
    }
    None
}

fn read_error(error: Error) -> StopReason {
    stop_reason("cannot read from the source", error)
}

fn write_error(error: Error) -> StopReason {
    stop_reason("cannot write to the destination", error)
}

fn stop_reason(message: &'static str, error: Error) -> StopReason {
    if error.is_cancelled() {
        return StopReason::Cancelled;
    }
    let is_closed = error.is_closed();
    let error = Error::new(ErrorKind::Connection, message).with_source(error.into_io());
    StopReason::Failed(if is_closed {
        error.with_hint("look at the log of QEMU on that side")
    } else {
        error
    })
}

/// Writer of the decided device state, which skips the bytes sent early. It fails if the decision
/// differs from them.
struct VerifyingWriter<'w> {
    writer: &'w mut Writer,
    session: &'w CancelToken,
    early_vcpus: &'w EarlyVcpus,
    /// Number of bytes of the device state written so far.
    bytes: u64,
    /// Time at which the first byte was written.
    first_written_at: Option<Instant>,
    disagreement: Option<Error>,
}

impl Write for VerifyingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let offset = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let already_sent = self.early_vcpus.check(offset, bytes).map_err(|error| {
            self.disagreement = Some(error);
            io::ErrorKind::InvalidData
        })?;
        self.writer
            .write_all(&bytes[already_sent..], self.session)
            .map_err(io::Error::other)?;
        self.first_written_at.get_or_insert_with(Instant::now);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
