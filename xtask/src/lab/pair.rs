//! Two emulated hosts that are connected, and the example VMM's guest, which moves between them: several trips in one boot of both.
//!
//! A trip goes from one host to the other, and perhaps back. Where it is refused it is tried again with the next of its consents. The hosts are connected by a
//! network of two, where both kernels have a driver at hand, else by a second serial line: QEMU's `virt` has a second PL011 if it is asked for one (9.1 and later),
//! `/dev/ttyAMA1` to every kernel.
//!
//! What the two ends said of a move is judged in [`judge`]: what moved lost nothing and goes on there, and what was refused goes on here; anything else
//! is a failure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Lab;
use super::boot::{Host, Wire};
use super::cpu::Cpu;
use super::job::{Job, quoted};
use super::judge::{Outcome, Said, judge};
use super::kernels::Kernel;
use crate::Result;

/// The second serial port of the machine.
const SERIAL: &str = "/dev/ttyAMA1";

/// From here on KVM saves the physical timer, and plays revision 3 of its GIC.
const PHYSICAL_TIMER: [u32; 2] = [6, 4];

/// For how long an end waits for the other one, in seconds: a host may have to boot first.
const TIMEOUT: u32 = 150;

/// For how long a trip may take, with all that is tried.
const TRIP: Duration = Duration::from_secs(150);

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
pub(super) struct Pair<'a> {
    pub(super) lab: &'a Lab,
    pub(super) cpu: &'a Cpu,
    pub(super) kernels: [&'a Kernel; 2],
    pub(super) serial: bool,
    /// The example VMM.
    pub(super) program: &'a Path,
    /// The folder below `results` where what they said stays.
    pub(super) results: &'a str,
}

/// A guest that goes from one of them to the other.
#[derive(Clone, Debug)]
pub(super) struct Trip<'a> {
    /// Which host it starts at.
    pub(super) from: usize,
    /// What is consented to, one after another while it is refused; `None` is nothing.
    pub(super) consents: Vec<Option<&'a str>>,
    /// Whether it comes back.
    pub(super) back: bool,
    pub(super) vcpus: &'a str,
}

/// One try of a trip.
#[derive(Clone, Debug)]
pub(super) struct Try {
    /// What was consented to.
    pub(super) consent: Option<String>,
    pub(super) there: Outcome,
    /// If it went there and was to come back.
    pub(super) back: Option<Outcome>,
}

/// The file that has what both ends said of a move.
fn file(trip: usize, attempt: usize, back: bool) -> String {
    let way = if back { "back" } else { "there" };
    format!("trip{trip}-try{attempt}-{way}")
}

impl Pair<'_> {
    /// Whether a pair of kernels needs the serial line.
    pub(super) fn needs_serial(kernels: [&Kernel; 2]) -> bool {
        !kernels.iter().all(|kernel| kernel.has_network())
    }

    /// Boots both and makes these trips, one after another. Gives what came of each.
    ///
    /// # Errors
    /// If a host does not boot or not end; of a trip, what both ends said if that is neither a move nor a refusal.
    pub(super) fn run(&self, trips: &[Trip<'_>]) -> Result<Vec<Result<Vec<Try>>>> {
        // A socket's path has a hundred characters; the lab folder's may have more.
        let sockets = tempfile::Builder::new().prefix("cpreg-lab-").tempdir()?;
        let socket = sockets.path().join("wire");
        let wire = |listens| {
            let socket = socket.clone();
            if self.serial {
                Wire::Serial { socket, listens }
            } else {
                Wire::Network { socket, listens }
            }
        };
        let start = |number: usize| {
            let mut host = Host::new(self.kernels[number], self.cpu);
            host.wire = Some(wire(number == 1));
            host.limit += TRIP.saturating_mul(u32::try_from(trips.len()).unwrap_or(u32::MAX));
            host.run(self.lab, &self.job(number, trips), &self.results_of(number))
        };
        thread::scope(|scope| {
            let second = scope.spawn(|| start(1));
            let first = start(0);
            let second = second
                .join()
                .unwrap_or_else(|_| Err("a thread died".into()));
            first.and(second)
        })?;
        let trips = trips.iter().enumerate();
        Ok(trips
            .map(|(number, trip)| self.tries(number, trip))
            .collect())
    }

    /// Where what a host brought back is.
    fn results_of(&self, number: usize) -> PathBuf {
        let [first, second] = self.kernels.map(|kernel| &kernel.version);
        let end = self.kernels[number].version.as_str();
        let name = format!("{first}__{second}__{}__{number}_{end}", self.cpu);
        self.lab
            .folder
            .join("results")
            .join(self.results)
            .join(name)
    }

    fn job(&self, number: usize, trips: &[Trip<'_>]) -> Job {
        let mut script = FUNCTIONS.to_owned();
        if self.serial {
            // A kernel that does not see the second port must say so, and not wait for it.
            let _ = writeln!(
                script,
                "[ -c {SERIAL} ] || {{ echo 'no {SERIAL} here' > /out/said; exit 2; }}"
            );
        } else {
            let _ = writeln!(
                script,
                "ifconfig eth0 {} netmask 255.255.255.0 up",
                address(number)
            );
        }
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
            Some(Some(consent)) => format!(" --accept {}", quoted(consent)),
            _ => String::new(),
        };
        // Ports of their own: nobody reaches who listens for another try.
        let port = 4000 + 20 * place + 2 * attempt;
        let line = |address: &str, port: usize| {
            if self.serial {
                SERIAL.to_owned()
            } else {
                format!("{address}:{port}")
            }
        };
        let listen = |port| line("0.0.0.0", port);
        let peer = |port| line(address(1 - number), port);
        let there = file(place, attempt, false);
        if number == trip.from {
            let mut options = format!("--vcpus {}", quoted(trip.vcpus));
            if self.kernels.into_iter().any(lacks_physical_timer) {
                options += " --no-physical-timer --gic-revision 2";
            }
            if self.serial {
                options += " --memory 8";
            }
            let mut lines = format!(
                "move {there} cpreg-vmm send {} {options} --before 3 --timeout {TIMEOUT}\n",
                peer(port)
            );
            if trip.back {
                let _ = writeln!(
                    lines,
                    "moved {there} && move {} cpreg-vmm receive {}{accept} --seconds 3 --timeout {TIMEOUT}",
                    file(place, attempt, true),
                    listen(port + 1)
                );
            }
            lines
        } else {
            let then_send = if trip.back {
                format!(" --then-send {}", peer(port + 1))
            } else {
                String::new()
            };
            format!(
                "move {there} cpreg-vmm receive {}{accept} --seconds 3{then_send} --timeout {TIMEOUT}\n",
                listen(port)
            )
        }
    }

    /// What became of a trip.
    fn tries(&self, place: usize, trip: &Trip<'_>) -> Result<Vec<Try>> {
        let (from, to) = (self.results_of(trip.from), self.results_of(1 - trip.from));
        let mut tries = Vec::new();
        for (attempt, consent) in trip.consents.iter().enumerate() {
            let name = file(place, attempt, false);
            let (source, destination) = (Said::read(&from, &name)?, Said::read(&to, &name)?);
            let at = |error: crate::Failure| {
                format!(
                    "{error}\n  (consoles and all that was said: {}*)",
                    from.display().to_string().trim_end_matches(|it| it != '0')
                )
            };
            let there = judge(&source, &destination).map_err(at)?;
            let back = match there {
                Outcome::Moved { .. } if trip.back => {
                    let home = Said::read(&from, &file(place, attempt, true))?;
                    Some(judge(&destination.once_here(), &home).map_err(at)?)
                }
                _ => None,
            };
            let is_refused = matches!(there, Outcome::Refused { .. });
            tries.push(Try {
                consent: consent.map(str::to_owned),
                there,
                back,
            });
            if !is_refused {
                break;
            }
        }
        Ok(tries)
    }
}

const fn address(number: usize) -> &'static str {
    if number == 0 { "10.0.0.1" } else { "10.0.0.2" }
}

/// Whether KVM of that kernel leaves the physical timer out of what it saves.
pub(super) fn lacks_physical_timer(kernel: &Kernel) -> bool {
    let numbers: Vec<u32> = kernel
        .release
        .split(|character: char| !character.is_ascii_digit())
        .take(2)
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers < PHYSICAL_TIMER.to_vec()
}
