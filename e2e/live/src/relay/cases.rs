//! List of cases of `cpreg relay`: the source and destination QEMU, the kind of migration, and the
//! scenario.

use std::collections::BTreeSet;
use std::fmt;

use crate::cases::PAIRS;
use e2e_framework::guest::TIMER_SECONDS;
use e2e_framework::machine::{Devices, Format, Gic, Machine};

/// Kind of migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Precopy, without a return path.
    Plain,
    /// Precopy, with a return path.
    ReturnPath,
    /// Precopy with a return path, and RAM on this number of multifd channels.
    Multifd(u32),
    /// Precopy with a return path, and pages sent as differences where possible.
    Xbzrle,
    /// Postcopy after part of RAM has been sent.
    Postcopy,
    /// Postcopy with a separate channel for requested pages.
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

    /// Returns the capabilities of QEMU, which are the same on both sides.
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

    /// Returns `true` if the source resumes the guest after a refusal of the device state, whatever
    /// QEMU it is.
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

/// Type of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Unix,
}

/// Scenario of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Through the relay the guest runs at the destination.
    Success,
    /// Without the relay the destination refuses the VM.
    WithoutRelay,
    /// The relay refuses a migration before RAM is sent, because a later refusal would stop or lose
    /// the guest.
    EarlyRefusal,
    /// The relay refuses the device state.
    LateRefusal,
    /// RAM contains bytes that look like device state, and arrives unchanged.
    LookalikeRam,
    /// With the monitors of both sides, the migration succeeds.
    GuardedSuccess,
    /// With the monitors of both sides, the relay refuses before RAM is sent.
    GuardedRefusal,
    /// With the monitors of both sides, the destination differs from the relay's profile, and fails
    /// to load the VM.
    GuardedFailure,
    /// With the monitors of both sides, a process is killed.
    Kill(Victim, Moment),
}

/// Process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// QEMU of the source.
    Source,
    /// QEMU of the destination.
    Destination,
    /// The relay, but not the guard process.
    Relay,
}

/// Moment of the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The relay has its first connection.
    Setup,
    /// RAM has been sent, and part of it again.
    Ram,
    /// The relay has received the device state. The migration then ends within milliseconds, so the
    /// kill may come after its end.
    DeviceStateReceived,
    /// The relay has sent the device state. The destination has usually not parsed it yet.
    DeviceStateSent,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayCase {
    pub(crate) scenario: Scenario,
    /// Series of the QEMU at the source.
    pub(crate) source: &'static str,
    /// Series of the QEMU at the destination.
    pub(crate) destination: &'static str,
    pub(crate) machine: Machine,
    pub(crate) transport: Transport,
    pub(crate) mode: Mode,
}

impl RelayCase {
    /// Returns the family of the case. A sample has one case of each.
    pub(crate) fn family(&self) -> String {
        match self.scenario {
            Scenario::Success => format!("{:?}", self.mode),
            Scenario::Kill(victim, _) => format!("killed {victim:?}"),
            scenario => format!("{scenario:?}"),
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

/// Returns all cases, or the reduced set of CI, which has every pair, mode and transport, but not
/// all combinations.
pub(crate) fn cases(full: bool) -> Vec<RelayCase> {
    let mut cases = Vec::new();
    let pairs = PAIRS
        .into_iter()
        .filter(|(from, to, _)| ![from, to].contains(&&"5.2"));
    let mut refusing_sources = BTreeSet::new();
    for (pair, (from, to, machine_type)) in pairs.enumerate() {
        let case = |scenario, transport, mode| RelayCase {
            scenario,
            source: from,
            destination: to,
            machine: Machine {
                machine_type,
                // This model needs no consent.
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
        let is_selected = |number: usize| full || (number + pair).is_multiple_of(3);
        for (number, mode) in Mode::ALL.into_iter().enumerate() {
            for transport in [Transport::Tcp, Transport::Unix] {
                let is_reduced = transport == reduced_transport(pair, number);
                if full || (is_selected(number) && is_reduced) {
                    cases.push(case(Scenario::Success, transport, mode));
                }
            }
        }
        cases.push(case(
            Scenario::WithoutRelay,
            transport(pair),
            Mode::ReturnPath,
        ));
        // What happens at the source after a refusal depends on the source's QEMU only, so one
        // destination for each source suffices.
        if refusing_sources.insert(from) || full {
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
                    // A destination that loses all channels of multifd at once may hang. The guard
                    // then waits half a minute for it.
                    let is_slow = number == 1 && victim == Victim::Relay && moment != Moment::Ram;
                    if full || (!is_slow && (turn + 5 * number) % 6 == pair) {
                        let scenario = Scenario::Kill(victim, moment);
                        cases.push(case(scenario, transport(pair + turn), mode));
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

/// Returns the transport with which the reduced set has a mode of a pair.
fn reduced_transport(pair: usize, mode: usize) -> Transport {
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
        let successes: Vec<_> = cases(false)
            .into_iter()
            .filter(|case| case.scenario == Scenario::Success)
            .collect();
        for mode in Mode::ALL {
            let pairs: BTreeSet<_> = successes
                .iter()
                .filter(|case| case.mode == mode)
                .map(|case| (case.source, case.destination))
                .collect();
            assert!(pairs.len() >= 2, "{mode}: {pairs:?}");
        }
        for (from, to, _) in PAIRS {
            let is_tried = successes
                .iter()
                .any(|case| (case.source, case.destination) == (from, to));
            assert_eq!(is_tried, ![from, to].contains(&"5.2"), "{from} to {to}");
        }
        for transport in [Transport::Tcp, Transport::Unix] {
            let modes: BTreeSet<_> = successes
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
            for (scenario, modes) in [(Scenario::LateRefusal, 4), (Scenario::EarlyRefusal, 2)] {
                let found = cases
                    .iter()
                    .filter(|case| case.scenario == scenario && case.source == series)
                    .count();
                assert_eq!(found, modes, "{scenario:?} from {series}");
            }
        }
    }

    #[test]
    fn the_full_set_has_unique_names_and_includes_the_reduced_one() {
        let names = |full| -> Vec<_> { cases(full).iter().map(RelayCase::to_string).collect() };
        let full = names(true);
        let unique: BTreeSet<_> = full.iter().cloned().collect();
        assert_eq!(unique.len(), full.len());
        for name in names(false) {
            assert!(unique.contains(&name), "{name}");
        }
    }
}
