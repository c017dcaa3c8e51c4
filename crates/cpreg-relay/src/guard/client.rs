//! [`Keeper`]: the relay's end of the guard: starts its process, tells it what happens, learns where the VM is.
//!
//! The guard is a process of its own so that it outlives the relay, however that ends: it leaves the relay's session
//! and does not end by the terminal's signals. What the two say to each other is in [`super::protocol`].
//!
//! A service manager that kills all processes of a unit (systemd's `KillMode=control-group`) kills the guard too.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{Found, Order, Told};
use super::whereabouts::{Place, Whereabouts};
use crate::error::Error;

/// How long the guard may take over an order that it answers; its own patience with a QEMU is shorter.
const ANSWER: Duration = Duration::from_secs(60);

/// What was found when the guard connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// The source, if asked.
    pub source: Option<Found>,
    /// The destination, if asked.
    pub dest: Option<Found>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// There is nothing to migrate: an earlier migration was found unfinished, and is finished now.
    pub concluded: Option<Whereabouts>,
}

/// What was made ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Whether the return path was switched on.
    pub return_path_switched_on: bool,
    /// Whether the destination is held.
    pub held: bool,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// The guard's process, seen from the relay.
///
/// Dropping it closes the pipe: the guard then concludes alone.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    orders: Option<ChildStdin>,
    told: Receiver<Told>,
    did: Vec<String>,
    concluded: Option<Whereabouts>,
}

impl Keeper {
    /// Starts the guard: this very program, with these arguments (the hidden command that calls [`super::serve()`]).
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(arguments: &[S]) -> io::Result<Self> {
        Self::spawn_program(&std::env::current_exe()?, arguments)
    }

    /// Starts the guard by this program.
    ///
    /// # Errors
    /// If the process cannot be started.
    pub fn spawn_program<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take();
        let output = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("the guard has no standard output"))?;
        Ok(Self {
            child,
            orders,
            told: listen(output),
            did: Vec::new(),
            concluded: None,
        })
    }

    /// The guard's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Has the guard connect to the monitors and look at both VMs. At least one is needed.
    ///
    /// # Errors
    /// If one cannot be reached or is not in a state to be migrated.
    pub fn connect(
        &mut self,
        source: Option<&Path>,
        dest: Option<&Path>,
    ) -> Result<Connected, Error> {
        let order = Order::Connect {
            source: source.map(Path::to_owned),
            dest: dest.map(Path::to_owned),
        };
        match self.ask(&order)? {
            Told::Connected {
                source,
                dest,
                notes,
            } => Ok(Connected {
                source,
                dest,
                notes,
                concluded: None,
            }),
            Told::Concluded { whereabouts } => Ok(Connected {
                source: None,
                dest: None,
                notes: Vec::new(),
                concluded: Some(whereabouts),
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the guard check what cannot pass a relay, switch the return path on and hold the destination.
    ///
    /// # Errors
    /// If something is switched on that cannot pass, or QEMU refuses.
    pub fn prepare(&mut self) -> Result<Prepared, Error> {
        match self.ask(&Order::Prepare)? {
            Told::Prepared {
                return_path_switched_on,
                held,
                notes,
            } => Ok(Prepared {
                return_path_switched_on,
                held,
                notes,
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Has the guard start the migration.
    ///
    /// # Errors
    /// If the source refuses.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let uri = uri.to_owned();
        match self.ask(&Order::Start { uri })? {
            Told::Started => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// A stream comes in, which somebody else has started.
    pub fn began(&mut self) {
        self.tell(&Order::Began);
    }

    /// To be called **before** the end of the device state goes on, without which nobody can load it. `running`: what its `globalstate` says the guest does, if
    /// that was seen (used where the source cannot be asked).
    ///
    /// # Errors
    /// If the guard is not there any more: nothing may go on then, since nobody would let the held destination run.
    pub fn passing(&mut self, running: Option<bool>) -> Result<(), Error> {
        if self.tell(&Order::Passing { running }) {
            return Ok(());
        }
        Err(Error::guard("the guard is not there any more").with_hint(
            "no device state has gone on: the VM is at the source. Do not kill `cpreg relay-guard`",
        ))
    }

    /// No device state has gone on and none will; both connections are closed.
    pub fn refused(&mut self) {
        self.tell(&Order::Refused);
    }

    /// Everything has gone on and, with a return path, the destination's success has gone back.
    pub fn delivered(&mut self) {
        self.tell(&Order::Delivered);
    }

    /// What the guard has told the QEMUs since the last call; for the log.
    pub fn take_did(&mut self) -> Vec<String> {
        self.catch_up();
        std::mem::take(&mut self.did)
    }

    /// Says that the relay is done, and waits for the guard to settle where the VM is.
    ///
    /// The guard waits for both QEMUs, cancels what hangs, and gives up in the end; `limit` is for a guard that was stopped or
    /// is stuck, and should be minutes. The guard goes on when it is over.
    pub fn conclude(mut self, limit: Duration) -> Whereabouts {
        self.tell(&Order::Ended);
        let deadline = Instant::now() + limit;
        while self.concluded.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(told) => self.note(told),
                Err(RecvTimeoutError::Timeout) => {
                    return unknown("the guard has not settled it yet and goes on trying");
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // It exits right after its last word.
        let _ = self.child.wait();
        self.concluded
            .take()
            .unwrap_or_else(|| unknown("the guard ended without a word: it was killed"))
    }

    /// Whether the guard has already settled where the VM is.
    pub fn concluded(&mut self) -> Option<&Whereabouts> {
        self.catch_up();
        self.concluded.as_ref()
    }

    /// Takes in what was said meanwhile, and notices the end of the guard.
    fn catch_up(&mut self) {
        loop {
            match self.told.try_recv() {
                Ok(told) => self.note(told),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.orders = None;
                    return;
                }
            }
        }
    }

    fn note(&mut self, told: Told) {
        match told {
            Told::Did { what } => self.did.push(what),
            Told::Concluded { whereabouts } => self.concluded = Some(whereabouts),
            _ => {}
        }
    }

    /// Gives an order that is answered.
    fn ask(&mut self, order: &Order) -> Result<Told, Error> {
        let died = || Error::guard("the guard ended").with_hint("it says why on standard error");
        if !self.tell(order) {
            return Err(died());
        }
        let deadline = Instant::now() + ANSWER;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(Told::Failed { message, hint }) => {
                    let error = Error::guard(message);
                    return Err(match hint {
                        Some(hint) => error.with_hint(hint),
                        None => error,
                    });
                }
                Ok(Told::Did { what }) => self.did.push(what),
                Ok(Told::Concluded { whereabouts }) => {
                    self.concluded = Some(whereabouts.clone());
                    return Ok(Told::Concluded { whereabouts });
                }
                Ok(told) => return Ok(told),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::guard("the guard does not answer"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.orders = None;
                    return Err(died());
                }
            }
        }
    }

    /// Writes an order; whether it went out.
    fn tell(&mut self, order: &Order) -> bool {
        self.catch_up();
        let Some(pipe) = &mut self.orders else {
            return false;
        };
        let Ok(mut line) = serde_json::to_vec(order) else {
            // Only a path that is not Unicode comes here.
            return false;
        };
        line.push(b'\n');
        let sent = pipe.write_all(&line).is_ok();
        if !sent {
            self.orders = None;
        }
        sent
    }
}

fn unknown(why: &str) -> Whereabouts {
    Whereabouts::new(Place::UNKNOWN, None, why).advise(
        "ask both: QMP `query-status` and `query-migrate`. Source `completed` and destination \
         `paused`: `cont` at the destination. Source running: `quit` at the destination",
    )
}

fn unexpected(told: &Told) -> Error {
    Error::guard(format!("the guard answers {told:?}"))
}

/// Reads what the guard says, until its end.
fn listen(output: ChildStdout) -> Receiver<Told> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            let Ok(line) = line else { break };
            let Ok(told) = serde_json::from_str(&line) else {
                break;
            };
            if sender.send(told).is_err() {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guard played by a shell.
    fn keeper(script: &str) -> Keeper {
        Keeper::spawn_program(Path::new("/bin/sh"), &["-c", script]).unwrap()
    }

    #[test]
    fn orders_answers_and_the_last_word() {
        let mut keeper = keeper(
            r#"
            read order; echo '{"told":"connected","source":null,"dest":null,"notes":["a note"]}'
            read order; echo '{"told":"did","what":"the destination: stop"}'
            echo '{"told":"failed","message":"it cannot","hint":"do this"}'
            read order; case $order in *passing*) ;; *) exit ;; esac
            read order; case $order in *ended*) ;; *) exit ;; esac
            echo '{"told":"concluded","whereabouts":{"place":"source","running":true,"why":"so"}}'
            "#,
        );
        let connected = keeper.connect(Some(Path::new("/a")), None).unwrap();
        assert_eq!(connected.notes, ["a note"]);
        let error = keeper.prepare().unwrap_err();
        assert_eq!(error.message(), "it cannot");
        assert_eq!(keeper.take_did(), ["the destination: stop"]);
        keeper.passing(Some(true)).unwrap();
        let at = keeper.conclude(Duration::from_secs(20));
        assert_eq!((at.place, at.running), (Place::SOURCE, Some(true)));
    }

    #[test]
    fn a_guard_that_was_killed_lets_nothing_pass() {
        let mut keeper = keeper("exit");
        let error = keeper.connect(None, None).unwrap_err();
        assert_eq!(error.message(), "the guard ended");
        assert!(keeper.passing(None).is_err());
        assert_eq!(
            keeper.conclude(Duration::from_secs(20)).place,
            Place::UNKNOWN
        );
    }

    #[test]
    fn a_guard_that_is_stuck_is_left_alone() {
        let keeper = keeper("sleep 5");
        let at = keeper.conclude(Duration::from_millis(50));
        assert_eq!(at.place, Place::UNKNOWN);
        assert!(at.why.contains("goes on trying"), "{}", at.why);
    }
}
