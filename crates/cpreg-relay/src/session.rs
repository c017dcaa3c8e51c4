//! One migration: its main channel both ways, the other channels beside it, and what is told to both sides when it does not go on.
//!
//! ```text
//! main channel, source to destination      how it ends (End), how far the device state came (Came)
//!        v
//! what both sides are told (Farewell)      nothing, failed, or by cutting
//!        v
//! return path, destination to source       its last word, or none: Came once more
//!        v
//! where the VM is (Whereabouts)
//! ```
//!
//! The states and what each event makes of them are in [`crate::progress`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::channel::{CPR, Channel, ENOUGH};
use crate::connect::Destination;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::io::cancel::{Cancel, CancelOnDrop};
use crate::io::connection::{Connection, Cutter, Reader, Writer};
use crate::io::splice::{CarryError, carry};
use crate::listen::Listener;
use crate::main_channel::{Forward, State, Stop};
use crate::policy::Judge;
use crate::progress::{End, Farewell, Happened, farewell};
use crate::return_path::Back;
use crate::vm_location::{Whereabouts, whereabouts};
use cpreg_stream::incremental::Outline;

/// How long a further connection may take to say what it is. Some say nothing.
const SAYS: Duration = Duration::from_millis(20);
/// How long the other channels may take to end when the main one has.
const BESIDE: Duration = Duration::from_secs(10);
/// The same, when it has failed.
const BESIDE_FAILED: Duration = Duration::from_secs(3);
/// How long a source that was told of a failure gets to close by itself.
const CLOSES: Duration = Duration::from_secs(3);

/// How long to wait until a connection is taken again when that failed.
const BREATH: Duration = Duration::from_millis(100);

/// What is thrown away at once.
const THROWN_AWAY: usize = 64 << 10;

/// Why a second main channel is turned away.
const UNDER_WAY: &str = "another migration is under way";

/// How a migration ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The device state went on, and both sides closed.
    WentOn,
    /// The judge refused it.
    Refused,
    /// An interrupted postcopy migration went on: nothing had to be decided.
    Carried,
    /// Something could not be read, written or understood.
    Broken(Error),
    /// Somebody asked to end it before its device state had come.
    Cancelled,
}

/// A migration that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Where the VM is, as far as the relay can tell.
    pub whereabouts: Whereabouts,
    /// Whether device state went on, all of it or some.
    pub device_state_went_on: bool,
    /// What stood before RAM, if it came.
    pub outline: Option<Outline>,
    /// So many bytes of the main channel went to the destination.
    pub passed: u64,
    /// So many bytes of the other channels, both ways.
    pub beside: u64,
}

/// What all channels of a migration share.
pub(super) struct Session<'s> {
    pub(super) listener: &'s Listener,
    pub(super) destination: &'s Destination,
    pub(super) observer: &'s dyn Observer,
    /// Ends everything.
    pub(super) cancel: Cancel,
    /// So many connections have come.
    pub(super) connections: AtomicUsize,
    /// Bytes of the other channels.
    pub(super) beside: AtomicU64,
    /// Other channels that have not ended.
    open: AtomicUsize,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        listener: &'s Listener,
        destination: &'s Destination,
        observer: &'s dyn Observer,
    ) -> Result<Self, Error> {
        Ok(Self {
            listener,
            destination,
            observer,
            cancel: Cancel::new()
                .map_err(|error| Error::io("cannot prepare to end a migration", error))?,
            connections: AtomicUsize::new(0),
            beside: AtomicU64::new(0),
            open: AtomicUsize::new(0),
        })
    }

    /// Tells of a connection.
    pub(super) fn connected(&self, channel: Channel) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.hear(&Event::Connected { channel, number });
    }

    /// Carries a migration whose main channel has come, and `others` before it.
    pub(super) fn run(
        &self,
        channel: Channel,
        source: Connection,
        destination: Connection,
        others: Vec<Connection>,
        judge: &mut dyn Judge,
        user: &Cancel,
    ) -> Ended {
        thread::scope(|scope| {
            // Whatever happens here, no thread waits for ever.
            let _ends = CancelOnDrop(&self.cancel);
            scope.spawn(move || {
                for other in others {
                    self.add(scope, Channel::Multifd, other);
                }
                self.accept(scope);
            });
            let mut ended = if channel == Channel::Recovered {
                self.recovered(source, destination)
            } else {
                self.main(scope, source, destination, judge, user)
            };
            // Also when it failed: both QEMUs close them. QEMU 10.0 and 11.1 that lose all of them at once with the main one may wait for
            // their own threads for ever instead of ending.
            self.wait_for_others(match ended.outcome {
                Outcome::WentOn | Outcome::Carried => BESIDE,
                _ => BESIDE_FAILED,
            });
            self.cancel.cancel();
            ended.beside = self.beside.load(Ordering::Relaxed);
            ended
        })
    }

    fn main<'e>(
        &'e self,
        scope: &'e Scope<'e, '_>,
        source: Connection,
        destination: Connection,
        judge: &mut dyn Judge,
        user: &Cancel,
    ) -> Ended {
        let cutters = [source.cutter.clone(), destination.cutter.clone()];
        let back = std::sync::Arc::new(Back::new(source.writer));
        let answers = scope.spawn({
            let (back, reader) = (back.clone(), destination.reader);
            move || back.run(reader, &self.cancel)
        });
        let mut forward = Forward {
            reader: source.reader,
            writer: destination.writer,
            judge,
            observer: self.observer,
            beside: &self.beside,
            state: State::default(),
        };
        let result = forward.run(user, &self.cancel);
        let (mut state, mut reader) = (forward.state, forward.reader);
        let answers_first = state.outline.as_ref().is_some_and(|it| it.return_path);
        // A source that waits for an answer does not close before it.
        let has_left = answers_first && state.came.is_through() && !back.is_told();
        let end = match &result {
            Ok(()) => End::WentOn,
            Err(Stop::SourceGone(_)) => End::SourceGone,
            Err(Stop::Refused | Stop::Broken(_) | Stop::Cancelled) => End::Stopped,
        };
        match farewell(end, state.came, answers_first, state.is_package) {
            Farewell::None => {}
            Farewell::CutSource => cutters[0].cut(),
            Farewell::CutBoth => cutters.iter().for_each(Cutter::cut),
            Farewell::SayFailed => {
                if back.say_failed() {
                    self.let_close(&mut reader);
                }
                cutters.iter().for_each(Cutter::cut);
            }
        }
        // The destination closes when it has loaded the VM, or has failed to.
        let heard = answers.join().unwrap_or(Ok(()));
        match back.shut() {
            Some(said) if state.came.was_handed_over() => {
                state.happened(Happened::Answered(said));
                self.observer.hear(&Event::Answered(said));
            }
            // It ended with something unread, or died.
            _ if heard.is_err_and(|error| error.is_closed()) => {
                state.happened(Happened::AnswerLost);
            }
            _ => {}
        }
        if has_left {
            // Whatever the destination said, the source has not heard it.
            state.happened(Happened::SourceLeft);
        }
        let whereabouts = whereabouts(state.outline.as_ref(), state.came, state.is_package);
        let outcome = match result {
            Ok(()) => Outcome::WentOn,
            Err(Stop::Refused) => Outcome::Refused,
            Err(Stop::Cancelled) => Outcome::Cancelled,
            Err(Stop::Broken(error) | Stop::SourceGone(error)) => Outcome::Broken(error),
        };
        if matches!(outcome, Outcome::Refused) {
            self.observer.hear(&Event::Refused(whereabouts));
        }
        Ended {
            outcome,
            whereabouts,
            device_state_went_on: state.came.went_on(),
            outline: state.outline,
            passed: state.passed,
            beside: self.beside.load(Ordering::Relaxed),
        }
    }

    /// The main channel of a migration whose device state went on long ago.
    fn recovered(&self, source: Connection, destination: Connection) -> Ended {
        let passed = AtomicU64::new(0);
        let result = self.both_ways(source, destination, &passed, &passed);
        Ended {
            whereabouts: match result {
                Ok(()) => Whereabouts::ProbablyDestination,
                Err(_) => Whereabouts::Unknown,
            },
            outcome: match result {
                Ok(()) => Outcome::Carried,
                Err(error) => Outcome::Broken(Error::new(
                    ErrorKind::Connection,
                    format!("the stream was not passed on to its end: {error}"),
                )),
            },
            device_state_went_on: true,
            outline: None,
            passed: passed.into_inner(),
            beside: self.beside.load(Ordering::Relaxed),
        }
    }

    /// Takes further connections until the migration ends.
    fn accept<'e>(&'e self, scope: &'e Scope<'e, '_>) {
        loop {
            let mut connection = match self.listener.accept(&self.cancel) {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(_) => {
                    // Mostly no descriptors are left, and those of ended channels will be.
                    let soon = Instant::now() + BREATH;
                    if self.cancel.wait(Some(soon)).unwrap_or(true) {
                        return;
                    }
                    continue;
                }
            };
            let until = Instant::now() + SAYS;
            let first = connection
                .reader
                .peek(ENOUGH, Some(until), &self.cancel)
                .unwrap_or_default();
            let channel = Channel::of(first).unwrap_or(Channel::Other);
            let why = match channel {
                Channel::Main | Channel::Recovered => UNDER_WAY,
                Channel::Cpr => CPR,
                _ => {
                    self.add(scope, channel, connection);
                    continue;
                }
            };
            self.turn_away(channel, &connection, why);
        }
    }

    /// Closes a connection that has no place here.
    pub(super) fn turn_away(&self, channel: Channel, connection: &Connection, why: &str) {
        connection.cutter.cut();
        self.observer.hear(&Event::TurnedAway { channel, why });
    }

    /// Connects one more channel, in the order in which they come: some are told apart by nothing else.
    fn add<'e>(&'e self, scope: &'e Scope<'e, '_>, channel: Channel, source: Connection) {
        let destination = match self.destination.connect(&self.cancel) {
            Ok(destination) => destination,
            Err(error) => return self.turn_away(channel, &source, &error.with_its_hint()),
        };
        self.connected(channel);
        self.open.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move || {
            // How it ends both sides see; what becomes of the migration the main channel tells.
            let _ = self.beside(source, destination);
            self.open.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// A channel beside the main one. What it is may be told late: it is looked at once more when its first bytes come.
    fn beside(&self, mut source: Connection, destination: Connection) -> Result<(), CarryError> {
        let cutters = [source.cutter.clone(), destination.cutter.clone()];
        thread::scope(|scope| {
            let answers = scope.spawn({
                let (reader, writer) = (destination.reader, source.writer);
                let cutters = &cutters;
                move || self.one_way(reader, writer, &self.beside, cutters)
            });
            let first = source.reader.peek(ENOUGH, None, &self.cancel);
            let channel = first.ok().and_then(Channel::of);
            let why = match channel {
                Some(Channel::Main | Channel::Recovered) => Some(UNDER_WAY),
                Some(Channel::Cpr) => Some(CPR),
                _ => None,
            };
            if let (Some(channel), Some(why)) = (channel, why) {
                cutters.iter().for_each(Cutter::cut);
                self.observer.hear(&Event::TurnedAway { channel, why });
            }
            let result = self.one_way(source.reader, destination.writer, &self.beside, &cutters);
            result.and(answers.join().unwrap_or(Ok(())))
        })
    }

    /// Carries bytes that nobody looks at, one way, until that ends.
    fn one_way(
        &self,
        mut reader: Reader,
        mut writer: Writer,
        bytes: &AtomicU64,
        cutters: &[Cutter; 2],
    ) -> Result<(), CarryError> {
        let result = carry(&mut reader, &mut writer, &self.cancel, bytes);
        if result.is_ok() {
            let _ = writer.finish();
        } else {
            // Whoever sends what nobody takes must hear of it.
            cutters.iter().for_each(Cutter::cut);
        }
        result.map(drop)
    }

    /// Carries bytes that nobody looks at, both ways, until both ends have closed.
    fn both_ways(
        &self,
        source: Connection,
        destination: Connection,
        there: &AtomicU64,
        back: &AtomicU64,
    ) -> Result<(), CarryError> {
        let cutters = [source.cutter.clone(), destination.cutter.clone()];
        thread::scope(|scope| {
            let answers = scope.spawn({
                let (reader, writer) = (destination.reader, source.writer);
                let cutters = &cutters;
                move || self.one_way(reader, writer, back, cutters)
            });
            let result = self.one_way(source.reader, destination.writer, there, &cutters);
            result.and(answers.join().unwrap_or(Ok(())))
        })
    }

    /// Lets a source that was told of a failure close first, and throws away what it still sends.
    ///
    /// QEMU 10.0 that has switched to postcopy lets its guest go on if it hears of the failure before a write fails, and stands still
    /// in `postcopy-paused` otherwise.
    fn let_close(&self, reader: &mut Reader) {
        let until = Instant::now() + CLOSES;
        let mut buffer = vec![0; THROWN_AWAY];
        while Instant::now() < until
            && let Ok(Some(1..)) = reader.read_until(&mut buffer, until, &self.cancel)
        {}
    }

    fn wait_for_others(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
