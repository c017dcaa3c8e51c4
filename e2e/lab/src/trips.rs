//! Two [emulated hosts that are connected](super::wired), and the example VMM's guest, which moves between them: several trips in one boot of both.
//!
//! A trip goes from one host to the other, and perhaps back. Where it is refused it is tried again with the next of its consents.
//!
//! What the two ends said of a move is judged in [`evaluate`]: what moved lost nothing and goes on there, and what was refused goes on here; anything else
//! is a failure.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::evaluate::{MoveOutcome, VmmOutput, evaluate};
use super::host_pair::{HostPair, SERIAL, address};
use e2e_framework::Result;
use e2e_framework::lab::job::{Job, shell_quote};
use e2e_framework::lab::kernels::Kernel;

/// From here on KVM saves the physical timer, and plays revision 3 of its GIC.
const MIN_PHYSICAL_TIMER_VERSION: [u32; 2] = [6, 4];

/// For how long an end waits for the other one, in seconds: a host may have to boot first.
const PEER_TIMEOUT_SECONDS: u32 = 600;

/// For how long a trip may take, with all that is tried.
const TRIP_TIMEOUT: Duration = Duration::from_secs(600);

/// What the scripts need.
const FUNCTIONS: &str = "\
# move NAME COMMAND...: what the command says, and its exit status, go to /out/NAME.
move() {
    name=$1
    shift
    \"$@\" > /out/$name 2>&1
    echo $? > /out/$name.status
}
moved() { grep -q -e '^migrated: ' -e '^the guest runs here' /out/$1; }
refused() { [ \"$(cat /out/$1.status)\" = 1 ] && ! moved $1; }
";

/// Two hosts.
#[derive(Clone, Debug)]
pub(crate) struct TripRunner<'a> {
    pub(crate) hosts: HostPair<'a>,
    /// The example VMM.
    pub(crate) program: &'a Path,
}

/// A guest that goes from one of them to the other.
#[derive(Clone, Debug)]
pub(crate) struct Trip<'a> {
    /// Which host it starts at.
    pub(crate) source_host: usize,
    /// What is consented to, one after another while it is refused; `None` is nothing.
    pub(crate) consents: Vec<Option<&'a str>>,
    /// Whether it comes back.
    pub(crate) is_round_trip: bool,
    pub(crate) vcpus: u8,
}

/// One try of a trip.
#[derive(Clone, Debug)]
pub(crate) struct MoveAttempt {
    /// What was consented to.
    pub(crate) consent: Option<String>,
    pub(crate) outbound: MoveOutcome,
    /// If it went there and was to come back.
    pub(crate) inbound: Option<MoveOutcome>,
}

/// The file that has what both ends said of a move.
fn file(trip: usize, attempt: usize, back: bool) -> String {
    let way = if back { "back" } else { "there" };
    format!("trip{trip}-try{attempt}-{way}")
}

impl TripRunner<'_> {
    /// Boots both and makes these trips, one after another. Gives what came of each.
    ///
    /// # Errors
    /// If a host does not boot or not end; of a trip, what both ends said if that is neither a move nor a refusal.
    pub(crate) fn run(&self, trips: &[Trip<'_>]) -> Result<Vec<Result<Vec<MoveAttempt>>>> {
        let time = TRIP_TIMEOUT.saturating_mul(u32::try_from(trips.len()).unwrap_or(u32::MAX));
        let jobs = [0, 1].map(|number| self.job(number, trips));
        self.hosts.run(&jobs, time)?;
        let trips = trips.iter().enumerate();
        Ok(trips
            .map(|(number, trip)| self.tries(number, trip))
            .collect())
    }

    fn job(&self, number: usize, trips: &[Trip<'_>]) -> Job {
        let mut script = FUNCTIONS.to_owned();
        script += &self.hosts.setup_script(number);
        for (place, trip) in trips.iter().enumerate() {
            for attempt in 0..trip.consents.len() {
                if attempt > 0 {
                    let before = file(place, attempt - 1, false);
                    let _ = writeln!(script, "if refused {before}; then");
                }
                script += &self.lines(number, place, trip, attempt);
            }
            script += &"fi\n".repeat(trip.consents.len().saturating_sub(1));
        }
        Job {
            script,
            programs: vec![self.program.to_owned()],
            ..Job::default()
        }
    }

    /// What one end does in one try of a trip.
    fn lines(&self, number: usize, place: usize, trip: &Trip<'_>, attempt: usize) -> String {
        let accept = match trip.consents.get(attempt) {
            Some(Some(consent)) => format!(" --accept {}", shell_quote(consent)),
            _ => String::new(),
        };
        // Ports of their own: nobody reaches who listens for another try.
        let port = 4000 + 20 * place + 2 * attempt;
        let line = |address: &str, port: usize| {
            if self.hosts.serial {
                SERIAL.to_owned()
            } else {
                format!("{address}:{port}")
            }
        };
        let listen = |port| line("0.0.0.0", port);
        let peer = |port| line(address(1 - number), port);
        let there = file(place, attempt, false);
        if number == trip.source_host {
            let mut options = format!("--vcpus {}", trip.vcpus);
            if self.hosts.kernels.into_iter().any(lacks_physical_timer) {
                options += " --no-physical-timer --gic-revision 2";
            }
            if self.hosts.serial {
                options += " --memory 8";
            }
            let mut lines = format!(
                "move {there} cpreg-vmm send {} {options} --seconds-before 3 --timeout {PEER_TIMEOUT_SECONDS}\n",
                peer(port)
            );
            if trip.is_round_trip {
                let _ = writeln!(
                    lines,
                    "moved {there} && move {} cpreg-vmm receive {}{accept} --seconds 3 --timeout {PEER_TIMEOUT_SECONDS}",
                    file(place, attempt, true),
                    listen(port + 1)
                );
            }
            lines
        } else {
            let then_send = if trip.is_round_trip {
                format!(" --then-send {}", peer(port + 1))
            } else {
                String::new()
            };
            format!(
                "move {there} cpreg-vmm receive {}{accept} --seconds 3{then_send} --timeout {PEER_TIMEOUT_SECONDS}\n",
                listen(port)
            )
        }
    }

    /// What became of a trip.
    fn tries(&self, place: usize, trip: &Trip<'_>) -> Result<Vec<MoveAttempt>> {
        let results_of = |number| self.hosts.results_of(number);
        let (from, to) = (
            results_of(trip.source_host),
            results_of(1 - trip.source_host),
        );
        let mut tries = Vec::new();
        for (attempt, consent) in trip.consents.iter().enumerate() {
            let name = file(place, attempt, false);
            let (source, destination) =
                (VmmOutput::read(&from, &name)?, VmmOutput::read(&to, &name)?);
            let at = |error: e2e_framework::Failure| {
                format!(
                    "{error}\n  (consoles and all that was said: {}*)",
                    from.display().to_string().trim_end_matches(|it| it != '0')
                )
            };
            let there = evaluate(&source, &destination).map_err(at)?;
            let back = match there {
                MoveOutcome::Moved { .. } if trip.is_round_trip => {
                    let home = VmmOutput::read(&from, &file(place, attempt, true))?;
                    Some(evaluate(&destination.after_arrival(), &home).map_err(at)?)
                }
                _ => None,
            };
            let is_refused = matches!(there, MoveOutcome::Refused { .. });
            tries.push(MoveAttempt {
                consent: consent.map(str::to_owned),
                outbound: there,
                inbound: back,
            });
            if !is_refused {
                break;
            }
        }
        Ok(tries)
    }
}

/// Whether KVM of that kernel leaves the physical timer out of what it saves.
pub(crate) fn lacks_physical_timer(kernel: &Kernel) -> bool {
    let numbers: Vec<u32> = kernel
        .release
        .split(|character: char| !character.is_ascii_digit())
        .take(2)
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers < MIN_PHYSICAL_TIMER_VERSION.to_vec()
}
