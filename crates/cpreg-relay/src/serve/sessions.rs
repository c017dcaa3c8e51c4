//! [`Sessions`]: migrations in progress, by the address to which their sources connect.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;

use super::states::Context;
use crate::connection_source::ConnectionSource;
use crate::io::cancel::{CancelToken, wait_for};
use crate::io::connection::Connection;

/// Interval between two checks of the user's token, during a wait for another migration.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// Migrations in progress.
#[derive(Default)]
pub(super) struct Sessions {
    queues: Mutex<HashMap<SocketAddr, Arc<Queue>>>,
    /// Connections without a route, by address and number; `true` if they use TLS.
    pending: Mutex<BTreeMap<(SocketAddr, usize), bool>>,
    /// Notified whenever a migration begins or ends.
    changed: Condvar,
}

/// The wait for another migration has timed out or was cancelled.
#[derive(Debug)]
pub(super) struct JoinError;

impl Sessions {
    /// Adds a connection without a route. A lower number is an older connection.
    pub(super) fn add_pending(
        sessions: &Arc<Self>,
        destination: SocketAddr,
        number: usize,
    ) -> PendingConnection {
        let mut pending = sessions.lock_pending();
        pending.insert((destination, number), false);
        drop(pending);
        PendingConnection {
            sessions: sessions.clone(),
            key: (destination, number),
        }
    }

    fn lock_pending(&self) -> MutexGuard<'_, BTreeMap<(SocketAddr, usize), bool>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a migration, after an earlier migration to the same address has ended.
    ///
    /// # Errors
    /// Returns an error if the earlier migration does not end before the deadline.
    pub(super) fn begin(
        sessions: &Arc<Self>,
        destination: SocketAddr,
        is_tls: bool,
        deadline: Instant,
        cancel: &CancelToken,
    ) -> Result<SessionQueue, JoinError> {
        let queue = Arc::new(Queue::new(is_tls).map_err(|_| JoinError)?);
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

    /// Adds a connection to the migration to this address. Waits for the migration to begin.
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

/// Registration of a connection without a route. Dropping it ends the registration.
pub(super) struct PendingConnection {
    sessions: Arc<Sessions>,
    key: (SocketAddr, usize),
}

impl PendingConnection {
    /// Marks the connection as one that uses TLS.
    pub(super) fn set_tls(&self) {
        self.sessions.lock_pending().insert(self.key, true);
    }

    /// Returns the facts about the other connections to the same address.
    pub(super) fn context(&self, has_credentials: bool) -> Context {
        let (destination, number) = self.key;
        let is_session_tls = {
            let queues = self.sessions.lock();
            queues.get(&destination).map(|queue| queue.is_tls)
        };
        let pending = self.sessions.lock_pending();
        let same_address = (destination, 0)..=(destination, usize::MAX);
        let mut others = pending
            .range(same_address)
            .filter(|((_, other), _)| *other != number);
        let is_preceded = others
            .clone()
            .next()
            .is_some_and(|((_, oldest), _)| *oldest < number);
        Context {
            has_session: is_session_tls.is_some(),
            expects_tls: is_session_tls == Some(true) || others.any(|(_, is_tls)| *is_tls),
            is_preceded,
            has_credentials,
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.sessions.lock_pending().remove(&self.key);
    }
}

/// Connections that wait for their migration to accept them.
struct Queue {
    is_tls: bool,
    connections: Mutex<VecDeque<Connection>>,
    /// Number of the connections, as a semaphore.
    event: OwnedFd,
}

impl Queue {
    fn new(is_tls: bool) -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE;
        Ok(Self {
            is_tls,
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

/// Queue of one migration. Dropping it ends the registration of the migration.
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
