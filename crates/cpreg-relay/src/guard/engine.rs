//! [`Guard`]: looks at both QEMUs, has [`super::decide`] decide, and does it.
//!
//! What the two are asked before a migration lives in [`super::prepare`].

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::decide::{Action, LATE, Memory, Relay, Situation, decide};
use super::monitor::{Answer, End, Monitor};
use super::states::{RunState, Side};
use super::whereabouts::Whereabouts;
use crate::error::Error;

/// How often is looked while the guest runs at the source.
const CALM: Duration = Duration::from_millis(20);

/// How often once the device state goes on: this is a part of the time for which the guest stands still.
const BRISK: Duration = Duration::from_millis(2);

/// How long to wait before a QEMU that refused is told again: the other one may still hold a disk's lock.
const AGAIN: Duration = Duration::from_millis(100);

/// Two monitors, or one, and the VM between them.
#[derive(Debug)]
pub struct Guard {
    pub(super) source: Option<Monitor>,
    pub(super) dest: Option<Monitor>,
    pub(super) relay: Relay,
    pub(super) memory: Memory,
    seen: Option<(Side, Side, Relay, Memory)>,
    since: Instant,
    refusal: Option<Refusal>,
    done: Vec<String>,
    /// How many of `done` have been given out.
    told: usize,
}

impl Guard {
    /// Connects to the monitors; at least one is needed.
    ///
    /// # Errors
    /// If none is given, or one cannot be reached.
    pub fn connect(source: Option<&Path>, dest: Option<&Path>) -> Result<Self, Error> {
        if source.is_none() && dest.is_none() {
            return Err(Error::guard("there is no monitor to guard with"));
        }
        let source = source.map(|path| Monitor::connect(End::Source, path));
        let dest = dest.map(|path| Monitor::connect(End::Dest, path));
        Ok(Self {
            source: source.transpose()?,
            dest: dest.transpose()?,
            relay: Relay::default(),
            memory: Memory {
                was_running: true,
                ..Memory::default()
            },
            seen: None,
            since: Instant::now(),
            refusal: None,
            done: Vec::new(),
            told: 0,
        })
    }

    /// Has the source start its migration.
    ///
    /// # Errors
    /// If there is no monitor of the source, or it refuses.
    pub fn start(&mut self, uri: &str) -> Result<(), Error> {
        let Some(source) = &mut self.source else {
            return Err(Error::guard("the source's monitor is not known")
                .with_hint("start the migration there yourself: QMP `migrate`"));
        };
        source.ask("migrate", json!({"uri": uri}))?;
        self.memory.begun = true;
        self.did("the source: migrate");
        Ok(())
    }

    /// A migration has begun that somebody else started.
    pub fn began(&mut self) {
        self.memory.begun = true;
    }

    /// Device state may go on from now on. The relay has seen in it whether the guest is to run, if it could.
    pub fn passing(&mut self, running: Option<bool>) {
        self.memory.begun = true;
        self.relay.passing = true;
        if self.source.is_none() {
            self.memory.was_running = running.unwrap_or(true);
        }
    }

    /// None has gone on and none will.
    pub fn refused(&mut self) {
        self.relay.refused = true;
    }

    /// All has gone on.
    pub fn delivered(&mut self) {
        self.relay.delivered = true;
    }

    /// The relay carries nothing any more, or is gone.
    pub fn ended(&mut self) {
        self.relay.ended = true;
    }

    /// What the QEMUs were told since the last call.
    pub fn take_done(&mut self) -> Vec<String> {
        let new = self.done[self.told..].to_vec();
        self.told = self.done.len();
        new
    }

    /// How long to wait before the next [`Self::step`].
    pub fn pace(&self) -> Duration {
        match &self.seen {
            Some((Side::Present { run, .. }, _, relay, memory)) => {
                let is_over = relay.ended || relay.refused || relay.passing || memory.dest_ran;
                let is_calm = *run == RunState::RUNNING && !is_over;
                if is_calm { CALM } else { BRISK }
            }
            _ if self.since.elapsed() < LATE => BRISK,
            _ => CALM,
        }
    }

    /// Looks, decides, acts once. Gives the whereabouts when all is over.
    pub fn step(&mut self) -> Option<Whereabouts> {
        let situation = self.look();
        let action = decide(&situation);
        self.act(action)
    }

    fn look(&mut self) -> Situation {
        let dest_before = match &self.seen {
            Some((_, dest, ..)) => dest.clone(),
            None => Side::Unreachable,
        };
        // The destination first: if it has all of it, what the source says afterwards is about a moment at which that was so.
        let asked_first = self.source_is_leaving();
        let mut dest = asked_first.then(|| self.look_at_dest());
        let source = self.source.as_mut().map_or(Side::NotAsked, Monitor::look);
        self.follow(&source);
        let must_ask = self.source_is_left(&source) || self.seen.is_none();
        if dest.is_none() && must_ask {
            // Asked for the first time after the source changed: both are looked at again in the next step, in the right order.
            dest = Some(self.look_at_dest());
        }
        let dest = dest.unwrap_or_else(|| match &mut self.dest {
            None => Side::NotAsked,
            Some(monitor) => {
                if monitor.has_ended() {
                    Side::Gone
                } else {
                    dest_before
                }
            }
        });
        if dest.is(&RunState::RUNNING) {
            self.memory.dest_ran = true;
        }
        let now = (source, dest, self.relay, self.memory);
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now.clone());
            self.since = Instant::now();
        }
        let (source, dest, relay, memory) = now;
        Situation {
            source,
            dest,
            relay,
            memory,
            unchanged: self.since.elapsed(),
        }
    }

    fn look_at_dest(&mut self) -> Side {
        self.dest.as_mut().map_or(Side::NotAsked, Monitor::look)
    }

    /// Whether the destination matters: it is not asked while RAM flows, since it then answers late and there is nothing to learn.
    fn source_is_left(&self, source: &Side) -> bool {
        if self.relay.ended || self.relay.refused || self.memory.dest_ran {
            return true;
        }
        match source {
            Side::Present { run, migration } => {
                *run != RunState::RUNNING && self.relay.passing
                    || migration.is_postcopy()
                    || self.memory.begun && migration.is_settled()
            }
            _ => true,
        }
    }

    fn source_is_leaving(&self) -> bool {
        match &self.seen {
            Some((source, ..)) => self.source_is_left(source),
            None => false,
        }
    }

    /// Remembers what the guest did at the source before it was stopped for the migration.
    fn follow(&mut self, source: &Side) {
        let Side::Present { run, migration } = source else {
            return;
        };
        let is_settled = migration.is_settled();
        if !is_settled {
            self.memory.begun = true;
        }
        if is_settled && self.memory.begun || migration.is_postcopy() {
            return;
        }
        if *run == RunState::RUNNING {
            self.memory.was_running = true;
        } else if !run.is_migrated() {
            self.memory.was_running = false;
        }
    }

    fn act(&mut self, action: Action) -> Option<Whereabouts> {
        if let Some(refusal) = &self.refusal
            && refusal.action == action
            && refusal.last.elapsed() < AGAIN
        {
            return None;
        }
        match action {
            Action::Wait => {}
            Action::Conclude(mut whereabouts) => {
                whereabouts.done.clone_from(&self.done);
                return Some(whereabouts);
            }
            Action::Cancel => {
                self.memory.cancelled = true;
                self.tell(End::Source, "migrate_cancel", &Action::Cancel);
            }
            Action::StopSource => {
                self.tell(End::Source, "stop", &Action::StopSource);
            }
            Action::RunSource => match self.tell(End::Source, "cont", &Action::RunSource) {
                Tried::Told => self.memory.source_told = true,
                Tried::GivenUp => self.memory.source_cannot = true,
                Tried::Refused | Tried::Silent => {}
            },
            Action::RunDest => {
                // Remembered before it is told: no answer does not mean that it does not run.
                self.memory.dest_ran = true;
                match self.tell(End::Dest, "cont", &Action::RunDest) {
                    Tried::Told | Tried::Silent => {}
                    Tried::Refused => self.memory.dest_ran = false,
                    Tried::GivenUp => {
                        self.memory.dest_ran = false;
                        self.memory.dest_cannot = true;
                    }
                }
            }
            Action::QuitDest => match self.tell(End::Dest, "quit", &Action::QuitDest) {
                Tried::Told => self.memory.dest_quits = true,
                Tried::Refused | Tried::GivenUp | Tried::Silent => {}
            },
        }
        None
    }

    fn tell(&mut self, end: End, command: &str, action: &Action) -> Tried {
        let monitor = match end {
            End::Source => self.source.as_mut(),
            End::Dest => self.dest.as_mut(),
        };
        let Some(monitor) = monitor else {
            return Tried::Silent;
        };
        match monitor.tell(command, json!({})) {
            Answer::Done(_) => {
                self.refusal = None;
                self.did(format!("{end}: {command}"));
                Tried::Told
            }
            Answer::Silent(why) => {
                self.did(format!("{end}: {command}, without an answer ({why})"));
                Tried::Silent
            }
            Answer::Refused(why) => {
                let now = Instant::now();
                let first = match &mut self.refusal {
                    Some(refusal) if refusal.action == *action => {
                        refusal.last = now;
                        refusal.first
                    }
                    _ => {
                        self.refusal = Some(Refusal {
                            action: action.clone(),
                            first: now,
                            last: now,
                        });
                        self.did(format!("{end}: {command}, refused: {why}"));
                        now
                    }
                };
                if first.elapsed() < LATE {
                    Tried::Refused
                } else {
                    self.refusal = None;
                    Tried::GivenUp
                }
            }
        }
    }

    pub(super) fn did(&mut self, what: impl Into<String>) {
        self.done.push(what.into());
    }
}

/// Something that a QEMU was told and refuses to do.
#[derive(Debug)]
struct Refusal {
    action: Action,
    first: Instant,
    last: Instant,
}

/// How telling a QEMU something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    Told,
    Refused,
    /// Refused for too long.
    GivenUp,
    Silent,
}
