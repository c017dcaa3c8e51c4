//! [`Sessions`]: migrations in progress, by the address that their sources connect to.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;

use super::states::SessionKind;
use crate::connection_source::ConnectionSource;
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;

/// Interval between two checks of the user's token, during a wait for another migration.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Migrations in progress.
#[derive(Default)]
pub(super) struct Sessions {
    queues: Mutex<HashMap<SocketAddr, Arc<Queue>>>,
    /// Notified whenever a migration begins or ends.
    changed: Condvar,
}

/// The wait for another migration has timed out or was cancelled.
#[derive(Debug)]
pub(super) struct JoinError;

impl Sessions {
    /// Returns the kind of the migration to this address, if one is in progress.
    pub(super) fn find(&self, destination: SocketAddr) -> Option<SessionKind> {
        self.lock().get(&destination).map(|queue| queue.kind)
    }

    /// Begins a migration, after an earlier one to the same address has ended.
    ///
    /// # Errors
    /// Returns an error if the earlier one does not end before the deadline.
    pub(super) fn begin(
        sessions: &Arc<Self>,
        destination: SocketAddr,
        kind: SessionKind,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<SessionQueue, JoinError> {
        let queue = Arc::new(Queue::new(kind).map_err(|_| JoinError)?);
        let mut queues = sessions.wait_until(deadline, cancel, |queues| {
            !queues.contains_key(&destination)
        })?;
        queues.insert(destination, queue.clone());
        drop(queues);
        sessions.changed.notify_all();
        Ok(SessionQueue {
            destination,
            queue,
            sessions: sessions.clone(),
        })
    }

    /// Adds a connection to the migration to this address, which may begin a little later.
    ///
    /// # Errors
    /// Returns an error if no migration begins before the deadline.
    pub(super) fn join(
        &self,
        destination: SocketAddr,
        connection: Connection,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<(), JoinError> {
        let queues =
            self.wait_until(deadline, cancel, |queues| queues.contains_key(&destination))?;
        match queues.get(&destination) {
            Some(queue) => queue.push(connection).map_err(|_| JoinError),
            None => Err(JoinError),
        }
    }

    /// Waits until the condition holds.
    fn wait_until(
        &self,
        deadline: Instant,
        cancel: &CancelToken,
        condition: impl Fn(&HashMap<SocketAddr, Arc<Queue>>) -> bool,
    ) -> Result<MutexGuard<'_, HashMap<SocketAddr, Arc<Queue>>>, JoinError> {
        let mut queues = self.lock();
        while !condition(&queues) {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() || cancel.is_cancelled() {
                return Err(JoinError);
            }
            let interval = remaining.min(CANCEL_CHECK_INTERVAL);
            queues = match self.changed.wait_timeout(queues, interval) {
                Ok((queues, _)) => queues,
                Err(error) => error.into_inner().0,
            };
        }
        Ok(queues)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that wait for their migration to accept them.
struct Queue {
    kind: SessionKind,
    connections: Mutex<VecDeque<Connection>>,
    /// Number of the connections, as a semaphore.
    event: OwnedFd,
}

impl Queue {
    fn new(kind: SessionKind) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        Ok(Self {
            kind,
            connections: Mutex::default(),
            event: eventfd(0, flags)?,
        })
    }

    fn push(&self, connection: Connection) -> io::Result<()> {
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rustix::io::write(&self.event, &1_u64.to_ne_bytes())?;
        connections.push_back(connection);
        Ok(())
    }
}

/// Queue of one migration, which ends the migration's registration when it is dropped.
pub(super) struct SessionQueue {
    destination: SocketAddr,
    queue: Arc<Queue>,
    sessions: Arc<Sessions>,
}

impl SessionQueue {
    /// Ends the registration. Later connections to the address belong to another migration.
    fn unregister(&self) {
        let mut queues = self.sessions.lock();
        if queues
            .get(&self.destination)
            .is_some_and(|queue| Arc::ptr_eq(queue, &self.queue))
        {
            queues.remove(&self.destination);
        }
        drop(queues);
        self.sessions.changed.notify_all();
    }
}

impl ConnectionSource for SessionQueue {
    fn accept(&self, cancel: &CancelToken) -> io::Result<Option<Connection>> {
        loop {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            match rustix::io::read(&self.queue.event, &mut [0; 8]) {
                Ok(_) => {
                    let connections = self.queue.connections.lock();
                    let mut connections = connections.unwrap_or_else(PoisonError::into_inner);
                    if let Some(connection) = connections.pop_front() {
                        return Ok(Some(connection));
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    match wait_for(&self.queue.event, PollFlags::IN, None, &[cancel]) {
                        Ok(_) => {}
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => return Err(error.into_io()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn end_migration(&self) {
        self.unregister();
    }
}

impl Drop for SessionQueue {
    fn drop(&mut self) {
        self.unregister();
    }
}
