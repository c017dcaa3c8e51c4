//! One migration: its main channel both ways, its other channels, and the end of both connections.
//!
//! ```text
//! main channel, source to destination      MainChannelEnd, DeviceStateProgress
//!        v
//! end of both connections                  ShutdownAction: none, error SHUT, or shutdown
//!        v
//! return path, destination to source       SHUT value or none: DeviceStateProgress once more
//!        v
//! location of the VM                       VmLocation
//! ```
//!
//! [`crate::progress`] has the states and their transitions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use crate::byte_counts::ByteCounts;
use crate::channel::{CPR_UNSUPPORTED, Channel, MAGIC_LEN};
use crate::connect::Connector;
use crate::connection_source::ConnectionSource;
use crate::error::{Error, ErrorKind};
use crate::event::{Event, Observer};
use crate::io::cancel::{CancelOnDrop, CancelToken};
use crate::io::connection::{Connection, Reader, ShutdownHandle};
use crate::io::duplex::forward_both_ways;
use crate::io::splice::CopyError;
use crate::main_channel::{MainChannel, MainChannelState, StopReason};
use crate::policy::MigrationPolicy;
use crate::progress::{DeviceStateEvent, MainChannelEnd, ShutdownAction, shutdown_action};
use crate::return_path::ReturnPath;
use crate::vm_location::{VmLocation, locate_vm};
use cpreg_stream::incremental::{Phase, StreamSetup};

/// Timeout for a further connection to send the bytes that identify its channel. Some kinds send
/// none.
const SECONDARY_IDENTIFY_TIMEOUT: Duration = Duration::from_millis(20);
/// Timeout without a byte from the source before its RAM begins. QEMU sends this part at once.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for the other channels to close after the main channel has ended.
const CHANNEL_CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the other channels to close after the main channel has failed.
const CHANNEL_CLOSE_TIMEOUT_ON_ERROR: Duration = Duration::from_secs(3);
/// Timeout for a source to close its connection after the relay has notified it of a failure.
const SOURCE_CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Delay before the next attempt to accept a connection after a failed one.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Size of the buffer for discarded data.
const DRAIN_BUFFER_LEN: usize = 64 << 10;

/// Reason to reject a second main channel.
const MIGRATION_IN_PROGRESS: &str = "another migration is in progress";

/// Outcome of a migration.
#[derive(Debug)]
#[non_exhaustive]
pub enum MigrationOutcome {
    /// The relay sent the device state, and both sides closed their connections.
    Completed,
    /// The policy rejected the VM.
    Refused,
    /// An interrupted postcopy migration resumed; the relay forwarded it without a decision of the
    /// policy.
    Recovered,
    /// The relay could not read, write or parse data.
    Failed(Error),
    /// The user cancelled the migration before the relay had received its device state.
    Cancelled,
}

/// Result of a migration that has ended.
#[derive(Debug)]
pub struct MigrationResult {
    /// Outcome of the migration.
    pub outcome: MigrationOutcome,
    /// Location of the VM, as far as the relay knows.
    pub vm_location: VmLocation,
    /// `true` if the relay sent device state in part or whole.
    pub device_state_sent: bool,
    /// Data in front of RAM, if the relay received it.
    pub setup: Option<StreamSetup>,
    /// Number of bytes sent to the destination on the main channel.
    pub main_channel_bytes: u64,
    /// Number of bytes forwarded on the other channels, in both directions.
    pub other_channel_bytes: u64,
}

/// State shared by all channels of a migration.
pub(super) struct Session<'s> {
    pub(super) connections: &'s dyn ConnectionSource,
    pub(super) destination: &'s Connector,
    pub(super) observer: &'s dyn Observer,
    /// Token that cancels all channels.
    pub(super) cancel: CancelToken,
    /// Number of connections accepted so far.
    pub(super) connection_count: AtomicUsize,
    /// Numbers of bytes of all channels.
    pub(super) byte_counts: ByteCounts<'s>,
    /// Number of other channels that have not ended.
    open_channels: AtomicUsize,
    /// Timeout without a byte from the source before its RAM begins.
    setup_timeout: Duration,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        connections: &'s dyn ConnectionSource,
        destination: &'s Connector,
        observer: &'s dyn Observer,
    ) -> Result<Self, Error> {
        Ok(Self {
            connections,
            destination,
            observer,
            cancel: CancelToken::new().map_err(|error| {
                Error::io("cannot create the cancel token of a migration", error)
            })?,
            connection_count: AtomicUsize::new(0),
            byte_counts: ByteCounts::new(observer),
            open_channels: AtomicUsize::new(0),
            setup_timeout: SETUP_TIMEOUT,
        })
    }

    /// Sets the timeout without a byte from the source before its RAM begins.
    pub(super) const fn with_setup_timeout(mut self, timeout: Duration) -> Self {
        self.setup_timeout = timeout;
        self
    }

    /// Reports a new connection.
    pub(super) fn report_connected(&self, channel: Channel) {
        let number = self.connection_count.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer
            .on_event(&Event::Connected { channel, number });
    }

    /// Forwards a migration. `others` are the multifd channels that the relay accepted before the
    /// main channel.
    pub(super) fn run(
        &self,
        channel: Channel,
        source: Connection,
        destination: Connection,
        others: Vec<Connection>,
        policy: &mut dyn MigrationPolicy,
        user: &CancelToken,
    ) -> MigrationResult {
        thread::scope(|scope| {
            // Cancel all channels after a return or a panic, so that no thread waits for ever.
            let _cancel = CancelOnDrop(&self.cancel);
            scope.spawn(move || {
                for other in others {
                    self.add_channel(scope, Channel::Multifd, other);
                }
                self.accept(scope);
            });
            let mut result = if channel == Channel::PostcopyRecovery {
                self.forward_postcopy_recovery(source, destination)
            } else {
                self.run_main_channel(scope, source, destination, policy, user)
            };
            self.connections.end_migration();
            // Wait until both QEMUs have closed the other channels, even after a failure. QEMU 10.0
            // and 11.1 may hang for ever if they lose these channels together with the main
            // channel.
            self.wait_for_other_channels(match result.outcome {
                MigrationOutcome::Completed | MigrationOutcome::Recovered => CHANNEL_CLOSE_TIMEOUT,
                _ => CHANNEL_CLOSE_TIMEOUT_ON_ERROR,
            });
            self.cancel.cancel();
            result.other_channel_bytes = self.byte_counts.other_channels();
            result
        })
    }

    fn run_main_channel<'e>(
        &'e self,
        scope: &'e Scope<'e, '_>,
        source: Connection,
        destination: Connection,
        policy: &mut dyn MigrationPolicy,
        user: &CancelToken,
    ) -> MigrationResult {
        let shutdown_handles = [
            source.shutdown_handle.clone(),
            destination.shutdown_handle.clone(),
        ];
        let return_path = std::sync::Arc::new(ReturnPath::new(source.writer));
        let return_path_thread = scope.spawn({
            let (return_path, reader) = (return_path.clone(), destination.reader);
            move || return_path.run(reader, &self.cancel)
        });
        let mut main_channel = MainChannel {
            reader: source.reader,
            writer: destination.writer,
            policy,
            observer: self.observer,
            byte_counts: &self.byte_counts,
            state: MainChannelState::default(),
            setup_timeout: self.setup_timeout,
        };
        let result = main_channel.run(user, &self.cancel);
        let (mut state, mut reader) = (main_channel.state, main_channel.reader);
        let has_return_path = state.setup.as_ref().is_some_and(|setup| setup.return_path);
        // A source that waits for the SHUT closes the main channel only after it. If the main
        // channel ends without a delivered SHUT, the source has lost the answer.
        let lost_answer =
            has_return_path && state.progress.is_sent() && !return_path.is_shut_delivered();
        let end = match &result {
            Ok(()) => MainChannelEnd::Completed,
            Err(StopReason::SourceLost(_)) => MainChannelEnd::SourceLost,
            Err(StopReason::Refused | StopReason::Failed(_) | StopReason::Cancelled) => {
                MainChannelEnd::Stopped
            }
        };
        match shutdown_action(end, state.progress, has_return_path, state.is_package) {
            ShutdownAction::None => {}
            ShutdownAction::ShutdownSource => shutdown_handles[0].shutdown(),
            ShutdownAction::ShutdownBoth => {
                shutdown_handles.iter().for_each(ShutdownHandle::shutdown);
            }
            ShutdownAction::SendShutError => {
                if return_path.send_shut_error() {
                    self.drain_until_closed(&mut reader);
                }
                shutdown_handles.iter().for_each(ShutdownHandle::shutdown);
            }
        }
        // The destination closes its connection after a successful or failed load.
        let return_path_result = return_path_thread.join().unwrap_or(Ok(()));
        match return_path.shut() {
            Some(value) if state.progress.is_fully_written() => {
                state.apply(DeviceStateEvent::ReturnPathShut(value));
                self.observer.on_event(&Event::ReturnPathShut(value));
            }
            // The destination closed its connection with unread data, or died.
            _ if return_path_result.is_err_and(|error| error.is_closed()) => {
                state.apply(DeviceStateEvent::ReturnPathLost);
            }
            _ => {}
        }
        if lost_answer {
            // The source has not received the SHUT, whatever its value.
            state.apply(DeviceStateEvent::SourceClosed);
        }
        let vm_location = locate_vm(state.setup.as_ref(), state.progress, state.is_package);
        let outcome = match result {
            Ok(()) => MigrationOutcome::Completed,
            Err(StopReason::Refused) => MigrationOutcome::Refused,
            Err(StopReason::Cancelled) => MigrationOutcome::Cancelled,
            Err(StopReason::Failed(error) | StopReason::SourceLost(error)) => {
                MigrationOutcome::Failed(error)
            }
        };
        if matches!(outcome, MigrationOutcome::Refused) {
            self.observer.on_event(&Event::Refused(vm_location));
        }
        MigrationResult {
            outcome,
            vm_location,
            device_state_sent: state.progress.is_partly_or_fully_sent(),
            setup: state.setup,
            main_channel_bytes: state.bytes_sent,
            other_channel_bytes: self.byte_counts.other_channels(),
        }
    }

    /// Forwards the main channel of a resumed postcopy migration. An earlier connection has carried
    /// the device state.
    fn forward_postcopy_recovery(
        &self,
        source: Connection,
        destination: Connection,
    ) -> MigrationResult {
        // A resumed postcopy migration carries only pages of RAM.
        self.byte_counts.set_main_channel(Phase::Ram, 0);
        let counter = self.byte_counts.main_channel_counter();
        let result = forward_both_ways(source, destination, &self.cancel, &counter, |_, _| ());
        MigrationResult {
            vm_location: match result {
                Ok(()) => VmLocation::DestinationUnconfirmed,
                Err(_) => VmLocation::Unknown,
            },
            outcome: match result {
                Ok(()) => MigrationOutcome::Recovered,
                Err(error) => MigrationOutcome::Failed(Error::new(
                    ErrorKind::Connection,
                    format!("the stream was not forwarded to its end: {error}"),
                )),
            },
            device_state_sent: true,
            setup: None,
            main_channel_bytes: self.byte_counts.main_channel(),
            other_channel_bytes: self.byte_counts.other_channels(),
        }
    }

    /// Accepts further connections until the migration ends.
    fn accept<'e>(&'e self, scope: &'e Scope<'e, '_>) {
        loop {
            let mut connection = match self.connections.accept(&self.cancel) {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(_) => {
                    // Usually no descriptor is free; the end of a channel will free some.
                    let deadline = Instant::now() + ACCEPT_RETRY_DELAY;
                    if self.cancel.wait(Some(deadline)).unwrap_or(true) {
                        return;
                    }
                    continue;
                }
            };
            let deadline = Instant::now() + SECONDARY_IDENTIFY_TIMEOUT;
            let magic = connection
                .reader
                .peek(MAGIC_LEN, Some(deadline), &self.cancel)
                .unwrap_or_default();
            let channel = Channel::identify(magic).unwrap_or(Channel::Other);
            let reason = match channel {
                Channel::Main | Channel::PostcopyRecovery => MIGRATION_IN_PROGRESS,
                Channel::Cpr => CPR_UNSUPPORTED,
                _ => {
                    self.add_channel(scope, channel, connection);
                    continue;
                }
            };
            self.reject(channel, &connection, reason);
        }
    }

    /// Closes a connection that does not belong to this migration.
    pub(super) fn reject(&self, channel: Channel, connection: &Connection, reason: &str) {
        connection.shutdown_handle.shutdown();
        self.observer
            .on_event(&Event::ConnectionRejected { channel, reason });
    }

    /// Connects one more channel. The relay keeps the order of connections, because the order
    /// identifies some channels.
    fn add_channel<'e>(&'e self, scope: &'e Scope<'e, '_>, channel: Channel, source: Connection) {
        let destination = match self.destination.connect(&self.cancel) {
            Ok(destination) => destination,
            Err(error) => return self.reject(channel, &source, &error.to_string_with_hint()),
        };
        self.report_connected(channel);
        self.open_channels.fetch_add(1, Ordering::Relaxed);
        scope.spawn(move || {
            // Both sides see the end of the channel; the main channel decides the outcome.
            let _ = self.forward_channel(source, destination);
            self.open_channels.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Forwards a channel other than the main channel. The first bytes may arrive after the timeout
    /// of [`Self::accept`], so the relay identifies the channel again.
    fn forward_channel(
        &self,
        source: Connection,
        destination: Connection,
    ) -> Result<(), CopyError> {
        let counter = self.byte_counts.other_channel_counter();
        forward_both_ways(
            source,
            destination,
            &self.cancel,
            &counter,
            |reader, shutdown_handles| {
                let magic = reader.peek(MAGIC_LEN, None, &self.cancel);
                let channel = magic.ok().and_then(Channel::identify);
                let reason = match channel {
                    Some(Channel::Main | Channel::PostcopyRecovery) => Some(MIGRATION_IN_PROGRESS),
                    Some(Channel::Cpr) => Some(CPR_UNSUPPORTED),
                    _ => None,
                };
                if let (Some(channel), Some(reason)) = (channel, reason) {
                    shutdown_handles.iter().for_each(ShutdownHandle::shutdown);
                    self.observer
                        .on_event(&Event::ConnectionRejected { channel, reason });
                }
            },
        )
    }

    /// Waits until the source, which has received the error SHUT, closes the connection. Discards
    /// the data that it still sends.
    ///
    /// QEMU 10.0 that has switched to postcopy resumes its guest if it receives the failure before
    /// a write fails. Otherwise, QEMU stays in `postcopy-paused`.
    fn drain_until_closed(&self, reader: &mut Reader) {
        let deadline = Instant::now() + SOURCE_CLOSE_TIMEOUT;
        let mut buffer = vec![0; DRAIN_BUFFER_LEN];
        while Instant::now() < deadline
            && let Ok(Some(1..)) = reader.read_with_deadline(&mut buffer, deadline, &self.cancel)
        {
        }
    }

    fn wait_for_other_channels(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.open_channels.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}
