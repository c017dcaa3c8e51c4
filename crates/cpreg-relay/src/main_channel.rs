//! The main channel from the source to the destination: what may pass passes, the device state
//! waits for a decision, what follows passes unseen. The vCPUs, which are decided about as they
//! come, go on before the rest of the device state: [`crate::early_vcpus`].

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

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

/// What is read at once: it stays in the processor's cache until it has been written.
const READ_BUFFER_LEN: usize = 256 << 10;
/// And where the device state comes: about two vCPUs, so that those that came are worked on while the others come.
const DEVICE_STATE_CHUNK_LEN: usize = 16 << 10;
/// A stream without description gives no sign of its end: when nothing has come for so long, it is tried whether it is complete.
const IDLE_PROBE_INTERVAL: Duration = Duration::from_millis(200);
/// Device state that cannot be read may be device state of which more comes. When nothing has come for so long, none does.
const INCOMPLETE_STATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Progress is told when so many bytes more have passed.
const PROGRESS_INTERVAL_BYTES: u64 = 4 << 20;

/// Why the main channel ended before the device state went on, or while it did.
#[derive(Debug)]
pub(super) enum StopReason {
    /// The judge decided so.
    Refused,
    /// Something cannot be read, written or understood.
    Failed(Error),
    /// The source has gone when the destination had all device state; the destination has been told that nothing more comes.
    SourceLost(Error),
    /// Somebody asked to end.
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

/// The main channel, from the source to the destination.
pub(super) struct MainChannel<'f> {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) policy: &'f mut dyn MigrationPolicy,
    pub(super) observer: &'f dyn Observer,
    /// Bytes of the other channels.
    pub(super) other_channel_bytes: &'f AtomicU64,
    pub(super) state: MainChannelState,
}

/// How far it has come.
#[derive(Debug)]
pub(super) struct MainChannelState {
    pub(super) setup: Option<StreamSetup>,
    /// So many bytes went to the destination.
    pub(super) bytes_sent: u64,
    pub(super) phase: Phase,
    pub(super) progress: DeviceStateProgress,
    /// The device state came as the package of a postcopy migration.
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
    /// Something happened to the device state.
    pub(super) fn apply(&mut self, happened: DeviceStateEvent) {
        self.progress = self.progress.transition(happened);
    }
}

/// Bytes that were read and have neither passed nor been held.
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl MainChannel<'_> {
    /// Carries everything up to where the source has nothing more to send.
    ///
    /// `user` may end it until all device state has come; `session` at any time.
    pub(super) fn run(
        &mut self,
        user: &CancelToken,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        let mut flow = IncrementalParser::bidirectional();
        let mut buffer = Buffer {
            bytes: vec![0; READ_BUFFER_LEN],
            filled: 0,
        };
        let mut ahead = EarlyVcpus::default();
        let (held, stream) = self.receive_device_state(&mut flow, &mut buffer, &mut ahead, user)?;
        let came_at = Instant::now();
        self.state.apply(DeviceStateEvent::FullyReceived);
        self.state.is_package = stream.package().is_some();
        let is_described = stream.description().is_some();
        self.observer.on_event(&Event::DeviceStateReceived {
            bytes: held.length(),
            is_package: self.state.is_package,
        });
        let edit = match self.policy.on_device_state(&held, stream) {
            Decision::Forward(edit) => edit,
            Decision::Reject => return Err(StopReason::Refused),
        };
        let answers = self.state.setup.as_ref().is_some_and(|it| it.return_path);
        if answers && self.writer.has_peer_ended() {
            // It would have to answer, so it is no more; the system might take bytes for it all the same.
            return Err(write_error(Errno::PIPE.into()));
        }
        self.send_device_state(&held, &edit, &mut ahead, came_at, session)?;
        if !self.state.is_package && !edit.is_identity() {
            self.expect_eof(&mut buffer, TrailingData::new(is_described), session)?;
        }
        let rest = &buffer.bytes[..buffer.filled];
        self.writer.write_all(rest, session).map_err(write_error)?;
        self.state.bytes_sent += rest.len() as u64;
        drop(buffer);
        let carried = AtomicU64::new(0);
        // What follows is RAM's last pages, a description that came late, or nothing.
        let result = splice_all(&mut self.reader, &mut self.writer, session, &carried);
        self.state.bytes_sent += carried.into_inner();
        result.map_err(|error| match error.side {
            CopySide::Input => self.finish_after_source_loss(error.error),
            CopySide::Output => write_error(error.error),
        })?;
        if self.writer.finish().is_err() {
            self.state.apply(DeviceStateEvent::DestinationClosed);
        }
        Ok(())
    }

    /// The source has died, or lost its connection, and the destination has all device state: it must not lose what it has not read yet, and
    /// may say what became of it.
    fn finish_after_source_loss(&mut self, error: Error) -> StopReason {
        let _ = self.writer.finish();
        match read_error(error) {
            StopReason::Failed(error) => StopReason::SourceLost(error),
            other => other,
        }
    }

    /// Nothing comes behind the description, or zeros, up to where the source closes; a description itself may come late.
    ///
    /// What does come was the end of the stream for everybody who saw so much of it, and it was not: a guest can put the rest of a
    /// stream into a device, and the source may pause just behind it. What went on was changed in places that are the device's own,
    /// and the destination, which waits for the rest, must not get it.
    fn expect_eof(
        &mut self,
        buffer: &mut Buffer,
        mut behind: TrailingData,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        loop {
            let rest = &buffer.bytes[..std::mem::take(&mut buffer.filled)];
            if !behind.accept(rest) {
                self.state.apply(DeviceStateEvent::TrailingDataReceived);
                let what = "more comes behind what was a whole stream: a device holds an imitation \
                 of the end of one";
                return Err(Error::stream(cpreg_stream::ErrorKind::Malformed, what)
                    .with_offset(self.state.bytes_sent)
                    .with_hint(
                        "migrate again; if that does not help, look at what the guest does \
                     with its devices",
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

    /// Up to where all of the device state has come.
    fn receive_device_state(
        &mut self,
        flow: &mut IncrementalParser,
        buffer: &mut Buffer,
        ahead: &mut EarlyVcpus,
        user: &CancelToken,
    ) -> Result<(DeviceStateBuffer, Stream), StopReason> {
        let mut trouble: Option<cpreg_stream::Error> = None;
        let mut newest = Instant::now();
        loop {
            if buffer.filled == buffer.bytes.len() {
                // Something long before the pages; how long it may be is the engine's to say.
                buffer.bytes.resize(2 * buffer.filled, 0);
            }
            let is_held = flow.phase() == Phase::DeviceState;
            let room = &mut buffer.bytes[buffer.filled..];
            let count = if is_held {
                let most = room.len().min(DEVICE_STATE_CHUNK_LEN);
                let room = &mut room[..most];
                let until = Instant::now() + IDLE_PROBE_INTERVAL;
                self.reader.read_with_deadline(room, until, user)
            } else {
                self.reader.read(room, user).map(Some)
            };
            let count = count.map_err(read_error)?;
            let Some(count) = count else {
                if newest.elapsed() >= INCOMPLETE_STATE_TIMEOUT
                    && let Some(error) = trouble
                {
                    return Err(error.into());
                }
                if let Some(found) = open(flow, &mut trouble, false) {
                    return Ok(found);
                }
                continue;
            };
            newest = Instant::now();
            buffer.filled += count;
            let last = count == 0;
            let taken = flow.feed(&buffer.bytes[..buffer.filled], last)?;
            self.advance(flow)?;
            self.writer
                .write_all(&buffer.bytes[..taken.forward], user)
                .map_err(write_error)?;
            self.state.bytes_sent += taken.forward as u64;
            let gone = taken.forward + taken.buffered;
            buffer.bytes.copy_within(gone..buffer.filled, 0);
            buffer.filled -= gone;
            if flow.phase() == Phase::DeviceState
                && let Some(early) = ahead.poll(flow, newest, self.policy)
            {
                self.send_early_vcpus(early, ahead, user)?;
            }
            if (last || flow.looks_complete())
                && let Some(found) = open(flow, &mut trouble, true)
            {
                return Ok(found);
            }
            if flow.has_package()
                && flow.looks_complete()
                && let Some(error) = trouble.take()
            {
                // It is whole, and RAM goes on behind it: nothing is worth waiting for.
                return Err(error.into());
            }
            if last {
                let is_cut = trouble
                    .as_ref()
                    .is_none_or(|error| error.kind() == cpreg_stream::ErrorKind::Truncated);
                if is_cut && !flow.looks_complete() {
                    // It has not sent all of it, and knows that.
                    self.state.apply(DeviceStateEvent::Truncated);
                }
                let cut = || cpreg_stream::Error::truncated(flow.offset(), flow.offset(), 1);
                return Err(trouble.unwrap_or_else(cut).into());
            }
        }
    }

    /// Tells how far it has come, and asks once whether it may begin.
    fn advance(&mut self, flow: &IncrementalParser) -> Result<(), StopReason> {
        let state = &mut self.state;
        if state.setup.is_none()
            && let Some(outline) = flow.setup()
        {
            self.observer.on_event(&Event::Setup(&outline));
            let may_begin = self.policy.on_setup(&outline);
            state.setup = Some(outline);
            if !may_begin {
                return Err(StopReason::Refused);
            }
        }
        let (phase, bytes) = (flow.phase(), flow.offset());
        if phase != state.phase {
            state.phase = phase;
            if phase == Phase::DeviceState {
                state.apply(DeviceStateEvent::FirstByteReceived);
                state.is_package = flow.has_package();
            }
            self.observer.on_event(&Event::Phase { phase, bytes });
        }
        if bytes / PROGRESS_INTERVAL_BYTES != state.bytes_sent / PROGRESS_INTERVAL_BYTES {
            self.observer.on_event(&Event::Progress {
                phase,
                bytes,
                other_channel_bytes: self.other_channel_bytes.load(Ordering::Relaxed),
            });
        }
        Ok(())
    }

    /// The vCPUs, and what stands before them.
    fn send_early_vcpus(
        &mut self,
        early: EarlyBytes,
        ahead: &mut EarlyVcpus,
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
        ahead.mark_sent(early, first_at.unwrap_or_else(Instant::now));
        Ok(())
    }

    /// The device state, as the edit makes it.
    fn send_device_state(
        &mut self,
        held: &DeviceStateBuffer,
        edit: &Edit,
        ahead: &mut EarlyVcpus,
        came_at: Instant,
        session: &CancelToken,
    ) -> Result<(), StopReason> {
        self.state.apply(DeviceStateEvent::SendStarted);
        let mut to = VerifyingWriter {
            writer: &mut self.writer,
            session,
            early_vcpus: ahead,
            bytes: 0,
            first_written_at: None,
            disagreement: None,
        };
        let result = held.write(edit, &mut to);
        let (bytes, first_at) = (to.bytes, to.first_written_at);
        if let Some(error) = to.disagreement {
            return Err(error.into());
        }
        let early = ahead.sent_len() as u64;
        self.state.bytes_sent += bytes.saturating_sub(early);
        result?;
        if bytes < early {
            return Err(EarlyVcpus::disagreement().into());
        }
        self.state.apply(DeviceStateEvent::SendCompleted);
        let first_at = first_at.unwrap_or_else(Instant::now);
        ahead.record_first_byte_sent(first_at);
        let pause = ahead.added_downtime();
        let pause = pause.unwrap_or_else(|| first_at.saturating_duration_since(came_at));
        self.observer.on_event(&Event::DeviceStateSent {
            bytes,
            early_bytes: early,
            added_downtime_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
        });
        Ok(())
    }
}

/// What may stand behind the end of a precopy stream.
struct TrailingData {
    /// What has come of a late description's type and length; nothing if none may come.
    head: Option<Vec<u8>>,
    /// So many bytes of its text are missing.
    missing: usize,
}

impl TrailingData {
    fn new(is_described: bool) -> Self {
        Self {
            head: (!is_described).then(Vec::new),
            missing: 0,
        }
    }

    /// Whether these bytes may come next: one description, and zeros.
    fn accept(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| {
            if self.missing > 0 {
                self.missing -= 1;
                return true;
            }
            let Some(head) = &mut self.head else {
                return *byte == 0;
            };
            if head.is_empty() && *byte != VMDESCRIPTION {
                self.head = None;
                return *byte == 0;
            }
            head.push(*byte);
            if let [_, a, b, c, d] = head[..] {
                let length = u32::from_be_bytes([a, b, c, d]);
                self.missing = usize::try_from(length).unwrap_or(usize::MAX);
                self.head = None;
            }
            true
        })
    }
}

/// Opens what has been held, if it is all there. `is_sign`: it looks as if it were.
fn open(
    flow: &mut IncrementalParser,
    trouble: &mut Option<cpreg_stream::Error>,
    is_sign: bool,
) -> Option<(DeviceStateBuffer, Stream)> {
    let held = flow.take_device_state().ok()?;
    let error = match held.open_stream() {
        // Where nothing says that it is the end, the VM's run state must be there: QEMU sends it behind the devices.
        Ok(stream) if is_sign || stream.run_state().is_some() => return Some((held, stream)),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    flow.restore_device_state(held);
    if let Some(error) = error {
        // Where it looks like the end, what seems to be missing does not come.
        let is_trouble =
            error.kind() != cpreg_stream::ErrorKind::Truncated || flow.looks_complete();
        *trouble = is_trouble.then_some(error);
    }
    None
}

fn read_error(error: Error) -> StopReason {
    stop_reason("cannot read from the source", error)
}

fn write_error(error: Error) -> StopReason {
    stop_reason("cannot write to the destination", error)
}

fn stop_reason(what: &'static str, error: Error) -> StopReason {
    if error.is_cancelled() {
        return StopReason::Cancelled;
    }
    let is_closed = error.is_closed();
    let error = Error::new(ErrorKind::Connection, what).with_source(error.into_io());
    StopReason::Failed(if is_closed {
        error.with_hint("see what the QEMU there said, if it is still there")
    } else {
        error
    })
}

/// Writes what has not gone on, and compares what has.
struct VerifyingWriter<'w> {
    writer: &'w mut Writer,
    session: &'w CancelToken,
    early_vcpus: &'w EarlyVcpus,
    /// So many bytes of the device state have gone on.
    bytes: u64,
    /// When the first of them was written.
    first_written_at: Option<Instant>,
    disagreement: Option<Error>,
}

impl Write for VerifyingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let from = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let same = self.early_vcpus.check(from, bytes).map_err(|error| {
            self.disagreement = Some(error);
            io::ErrorKind::InvalidData
        })?;
        self.writer
            .write_all(&bytes[same..], self.session)
            .map_err(io::Error::other)?;
        self.first_written_at.get_or_insert_with(Instant::now);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
