//! [`Guard`]: looks at both QEMUs, has [`super::decide`] decide, and does it.
//!
//! What the two are asked before a migration lives in [`super::prepare`].

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::decide::{Action, LATE, Situation, decide};
use super::machine::{Command, DeviceState, Event, GuardState, Guest, Tried};
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
    state: GuardState,
    seen: Option<(Side, Side, GuardState)>,
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
            state: GuardState::NEW,
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
        self.happened(&Event::Began);
        self.did("the source: migrate");
        Ok(())
    }

    /// A migration has begun that somebody else started.
    pub fn began(&mut self) {
        self.happened(&Event::Began);
    }

    /// Device state may go on from now on. The relay has seen in it whether the guest is to run, if it could.
    pub fn passing(&mut self, running: Option<bool>) {
        let guest = match running {
            _ if self.source.is_some() => None,
            Some(false) => Some(Guest::Paused),
            Some(true) | None => Some(Guest::Ran),
        };
        self.happened(&Event::Passing(guest));
    }

    /// None has gone on and none will.
    pub fn refused(&mut self) {
        self.happened(&Event::Refused);
    }

    /// All has gone on.
    pub fn delivered(&mut self) {
        self.happened(&Event::Delivered);
    }

    /// The relay carries nothing any more, or is gone.
    pub fn ended(&mut self) {
        self.happened(&Event::RelayEnded);
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
            Some((Side::Present { run, .. }, _, state)) => {
                let is_over = state.relay_has_ended()
                    || state.device_state != DeviceState::Expected
                    || state.dest.has_run();
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
        self.happened(&Event::SourceSays(&source));
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
        self.happened(&Event::DestSays(&dest));
        let now = (source, dest, self.state);
        if self.seen.as_ref() != Some(&now) {
            self.seen = Some(now.clone());
            self.since = Instant::now();
        }
        let (source, dest, state) = now;
        Situation {
            source,
            dest,
            state,
            unchanged: self.since.elapsed(),
        }
    }

    fn look_at_dest(&mut self) -> Side {
        self.dest.as_mut().map_or(Side::NotAsked, Monitor::look)
    }

    /// Whether the destination matters: it is not asked while RAM flows, since it then answers late and there is nothing to learn.
    fn source_is_left(&self, source: &Side) -> bool {
        let state = &self.state;
        if state.relay_has_ended() || state.device_state.is_refused() || state.dest.has_run() {
            return true;
        }
        match source {
            Side::Present { run, migration } => {
                *run != RunState::RUNNING && state.device_state.may_have_gone_on()
                    || migration.is_postcopy()
                    || state.has_begun() && migration.is_settled()
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

    pub(super) fn happened(&mut self, event: &Event<'_>) {
        self.state = self.state.after(event);
    }

    fn act(&mut self, action: Action) -> Option<Whereabouts> {
        match action {
            Action::Wait => {}
            Action::Conclude(mut whereabouts) => {
                whereabouts.done.clone_from(&self.done);
                return Some(whereabouts);
            }
            Action::Tell(command) => {
                if let Some(refusal) = &self.refusal
                    && refusal.command == command
                    && refusal.last.elapsed() < AGAIN
                {
                    return None;
                }
                let tried = self.tell(command);
                self.happened(&Event::Told(command, tried));
            }
        }
        None
    }

    fn tell(&mut self, command: Command) -> Tried {
        let (end, name) = match command {
            Command::Cancel => (End::Source, "migrate_cancel"),
            Command::StopSource => (End::Source, "stop"),
            Command::RunSource => (End::Source, "cont"),
            Command::RunDest => (End::Dest, "cont"),
            Command::QuitDest => (End::Dest, "quit"),
        };
        let monitor = match end {
            End::Source => self.source.as_mut(),
            End::Dest => self.dest.as_mut(),
        };
        let Some(monitor) = monitor else {
            return Tried::Silent;
        };
        match monitor.tell(name, json!({})) {
            Answer::Done(_) => {
                self.refusal = None;
                self.did(format!("{end}: {name}"));
                Tried::Told
            }
            Answer::Silent(why) => {
                self.did(format!("{end}: {name}, without an answer ({why})"));
                Tried::Silent
            }
            Answer::Refused(why) => {
                let now = Instant::now();
                let first = match &mut self.refusal {
                    Some(refusal) if refusal.command == command => {
                        refusal.last = now;
                        refusal.first
                    }
                    _ => {
                        self.refusal = Some(Refusal {
                            command,
                            first: now,
                            last: now,
                        });
                        self.did(format!("{end}: {name}, refused: {why}"));
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
    command: Command,
    first: Instant,
    last: Instant,
}
