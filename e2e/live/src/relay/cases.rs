//! The list of cases of `cpreg relay`: which QEMU sends, which other receives, how, and what is tried.

use std::collections::BTreeSet;
use std::fmt;

use crate::cases::PAIRS;
use e2e_framework::guest::TIMER_SECONDS;
use e2e_framework::machine::{Devices, Format, Gic, Machine};

/// How the VM is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Precopy, without a return path.
    Plain,
    /// Precopy, with one.
    ReturnPath,
    /// Precopy with a return path, RAM on so many connections of its own.
    Multifd(u32),
    /// Precopy with a return path, pages sent as differences where they can be.
    Xbzrle,
    /// Switched to postcopy when part of RAM has been sent.
    Postcopy,
    /// The same, with the connection of its own for pages that are asked for.
    Preempt,
}

impl Mode {
    const ALL: [Self; 7] = [
        Self::Plain,
        Self::ReturnPath,
        Self::Multifd(2),
        Self::Multifd(8),
        Self::Xbzrle,
        Self::Postcopy,
        Self::Preempt,
    ];

    /// QEMU's capabilities, the same on both sides.
    pub(crate) fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::ReturnPath => &["return-path"],
            Self::Multifd(_) => &["return-path", "multifd"],
            Self::Xbzrle => &["return-path", "xbzrle"],
            Self::Postcopy => &["postcopy-ram"],
            Self::Preempt => &["postcopy-ram", "postcopy-preempt"],
        }
    }

    pub(crate) fn is_postcopy(self) -> bool {
        matches!(self, Self::Postcopy | Self::Preempt)
    }

    /// Whether a refusal of the device state lets the guest go on at the source, whatever QEMU that is.
    pub(crate) fn has_return_path(self) -> bool {
        self != Self::Plain && !self.is_postcopy()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => write!(f, "plain"),
            Self::ReturnPath => write!(f, "return-path"),
            Self::Multifd(channels) => write!(f, "multifd{channels}"),
            Self::Xbzrle => write!(f, "xbzrle"),
            Self::Postcopy => write!(f, "postcopy"),
            Self::Preempt => write!(f, "preempt"),
        }
    }
}

/// What the connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Through the relay the guest goes on at the destination.
    Success,
    /// Without it, it does not: the destination refuses the VM.
    WithoutRelay,
    /// The relay refuses what would have no way back before RAM flows.
    EarlyRefusal,
    /// The relay refuses the device state.
    LateRefusal,
    /// RAM holds what looks like device state; it arrives as it was.
    LookalikeRam,
    /// With the monitors of both sides.
    GuardedSuccess,
    /// With the monitors of both sides the relay refuses before RAM flows.
    GuardedRefusal,
    /// With the monitors of both sides, and a destination that is not what the relay was told: it fails to load the VM.
    GuardedFailure,
    /// With the monitors of both sides, somebody is killed.
    Kill(Victim, Moment),
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The source's QEMU.
    Source,
    /// The destination's.
    Destination,
    /// The relay, but not the guard's process.
    Relay,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The relay has its first connection.
    Setup,
    /// RAM has been sent, and part of it again.
    Ram,
    /// The device state has come; what follows takes milliseconds, so it may be later.
    DeviceStateReceived,
    /// It has gone on; the destination has usually not looked at it.
    DeviceStateSent,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayCase {
    pub(crate) scenario: Scenario,
    /// The series of the QEMU at the source.
    pub(crate) source: &'static str,
    /// The series of the QEMU at the destination.
    pub(crate) destination: &'static str,
    pub(crate) machine: Machine,
    pub(crate) transport: Transport,
    pub(crate) mode: Mode,
}

impl RelayCase {
    /// Returns what a sample needs one case of: each mode, each trial, each victim.
    pub(crate) fn family(&self) -> String {
        match self.scenario {
            Scenario::Success => format!("{:?}", self.mode),
            Scenario::Kill(victim, _) => format!("killed {victim:?}"),
            trial => format!("{trial:?}"),
        }
    }
}

impl fmt::Display for RelayCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Unix => "unix",
        };
        write!(
            f,
            "relay-{}-to-{}/{}/{transport}/{}",
            self.source, self.destination, self.machine.machine_type, self.mode
        )?;
        match self.scenario {
            Scenario::Success => Ok(()),
            Scenario::WithoutRelay => write!(f, "/without"),
            Scenario::EarlyRefusal => write!(f, "/refused-early"),
            Scenario::LateRefusal => write!(f, "/refused-late"),
            Scenario::LookalikeRam => write!(f, "/imitations"),
            Scenario::GuardedSuccess => write!(f, "/guarded"),
            Scenario::GuardedRefusal => write!(f, "/guarded-refused"),
            Scenario::GuardedFailure => write!(f, "/guarded-failed"),
            Scenario::Kill(victim, moment) => {
                let victim = match victim {
                    Victim::Source => "source",
                    Victim::Destination => "destination",
                    Victim::Relay => "relay",
                };
                let moment = match moment {
                    Moment::Setup => "setup",
                    Moment::Ram => "ram",
                    Moment::DeviceStateReceived => "device-state-received",
                    Moment::DeviceStateSent => "device-state-sent",
                };
                write!(f, "/killed-{victim}-{moment}")
            }
        }
    }
}

/// The cases that are run: all of them, or those that CI runs, which have every pair, mode and transport, but not each with each.
pub(crate) fn cases(full: bool) -> Vec<RelayCase> {
    let mut cases = Vec::new();
    let pairs = PAIRS
        .into_iter()
        .filter(|(from, to, _)| ![from, to].contains(&&"5.2"));
    let mut refused = BTreeSet::new();
    for (pair, (from, to, kind)) in pairs.enumerate() {
        let case = |trial, transport, mode| RelayCase {
            scenario: trial,
            source: from,
            destination: to,
            machine: Machine {
                machine_type: kind,
                // Nobody has to consent for this one.
                cpu: "cortex-a57",
                vcpus: 2,
                gic: Gic::V3,
                devices: Devices::None,
                format: Format::Plain,
                timer_seconds: TIMER_SECONDS[0],
            },
            transport,
            mode,
        };
        let transport = |number: usize| {
            if number.is_multiple_of(2) {
                Transport::Tcp
            } else {
                Transport::Unix
            }
        };
        let is_taken = |number: usize| full || (number + pair).is_multiple_of(3);
        for (number, mode) in Mode::ALL.into_iter().enumerate() {
            for transport in [Transport::Tcp, Transport::Unix] {
                let is_turn = transport == transport_of(pair, number);
                if full || (is_taken(number) && is_turn) {
                    cases.push(case(Scenario::Success, transport, mode));
                }
            }
        }
        cases.push(case(
            Scenario::WithoutRelay,
            transport(pair),
            Mode::ReturnPath,
        ));
        // What becomes of the source is up to the QEMU there: one destination of each is enough.
        if refused.insert(from) || full {
            for mode in [
                Mode::Plain,
                Mode::ReturnPath,
                Mode::Multifd(2),
                Mode::Postcopy,
            ] {
                cases.push(case(Scenario::LateRefusal, transport(pair), mode));
                if !mode.has_return_path() {
                    cases.push(case(Scenario::EarlyRefusal, transport(pair + 1), mode));
                }
            }
        }
        for (number, mode) in RelayCase::GUARDED_MODES.into_iter().enumerate() {
            if full || (pair + number).is_multiple_of(2) {
                cases.push(case(Scenario::GuardedSuccess, transport(pair), mode));
            }
            if full || number == pair {
                cases.push(case(Scenario::GuardedRefusal, transport(pair), mode));
            }
            if full || number + 3 == pair || (number == 0 && pair == 0) {
                cases.push(case(Scenario::GuardedFailure, transport(pair), mode));
            }
            let mut turn = 0;
            for victim in [Victim::Source, Victim::Destination, Victim::Relay] {
                for moment in [
                    Moment::Setup,
                    Moment::Ram,
                    Moment::DeviceStateReceived,
                    Moment::DeviceStateSent,
                ] {
                    turn += 1;
                    // A destination that loses all channels of multifd at once may hang, and the guard gives it half a minute.
                    let is_long = number == 1 && victim == Victim::Relay && moment != Moment::Ram;
                    if full || (!is_long && (turn + 5 * number) % 6 == pair) {
                        let trial = Scenario::Kill(victim, moment);
                        cases.push(case(trial, transport(pair + turn), mode));
                    }
                }
            }
        }
        for (number, mode) in [Mode::ReturnPath, Mode::Xbzrle, Mode::Postcopy]
            .into_iter()
            .enumerate()
        {
            if full || (pair + number).is_multiple_of(6) || (mode == Mode::Postcopy && pair == 3) {
                cases.push(case(Scenario::LookalikeRam, transport(pair), mode));
            }
        }
    }
    cases
}

/// The connections take turns.
fn transport_of(pair: usize, mode: usize) -> Transport {
    if (pair + mode / 2).is_multiple_of(2) {
        Transport::Tcp
    } else {
        Transport::Unix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reduced_set_has_every_pair_mode_and_transport() {
        let through: Vec<_> = cases(false)
            .into_iter()
            .filter(|case| case.scenario == Scenario::Success)
            .collect();
        for mode in Mode::ALL {
            let pairs: BTreeSet<_> = through
                .iter()
                .filter(|case| case.mode == mode)
                .map(|case| (case.source, case.destination))
                .collect();
            assert!(pairs.len() >= 2, "{mode}: {pairs:?}");
        }
        for (from, to, _) in PAIRS {
            let is_tried = through
                .iter()
                .any(|case| (case.source, case.destination) == (from, to));
            assert_eq!(is_tried, ![from, to].contains(&"5.2"), "{from} to {to}");
        }
        for transport in [Transport::Tcp, Transport::Unix] {
            let modes: BTreeSet<_> = through
                .iter()
                .filter(|case| case.transport == transport)
                .map(|case| case.mode.to_string())
                .collect();
            assert!(modes.len() >= 4, "{transport:?}: {modes:?}");
        }
    }

    #[test]
    fn every_source_refuses_in_every_mode() {
        let cases = cases(false);
        for series in ["7.2", "10.0", "11.1"] {
            for (trial, modes) in [(Scenario::LateRefusal, 4), (Scenario::EarlyRefusal, 2)] {
                let found = cases
                    .iter()
                    .filter(|case| case.scenario == trial && case.source == series)
                    .count();
                assert_eq!(found, modes, "{trial:?} from {series}");
            }
        }
    }

    #[test]
    fn no_name_comes_twice_and_the_reduced_set_is_part_of_the_full_one() {
        let names = |full| -> Vec<_> { cases(full).iter().map(RelayCase::to_string).collect() };
        let full = names(true);
        let unique: BTreeSet<_> = full.iter().cloned().collect();
        assert_eq!(unique.len(), full.len());
        for name in names(false) {
            assert!(unique.contains(&name), "{name}");
        }
    }
}
