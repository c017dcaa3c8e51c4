//! The main channel from the source to the destination: what may pass passes, the device state
//! waits for a decision, what follows passes unseen. The vCPUs, which are decided about as they
//! come, go on before the rest of the device state: [`crate::early_vcpus`].

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::early_vcpus::{Ahead, Early};
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::io::cancel::Cancel;
use crate::io::connection::{Reader, Writer};
use crate::io::splice::{Side, carry};
use crate::policy::{Judge, Judgement};
use crate::progress::{Came, Happened};
use cpreg_stream::VMDESCRIPTION;
use cpreg_stream::incremental::{Flow, Held, Outline, Phase};
use cpreg_stream::{Edit, Stream};

/// What is read at once: it stays in the processor's cache until it has been written.
const BUFFER: usize = 256 << 10;
/// And where the device state comes: about two vCPUs, so that those that came are worked on while the others come.
const PIECE: usize = 16 << 10;
/// A stream without description gives no sign of its end: when nothing has come for so long, it is tried whether it is complete.
const QUIET: Duration = Duration::from_millis(200);
/// Device state that cannot be read may be device state of which more comes. When nothing has come for so long, none does.
const ENOUGH: Duration = Duration::from_secs(10);
/// Progress is told when so many bytes more have passed.
const TOLD_EACH: u64 = 4 << 20;

/// Why the main channel ended before the device state went on, or while it did.
#[derive(Debug)]
pub(super) enum Stop {
    /// The judge decided so.
    Refused,
    /// Something cannot be read, written or understood.
    Broken(Error),
    /// The source has gone when the destination had all device state; the destination has been told that nothing more comes.
    SourceGone(Error),
    /// Somebody asked to end.
    Cancelled,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<cpreg_stream::Error> for Stop {
    fn from(error: cpreg_stream::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// The main channel, from the source to the destination.
pub(super) struct Forward<'f> {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) judge: &'f mut dyn Judge,
    pub(super) observer: &'f dyn Observer,
    /// Bytes of the other channels.
    pub(super) beside: &'f AtomicU64,
    pub(super) state: State,
}

/// How far it has come.
#[derive(Debug)]
pub(super) struct State {
    pub(super) outline: Option<Outline>,
    /// So many bytes went to the destination.
    pub(super) passed: u64,
    pub(super) phase: Phase,
    pub(super) came: Came,
    /// The device state came as the package of a postcopy migration.
    pub(super) is_package: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            outline: None,
            passed: 0,
            phase: Phase::Header,
            came: Came::NotYet,
            is_package: false,
        }
    }
}

impl State {
    /// Something happened to the device state.
    pub(super) fn happened(&mut self, happened: Happened) {
        self.came = self.came.after(happened);
    }
}

/// Bytes that were read and have neither passed nor been held.
struct Buffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl Forward<'_> {
    /// Carries everything up to where the source has nothing more to send.
    ///
    /// `user` may end it until all device state has come; `session` at any time.
    pub(super) fn run(&mut self, user: &Cancel, session: &Cancel) -> Result<(), Stop> {
        let mut flow = Flow::two_way();
        let mut buffer = Buffer {
            bytes: vec![0; BUFFER],
            filled: 0,
        };
        let mut ahead = Ahead::default();
        let (held, stream) = self.until_held(&mut flow, &mut buffer, &mut ahead, user)?;
        let came_at = Instant::now();
        self.state.happened(Happened::AllCame);
        self.state.is_package = stream.package().is_some();
        let is_described = stream.description().is_some();
        self.observer.hear(&Event::Held {
            bytes: held.length(),
            is_package: self.state.is_package,
        });
        let edit = match self.judge.judge(&held, stream) {
            Judgement::GoesOn(edit) => edit,
            Judgement::Refused => return Err(Stop::Refused),
        };
        let answers = self.state.outline.as_ref().is_some_and(|it| it.return_path);
        if answers && self.writer.other_has_ended() {
            // It would have to answer, so it is no more; the system might take bytes for it all the same.
            return Err(cannot_write(Errno::PIPE.into()));
        }
        self.go_on(&held, &edit, &mut ahead, came_at, session)?;
        if !self.state.is_package && !edit.is_identity() {
            self.until_closed(&mut buffer, Behind::new(is_described), session)?;
        }
        let rest = &buffer.bytes[..buffer.filled];
        self.writer.write_all(rest, session).map_err(cannot_write)?;
        self.state.passed += rest.len() as u64;
        drop(buffer);
        let carried = AtomicU64::new(0);
        // What follows is RAM's last pages, a description that came late, or nothing.
        let result = carry(&mut self.reader, &mut self.writer, session, &carried);
        self.state.passed += carried.into_inner();
        result.map_err(|error| match error.side {
            Side::Input => self.source_has_gone(error.error),
            Side::Output => cannot_write(error.error),
        })?;
        if self.writer.finish().is_err() {
            self.state.happened(Happened::NotTaken);
        }
        Ok(())
    }

    /// The source has died, or lost its connection, and the destination has all device state: it must not lose what it has not read yet, and
    /// may say what became of it.
    fn source_has_gone(&mut self, error: Error) -> Stop {
        let _ = self.writer.finish();
        match cannot_read(error) {
            Stop::Broken(error) => Stop::SourceGone(error),
            other => other,
        }
    }

    /// Nothing comes behind the description, or zeros, up to where the source closes; a description itself may come late.
    ///
    /// What does come was the end of the stream for everybody who saw so much of it, and it was not: a guest can put the rest of a
    /// stream into a device, and the source may pause just behind it. What went on was changed in places that are the device's own,
    /// and the destination, which waits for the rest, must not get it.
    fn until_closed(
        &mut self,
        buffer: &mut Buffer,
        mut behind: Behind,
        session: &Cancel,
    ) -> Result<(), Stop> {
        loop {
            let rest = &buffer.bytes[..std::mem::take(&mut buffer.filled)];
            if !behind.may_be(rest) {
                self.state.happened(Happened::MoreCame);
                let what = "more comes behind what was a whole stream: a device holds an imitation \
                 of the end of one";
                return Err(Error::of_stream(cpreg_stream::ErrorKind::Malformed, what)
                    .at(self.state.passed)
                    .with_hint(
                        "migrate again; if that does not help, look at what the guest does \
                     with its devices",
                    )
                    .into());
            }
            self.writer.write_all(rest, session).map_err(cannot_write)?;
            self.state.passed += rest.len() as u64;
            let count = self.reader.read(&mut buffer.bytes, session);
            buffer.filled = count.map_err(|error| self.source_has_gone(error))?;
            if buffer.filled == 0 {
                return Ok(());
            }
        }
    }

    /// Up to where all of the device state has come.
    fn until_held(
        &mut self,
        flow: &mut Flow,
        buffer: &mut Buffer,
        ahead: &mut Ahead,
        user: &Cancel,
    ) -> Result<(Held, Stream), Stop> {
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
                let most = room.len().min(PIECE);
                let room = &mut room[..most];
                let until = Instant::now() + QUIET;
                self.reader.read_until(room, until, user)
            } else {
                self.reader.read(room, user).map(Some)
            };
            let count = count.map_err(cannot_read)?;
            let Some(count) = count else {
                if newest.elapsed() >= ENOUGH
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
            let taken = flow.go_over(&buffer.bytes[..buffer.filled], last)?;
            self.look(flow)?;
            self.writer
                .write_all(&buffer.bytes[..taken.pass], user)
                .map_err(cannot_write)?;
            self.state.passed += taken.pass as u64;
            let gone = taken.pass + taken.held;
            buffer.bytes.copy_within(gone..buffer.filled, 0);
            buffer.filled -= gone;
            if flow.phase() == Phase::DeviceState
                && let Some(early) = ahead.look(flow, newest, self.judge)
            {
                self.go_ahead(early, ahead, user)?;
            }
            if (last || flow.may_be_complete())
                && let Some(found) = open(flow, &mut trouble, true)
            {
                return Ok(found);
            }
            if flow.holds_package()
                && flow.may_be_complete()
                && let Some(error) = trouble.take()
            {
                // It is whole, and RAM goes on behind it: nothing is worth waiting for.
                return Err(error.into());
            }
            if last {
                let is_cut = trouble
                    .as_ref()
                    .is_none_or(|error| error.kind() == cpreg_stream::ErrorKind::Truncated);
                if is_cut && !flow.may_be_complete() {
                    // It has not sent all of it, and knows that.
                    self.state.happened(Happened::CutShort);
                }
                let cut = || cpreg_stream::Error::truncated(flow.offset(), flow.offset(), 1);
                return Err(trouble.unwrap_or_else(cut).into());
            }
        }
    }

    /// Tells how far it has come, and asks once whether it may begin.
    fn look(&mut self, flow: &Flow) -> Result<(), Stop> {
        let state = &mut self.state;
        if state.outline.is_none()
            && let Some(outline) = flow.outline()
        {
            self.observer.hear(&Event::Outline(&outline));
            let may_begin = self.judge.may_begin(&outline);
            state.outline = Some(outline);
            if !may_begin {
                return Err(Stop::Refused);
            }
        }
        let (phase, bytes) = (flow.phase(), flow.offset());
        if phase != state.phase {
            state.phase = phase;
            if phase == Phase::DeviceState {
                state.happened(Happened::Begins);
                state.is_package = flow.holds_package();
            }
            self.observer.hear(&Event::Phase { phase, bytes });
        }
        if bytes / TOLD_EACH != state.passed / TOLD_EACH {
            self.observer.hear(&Event::Passed {
                phase,
                bytes,
                beside: self.beside.load(Ordering::Relaxed),
            });
        }
        Ok(())
    }

    /// The vCPUs, and what stands before them.
    fn go_ahead(&mut self, early: Early, ahead: &mut Ahead, user: &Cancel) -> Result<(), Stop> {
        let mut written = 0;
        let mut first_at = None;
        while let Some(rest) = early.bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let count = self.writer.write(rest, user).map_err(cannot_write)?;
            written += count;
            self.state.passed += count as u64;
            if first_at.is_none() && written > early.before {
                first_at = Some(Instant::now());
            }
        }
        ahead.went_on(early, first_at.unwrap_or_else(Instant::now));
        Ok(())
    }

    /// The device state, as the edit makes it.
    fn go_on(
        &mut self,
        held: &Held,
        edit: &Edit,
        ahead: &mut Ahead,
        came_at: Instant,
        session: &Cancel,
    ) -> Result<(), Stop> {
        self.state.happened(Happened::GoesOn);
        let mut to = Rest {
            writer: &mut self.writer,
            session,
            ahead,
            bytes: 0,
            first_at: None,
            disagreement: None,
        };
        let result = held.write(edit, &mut to);
        let (bytes, first_at) = (to.bytes, to.first_at);
        if let Some(error) = to.disagreement {
            return Err(error.into());
        }
        let early = ahead.sent() as u64;
        self.state.passed += bytes.saturating_sub(early);
        result?;
        if bytes < early {
            return Err(Ahead::disagreement().into());
        }
        self.state.happened(Happened::WentOn);
        let first_at = first_at.unwrap_or_else(Instant::now);
        ahead.first_byte_went_on(first_at);
        let pause = ahead.pause();
        let pause = pause.unwrap_or_else(|| first_at.saturating_duration_since(came_at));
        self.observer.hear(&Event::WentOn {
            bytes,
            early,
            microseconds: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
        });
        Ok(())
    }
}

/// What may stand behind the end of a precopy stream.
struct Behind {
    /// What has come of a late description's type and length; nothing if none may come.
    head: Option<Vec<u8>>,
    /// So many bytes of its text are missing.
    missing: usize,
}

impl Behind {
    fn new(is_described: bool) -> Self {
        Self {
            head: (!is_described).then(Vec::new),
            missing: 0,
        }
    }

    /// Whether these bytes may come next: one description, and zeros.
    fn may_be(&mut self, bytes: &[u8]) -> bool {
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
    flow: &mut Flow,
    trouble: &mut Option<cpreg_stream::Error>,
    is_sign: bool,
) -> Option<(Held, Stream)> {
    let held = flow.take_held().ok()?;
    let error = match held.stream() {
        // Where nothing says that it is the end, the VM's run state must be there: QEMU sends it behind the devices.
        Ok(stream) if is_sign || stream.run_state().is_some() => return Some((held, stream)),
        Ok(_) => None,
        Err(error) => Some(error),
    };
    flow.put_back(held);
    if let Some(error) = error {
        // Where it looks like the end, what seems to be missing does not come.
        let is_trouble =
            error.kind() != cpreg_stream::ErrorKind::Truncated || flow.may_be_complete();
        *trouble = is_trouble.then_some(error);
    }
    None
}

fn cannot_read(error: Error) -> Stop {
    stopped("cannot read from the source", error)
}

fn cannot_write(error: Error) -> Stop {
    stopped("cannot write to the destination", error)
}

fn stopped(what: &'static str, error: Error) -> Stop {
    if error.is_cancelled() {
        return Stop::Cancelled;
    }
    let is_closed = error.is_closed();
    let error = Error::new(ErrorKind::Connection, what).because(error.into_io());
    Stop::Broken(if is_closed {
        error.with_hint("see what the QEMU there said, if it is still there")
    } else {
        error
    })
}

/// Writes what has not gone on, and compares what has.
struct Rest<'w> {
    writer: &'w mut Writer,
    session: &'w Cancel,
    ahead: &'w Ahead,
    /// So many bytes of the device state have gone on.
    bytes: u64,
    /// When the first of them was written.
    first_at: Option<Instant>,
    disagreement: Option<Error>,
}

impl Write for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let from = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let same = self.ahead.check(from, bytes).map_err(|error| {
            self.disagreement = Some(error);
            io::ErrorKind::InvalidData
        })?;
        self.writer
            .write_all(&bytes[same..], self.session)
            .map_err(io::Error::other)?;
        self.first_at.get_or_insert_with(Instant::now);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
