//! Moves of the example VMM's guest between [two connected hosts](super::host_pair): several trips
//! in one boot of both.
//!
//! A trip takes the guest from one host to the other, and optionally back. After a refusal the
//! runner repeats the trip with its next consent.
//!
//! [`evaluate`] determines the outcome from the output of both hosts. A moved guest has lost
//! nothing and runs at the destination. A refused guest continues at the source. Any other result
//! is a failure.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::evaluate::{MoveOutcome, VmmOutput, evaluate};
use super::host_pair::{HostPair, SERIAL_PORT, address};
use e2e_framework::Result;
use e2e_framework::lab::job::{Job, shell_quote};
use e2e_framework::lab::kernels::Kernel;

/// First kernel version whose KVM saves the physical timer, and can give a guest a GIC of
/// revision 3.
const MIN_PHYSICAL_TIMER_VERSION: [u32; 2] = [6, 4];

/// Time in seconds for which a VMM waits for the other host. A host may have to boot first.
const PEER_TIMEOUT_SECONDS: u32 = 600;

/// Timeout for a trip, with all its attempts.
const TRIP_TIMEOUT: Duration = Duration::from_secs(600);

/// Shell functions of the scripts.
const FUNCTIONS: &str = "\
# move NAME COMMAND...: writes the output and the exit status of the command to /out/NAME.
move() {
    name=$1
    shift
    \"$@\" > /out/$name 2>&1
    echo $? > /out/$name.status
}
moved() { grep -q -e '^migrated: ' -e '^the guest runs here' /out/$1; }
refused() { [ \"$(cat /out/$1.status)\" = 1 ] && ! moved $1; }
";

/// Runner of trips between two hosts.
#[derive(Clone, Debug)]
pub(crate) struct TripRunner<'a> {
    pub(crate) hosts: HostPair<'a>,
    /// Program of the example VMM.
    pub(crate) program: &'a Path,
}

/// A move of a guest from one host to the other.
#[derive(Clone, Debug)]
pub(crate) struct Trip<'a> {
    /// Number of the source host.
    pub(crate) source_host: usize,
    /// Consents of successive attempts; `None` is without consent.
    pub(crate) consents: Vec<Option<&'a str>>,
    /// `true` if the guest moves back.
    pub(crate) has_return: bool,
    pub(crate) vcpus: u8,
}

/// One attempt of a trip.
#[derive(Clone, Debug)]
pub(crate) struct MoveAttempt {
    /// Consent of the attempt.
    pub(crate) consent: Option<String>,
    pub(crate) outbound: MoveOutcome,
    /// Outcome of the way back, if the trip has one and the guest moved.
    pub(crate) inbound: Option<MoveOutcome>,
}

/// Returns the name of the file with the output of a move, which is the same on both hosts.
fn output_file_name(trip: usize, attempt: usize, is_return: bool) -> String {
    let direction = if is_return { "inbound" } else { "outbound" };
    format!("trip{trip}-try{attempt}-{direction}")
}

impl TripRunner<'_> {
    /// Boots both hosts and makes these trips, one after another. Returns the outcome of each.
    ///
    /// # Errors
    /// Returns an error if a host does not boot or does not shut down. A trip that is neither a
    /// move nor a refusal has its own error, with the output of both hosts.
    pub(crate) fn run(&self, trips: &[Trip<'_>]) -> Result<Vec<Result<Vec<MoveAttempt>>>> {
        let time = TRIP_TIMEOUT.saturating_mul(u32::try_from(trips.len()).unwrap_or(u32::MAX));
        let jobs = [0, 1].map(|number| self.job(number, trips));
        self.hosts.run(&jobs, time)?;
        let trips = trips.iter().enumerate();
        Ok(trips
            .map(|(number, trip)| self.evaluate_trip(number, trip))
            .collect())
    }

    /// Returns the job of one host: its part of all trips.
    fn job(&self, number: usize, trips: &[Trip<'_>]) -> Job {
        let mut script = FUNCTIONS.to_owned();
        script += &self.hosts.setup_script(number);
        for (index, trip) in trips.iter().enumerate() {
            for attempt in 0..trip.consents.len() {
                if attempt > 0 {
                    let previous = output_file_name(index, attempt - 1, false);
                    let _ = writeln!(script, "if refused {previous}; then");
                }
                script += &self.attempt_lines(number, index, trip, attempt);
            }
            script += &"fi\n".repeat(trip.consents.len().saturating_sub(1));
        }
        Job {
            script,
            programs: vec![self.program.to_owned()],
            ..Job::default()
        }
    }

    /// Returns the script lines of one host for one attempt of a trip.
    fn attempt_lines(
        &self,
        number: usize,
        index: usize,
        trip: &Trip<'_>,
        attempt: usize,
    ) -> String {
        let accept = match trip.consents.get(attempt) {
            Some(Some(consent)) => format!(" --accept {}", shell_quote(consent)),
            _ => String::new(),
        };
        // Each attempt has its own ports, so that no host reaches the listener of another attempt.
        let port = 4000 + 20 * index + 2 * attempt;
        let endpoint = |address: &str, port: usize| {
            if self.hosts.serial {
                SERIAL_PORT.to_owned()
            } else {
                format!("{address}:{port}")
            }
        };
        let listen = |port| endpoint("0.0.0.0", port);
        let peer = |port| endpoint(address(1 - number), port);
        let name = output_file_name(index, attempt, false);
        if number == trip.source_host {
            let mut options = format!("--vcpus {}", trip.vcpus);
            if self.hosts.kernels.into_iter().any(lacks_physical_timer) {
                options += " --no-physical-timer --gic-revision 2";
            }
            if self.hosts.serial {
                options += " --memory 8";
            }
            let mut lines = format!(
                "move {name} cpreg-vmm send {} {options} --seconds-before 3 --timeout {PEER_TIMEOUT_SECONDS}\n",
                peer(port)
            );
            if trip.has_return {
                let _ = writeln!(
                    lines,
                    "moved {name} && move {} cpreg-vmm receive {}{accept} --seconds 3 --timeout {PEER_TIMEOUT_SECONDS}",
                    output_file_name(index, attempt, true),
                    listen(port + 1)
                );
            }
            lines
        } else {
            let then_send = if trip.has_return {
                format!(" --then-send {}", peer(port + 1))
            } else {
                String::new()
            };
            format!(
                "move {name} cpreg-vmm receive {}{accept} --seconds 3{then_send} --timeout {PEER_TIMEOUT_SECONDS}\n",
                listen(port)
            )
        }
    }

    /// Evaluates the attempts of a trip.
    fn evaluate_trip(&self, index: usize, trip: &Trip<'_>) -> Result<Vec<MoveAttempt>> {
        let results_of = |number| self.hosts.results_of(number);
        let (from, to) = (
            results_of(trip.source_host),
            results_of(1 - trip.source_host),
        );
        let mut attempts = Vec::new();
        for (attempt, consent) in trip.consents.iter().enumerate() {
            let name = output_file_name(index, attempt, false);
            let (source, destination) =
                (VmmOutput::read(&from, &name)?, VmmOutput::read(&to, &name)?);
            let with_results = |error: e2e_framework::Failure| {
                format!(
                    "{error}\n  (consoles and output: {}*)",
                    from.display()
                        .to_string()
                        .trim_end_matches(|character| character != '0')
                )
            };
            let outbound = evaluate(&source, &destination).map_err(with_results)?;
            let inbound = match outbound {
                MoveOutcome::Moved { .. } if trip.has_return => {
                    let return_output =
                        VmmOutput::read(&from, &output_file_name(index, attempt, true))?;
                    Some(
                        evaluate(&destination.after_arrival(), &return_output)
                            .map_err(with_results)?,
                    )
                }
                _ => None,
            };
            let is_refused = matches!(outbound, MoveOutcome::Refused { .. });
            attempts.push(MoveAttempt {
                consent: consent.map(str::to_owned),
                outbound,
                inbound,
            });
            if !is_refused {
                break;
            }
        }
        Ok(attempts)
    }
}

/// Returns `true` if this kernel's KVM does not save the physical timer.
pub(crate) fn lacks_physical_timer(kernel: &Kernel) -> bool {
    let numbers: Vec<u32> = kernel
        .release
        .split(|character: char| !character.is_ascii_digit())
        .take(2)
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers < MIN_PHYSICAL_TIMER_VERSION.to_vec()
}
