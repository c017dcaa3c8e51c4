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

use crate::channel::{CPR_UNSUPPORTED, Channel, MAGIC_LEN};
use crate::connect::Connector;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::io::cancel::{CancelOnDrop, CancelToken};
use crate::io::connection::{Connection, Reader, ShutdownHandle, Writer};
use crate::io::splice::{CopyError, splice_all};
use crate::listen::Listener;
use crate::main_channel::{MainChannel, MainChannelState, StopReason};
use crate::policy::MigrationPolicy;
use crate::progress::{DeviceStateEvent, MainChannelEnd, ShutdownAction, shutdown_action};
use crate::return_path::ReturnPath;
use crate::vm_location::{VmLocation, locate_vm};
use cpreg_stream::incremental::StreamSetup;

/// How long a further connection may take to say what it is. Some say nothing.
const SECONDARY_IDENTIFY_TIMEOUT: Duration = Duration::from_millis(20);
/// How long the other channels may take to end when the main one has.
const CHANNEL_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same, when it has failed.
const CHANNEL_CLOSE_TIMEOUT_ON_ERROR: Duration = Duration::from_secs(3);
/// How long a source that was told of a failure gets to close by itself.
const SOURCE_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait until a connection is taken again when that failed.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What is thrown away at once.
const DRAIN_BUFFER_LEN: usize = 64 << 10;

/// Why a second main channel is turned away.
const MIGRATION_IN_PROGRESS: &str = "another migration is under way";

/// How a migration ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// The device state went on, and both sides closed.
    Completed,
    /// The judge refused it.
    Refused,
    /// An interrupted postcopy migration went on: nothing had to be decided.
    Recovered,
    /// Something could not be read, written or understood.
    Failed(Error),
    /// Somebody asked to end it before its device state had come.
    Cancelled,
}

/// A migration that has ended.
#[derive(Debug)]
pub struct MigrationResult {
    /// How.
    pub outcome: MigrationOutcome,
    /// Where the VM is, as far as the relay can tell.
    pub vm_location: VmLocation,
    /// Whether device state went on, all of it or some.
    pub device_state_sent: bool,
    /// What stood before RAM, if it came.
    pub setup: Option<StreamSetup>,
    /// So many bytes of the main channel went to the destination.
    pub main_channel_bytes: u64,
    /// So many bytes of the other channels, both ways.
    pub other_channel_bytes: u64,
}

/// What all channels of a migration share.
pub(super) struct Session<'s> {
    pub(super) listener: &'s Listener,
    pub(super) destination: &'s Connector,
    pub(super) observer: &'s dyn Observer,
    /// Ends everything.
    pub(super) cancel: CancelToken,
    /// So many connections have come.
    pub(super) connections: AtomicUsize,
    /// Bytes of the other channels.
    pub(super) other_channel_bytes: AtomicU64,
    /// Other channels that have not ended.
    open_channels: AtomicUsize,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        listener: &'s Listener,
        destination: &'s Connector,
        observer: &'s dyn Observer,
    ) -> Result<Self, Error> {
        Ok(Self {
            listener,
            destination,
            observer,
            cancel: CancelToken::new()
                .map_err(|error| Error::io("cannot prepare to end a migration", error))?,
            connections: AtomicUsize::new(0),
            other_channel_bytes: AtomicU64::new(0),
            open_channels: AtomicUsize::new(0),
        })
    }

    /// Tells of a connection.
    pub(super) fn report_connected(&self, channel: Channel) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer
            .on_event(&Event::Connected { channel, number });
    }

    /// Carries a migration whose main channel has come, and `others` before it.
    pub(super) fn run(
        &self,
        channel: Channel,
        source: Connection,
        destination: Connection,
        others: Vec<Connection>,
        judge: &mut dyn MigrationPolicy,
        user: &CancelToken,
    ) -> MigrationResult {
        thread::scope(|scope| {
            // Whatever happens here, no thread waits for ever.
            let _ends = CancelOnDrop(&self.cancel);
            scope.spawn(move || {
                for other in others {
                    self.add_channel(scope, Channel::Multifd, other);
                }
                self.accept(scope);
            });
            let mut ended = if channel == Channel::PostcopyRecovery {
                self.forward_postcopy_recovery(source, destination)
            } else {
                self.run_main_channel(scope, source, destination, judge, user)
            };
            // Also when it failed: both QEMUs close them. QEMU 10.0 and 11.1 that lose all of them at once with the main one may wait for
            // their own threads for ever instead of ending.
            self.wait_for_others(match ended.outcome {
                MigrationOutcome::Completed | MigrationOutcome::Recovered => CHANNEL_CLOSE_TIMEOUT,
                _ => CHANNEL_CLOSE_TIMEOUT_ON_ERROR,
            });
            self.cancel.cancel();
            ended.other_channel_bytes = self.other_channel_bytes.load(Ordering::Relaxed);
            ended
        })
    }

    fn run_main_channel<'e>(
        &'e self,
        scope: &'e Scope<'e, '_>,
        source: Connection,
        destination: Connection,
        judge: &mut dyn MigrationPolicy,
        user: &CancelToken,
    ) -> MigrationResult {
        let cutters = [
            source.shutdown_handle.clone(),
            destination.shutdown_handle.clone(),
        ];
        let back = std::sync::Arc::new(ReturnPath::new(source.writer));
        let answers = scope.spawn({
            let (back, reader) = (back.clone(), destination.reader);
            move || back.run(reader, &self.cancel)
        });
        let mut forward = MainChannel {
            reader: source.reader,
            writer: destination.writer,
            policy: judge,
            observer: self.observer,
            other_channel_bytes: &self.other_channel_bytes,
            state: MainChannelState::default(),
        };
        let result = forward.run(user, &self.cancel);
        let (mut state, mut reader) = (forward.state, forward.reader);
        let answers_first = state.setup.as_ref().is_some_and(|it| it.return_path);
        // A source that waits for an answer does not close before it.
        let has_left = answers_first && state.progress.is_sent() && !back.is_shut_delivered();
        let end = match &result {
            Ok(()) => MainChannelEnd::Completed,
            Err(StopReason::SourceLost(_)) => MainChannelEnd::SourceLost,
            Err(StopReason::Refused | StopReason::Failed(_) | StopReason::Cancelled) => {
                MainChannelEnd::Stopped
            }
        };
        match shutdown_action(end, state.progress, answers_first, state.is_package) {
            ShutdownAction::None => {}
            ShutdownAction::ShutdownSource => cutters[0].shutdown(),
            ShutdownAction::ShutdownBoth => cutters.iter().for_each(ShutdownHandle::shutdown),
            ShutdownAction::SendShutError => {
                if back.send_shut_error() {
                    self.drain_until_closed(&mut reader);
                }
                cutters.iter().for_each(ShutdownHandle::shutdown);
            }
        }
        // The destination closes when it has loaded the VM, or has failed to.
        let heard = answers.join().unwrap_or(Ok(()));
        match back.shut() {
            Some(said) if state.progress.is_fully_written() => {
                state.apply(DeviceStateEvent::ReturnPathShut(said));
                self.observer.on_event(&Event::ReturnPathShut(said));
            }
            // It ended with something unread, or died.
            _ if heard.is_err_and(|error| error.is_closed()) => {
                state.apply(DeviceStateEvent::ReturnPathLost);
            }
            _ => {}
        }
        if has_left {
            // Whatever the destination said, the source has not heard it.
            state.apply(DeviceStateEvent::SourceClosed);
        }
        let whereabouts = locate_vm(state.setup.as_ref(), state.progress, state.is_package);
        let outcome = match result {
            Ok(()) => MigrationOutcome::Completed,
            Err(StopReason::Refused) => MigrationOutcome::Refused,
            Err(StopReason::Cancelled) => MigrationOutcome::Cancelled,
            Err(StopReason::Failed(error) | StopReason::SourceLost(error)) => {
                MigrationOutcome::Failed(error)
            }
        };
        if matches!(outcome, MigrationOutcome::Refused) {
            self.observer.on_event(&Event::Refused(whereabouts));
        }
        MigrationResult {
            outcome,
            vm_location: whereabouts,
            device_state_sent: state.progress.is_partly_or_fully_sent(),
            setup: state.setup,
            main_channel_bytes: state.bytes_sent,
            other_channel_bytes: self.other_channel_bytes.load(Ordering::Relaxed),
        }
    }

    /// The main channel of a migration whose device state went on long ago.
    fn forward_postcopy_recovery(
        &self,
        source: Connection,
        destination: Connection,
    ) -> MigrationResult {
        let passed = AtomicU64::new(0);
        let result = self.forward_both_ways(source, destination, &passed, &passed);
        MigrationResult {
            vm_location: match result {
                Ok(()) => VmLocation::DestinationUnconfirmed,
                Err(_) => VmLocation::Unknown,
            },
            outcome: match result {
                Ok(()) => MigrationOutcome::Recovered,
                Err(error) => MigrationOutcome::Failed(Error::new(
                    ErrorKind::Connection,
                    format!("the stream was not passed on to its end: {error}"),
                )),
            },
            device_state_sent: true,
            setup: None,
            main_channel_bytes: passed.into_inner(),
            other_channel_bytes: self.other_channel_bytes.load(Ordering::Relaxed),
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
                    let soon = Instant::now() + ACCEPT_RETRY_DELAY;
                    if self.cancel.wait(Some(soon)).unwrap_or(true) {
                        return;
                    }
                    continue;
                }
            };
            let until = Instant::now() + SECONDARY_IDENTIFY_TIMEOUT;
            let first = connection
                .reader
                .peek(MAGIC_LEN, Some(until), &self.cancel)
                .unwrap_or_default();
            let channel = Channel::identify(first).unwrap_or(Channel::Other);
            let why = match channel {
                Channel::Main | Channel::PostcopyRecovery => MIGRATION_IN_PROGRESS,
                Channel::Cpr => CPR_UNSUPPORTED,
                _ => {
                    self.add_channel(scope, channel, connection);
                    continue;
                }
            };
            self.reject(channel, &connection, why);
        }
    }

    /// Closes a connection that has no place here.
    pub(super) fn reject(&self, channel: Channel, connection: &Connection, why: &str) {
        connection.shutdown_handle.shutdown();
        self.observer.on_event(&Event::ConnectionRejected {
            channel,
            reason: why,
        });
    }

    /// Connects one more channel, in the order in which they come: some are told apart by nothing else.
    fn add_channel<'e>(&'e self, scope: &'e Scope<'e, '_>, channel: Channel, source: Connection) {
        let destination = match self.destination.connect(&self.cancel) {
            Ok(destination) => destination,
            Err(error) => return self.reject(channel, &source, &error.to_string_with_hint()),
        };
        self.report_connected(channel);
        self.open_channels.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move || {
            // How it ends both sides see; what becomes of the migration the main channel tells.
            let _ = self.forward_channel(source, destination);
            self.open_channels.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// A channel beside the main one. What it is may be told late: it is looked at once more when its first bytes come.
    fn forward_channel(
        &self,
        mut source: Connection,
        destination: Connection,
    ) -> Result<(), CopyError> {
        let cutters = [
            source.shutdown_handle.clone(),
            destination.shutdown_handle.clone(),
        ];
        thread::scope(|scope| {
            let answers = scope.spawn({
                let (reader, writer) = (destination.reader, source.writer);
                let cutters = &cutters;
                move || self.forward_one_way(reader, writer, &self.other_channel_bytes, cutters)
            });
            let first = source.reader.peek(MAGIC_LEN, None, &self.cancel);
            let channel = first.ok().and_then(Channel::identify);
            let why = match channel {
                Some(Channel::Main | Channel::PostcopyRecovery) => Some(MIGRATION_IN_PROGRESS),
                Some(Channel::Cpr) => Some(CPR_UNSUPPORTED),
                _ => None,
            };
            if let (Some(channel), Some(why)) = (channel, why) {
                cutters.iter().for_each(ShutdownHandle::shutdown);
                self.observer.on_event(&Event::ConnectionRejected {
                    channel,
                    reason: why,
                });
            }
            let result = self.forward_one_way(
                source.reader,
                destination.writer,
                &self.other_channel_bytes,
                &cutters,
            );
            result.and(answers.join().unwrap_or(Ok(())))
        })
    }

    /// Carries bytes that nobody looks at, one way, until that ends.
    fn forward_one_way(
        &self,
        mut reader: Reader,
        mut writer: Writer,
        bytes: &AtomicU64,
        cutters: &[ShutdownHandle; 2],
    ) -> Result<(), CopyError> {
        let result = splice_all(&mut reader, &mut writer, &self.cancel, bytes);
        if result.is_ok() {
            let _ = writer.finish();
        } else {
            // Whoever sends what nobody takes must hear of it.
            cutters.iter().for_each(ShutdownHandle::shutdown);
        }
        result.map(drop)
    }

    /// Carries bytes that nobody looks at, both ways, until both ends have closed.
    fn forward_both_ways(
        &self,
        source: Connection,
        destination: Connection,
        there: &AtomicU64,
        back: &AtomicU64,
    ) -> Result<(), CopyError> {
        let cutters = [
            source.shutdown_handle.clone(),
            destination.shutdown_handle.clone(),
        ];
        thread::scope(|scope| {
            let answers = scope.spawn({
                let (reader, writer) = (destination.reader, source.writer);
                let cutters = &cutters;
                move || self.forward_one_way(reader, writer, back, cutters)
            });
            let result = self.forward_one_way(source.reader, destination.writer, there, &cutters);
            result.and(answers.join().unwrap_or(Ok(())))
        })
    }

    /// Lets a source that was told of a failure close first, and throws away what it still sends.
    ///
    /// QEMU 10.0 that has switched to postcopy lets its guest go on if it hears of the failure before a write fails, and stands still
    /// in `postcopy-paused` otherwise.
    fn drain_until_closed(&self, reader: &mut Reader) {
        let until = Instant::now() + SOURCE_CLOSE_TIMEOUT;
        let mut buffer = vec![0; DRAIN_BUFFER_LEN];
        while Instant::now() < until
            && let Ok(Some(1..)) = reader.read_with_deadline(&mut buffer, until, &self.cancel)
        {
        }
    }

    fn wait_for_others(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.open_channels.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
