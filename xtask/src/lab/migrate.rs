//! `cargo xtask lab migrate`: the example VMM's guest moves live between two emulated hosts, with each of the kernels and to each other.
//!
//! The hosts are connected by a network of two, where both kernels have a driver at hand, else by a second serial line: QEMU's `virt` has a second PL011 if it is
//! asked for one (9.1 and later), `/dev/ttyAMA1` to every kernel.
//!
//! A move is well if the guest goes on at the destination and lost nothing, or if it was refused with reasons and goes on at the source. That much the
//! VMM's exit status says: 0 and 1. Anything else fails the task.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Lab;
use super::boot::{Host, Wire};
use super::cpu::Cpu;
use super::job::{Job, quoted};
use super::kernels::Kernel;
use super::options::Options;
use super::record::chosen;
use crate::Result;

/// What is taken if no kernel is named: one of each way to list registers, old, stable and new.
const KERNELS: [&str; 3] = ["6.1.176", "6.12.107", "7.3.4"];
const CPU: &str = "neoverse-n1";

/// Where the receiver listens on the network of two.
const RECEIVER: &str = "10.0.0.2:4000";
/// The second serial port of the machine.
const SERIAL: &str = "/dev/ttyAMA1";

/// From here on KVM saves the physical timer, and plays revision 3 of its GIC.
const PHYSICAL_TIMER: [u32; 2] = [6, 4];

/// How a move ended.
#[derive(Debug)]
struct Moved {
    /// Whether the guest runs at the destination; else it was refused.
    at_destination: bool,
    /// What the VMM said of it.
    summary: String,
}

/// `cargo xtask lab migrate`.
///
/// # Errors
/// If a move neither succeeds nor is refused.
pub(super) fn run(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let options = Options::parse(
        arguments,
        &["--kernel", "--kernel-image", "--cpu", "--accept", "--vcpus"],
        &["--serial", "--itself"],
    )?;
    let kernels = if options.all("--kernel").is_empty() && options.all("--kernel-image").is_empty()
    {
        lab.alone(|| super::kernels::named(&lab.folder, &KERNELS))?
    } else {
        chosen(lab, &options)?
    };
    let mut names = options.all("--cpu");
    if names.is_empty() {
        names.push(CPU);
    }
    let cpus: Result<Vec<_>> = names.iter().map(|name| Cpu::parse(name)).collect();
    let accept = options.last("--accept").unwrap_or("low");
    let vcpus = options.last("--vcpus").unwrap_or("1");
    let programs = lab.programs(&["cpreg-vmm"])?;
    lab.prepare(false)?;
    let mut failed = Vec::new();
    // One pair after the other: each is two hosts.
    for cpu in &cpus? {
        for from in &kernels {
            for to in &kernels {
                if from.version == to.version && !options.has("--itself") {
                    continue;
                }
                let start = Instant::now();
                let serial = options.has("--serial") || !from.has_network() || !to.has_network();
                let pair = Pair {
                    lab,
                    cpu,
                    from,
                    to,
                    serial,
                    program: &programs.join("cpreg-vmm"),
                    accept,
                    vcpus,
                };
                let name = format!("{} -> {} on {cpu}", from.version, to.version);
                let wire = if serial { "serial line" } else { "network" };
                match pair.run() {
                    Ok(Moved {
                        at_destination,
                        summary,
                    }) => {
                        let word = if at_destination { "moved" } else { "refused" };
                        println!(
                            "{word:<8}{name}, {wire}, {:.1?}\n{summary}",
                            start.elapsed()
                        );
                    }
                    Err(error) => {
                        println!("FAILED  {name}, {wire}, {:.1?}", start.elapsed());
                        failed.push(format!("{name}: {error}"));
                    }
                }
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// Two hosts.
struct Pair<'a> {
    lab: &'a Lab,
    cpu: &'a Cpu,
    from: &'a Kernel,
    to: &'a Kernel,
    serial: bool,
    program: &'a Path,
    accept: &'a str,
    vcpus: &'a str,
}

impl Pair<'_> {
    fn run(&self) -> Result<Moved> {
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
        let place = |end: &str| {
            let name = format!(
                "{}__{}__{}__{end}",
                self.from.version, self.to.version, self.cpu
            );
            self.lab.folder.join("results/migrate").join(name)
        };
        let (sent, received) = (place("source"), place("destination"));
        let start = |kernel, listens, job: Job, results| {
            let mut host = Host::new(kernel, self.cpu);
            host.wire = Some(wire(listens));
            host.limit = Duration::from_secs(240);
            host.run(self.lab, &job, results)
        };
        thread::scope(|scope| {
            let receiver = scope.spawn(|| start(self.to, true, self.receiver(), &received));
            let source = start(self.from, false, self.sender(), &sent);
            let destination = receiver
                .join()
                .unwrap_or_else(|_| Err("a thread died".into()));
            source.and(destination)
        })?;
        judge(&said(&sent)?, &said(&received)?)
    }

    fn sender(&self) -> Job {
        let address = if self.serial { SERIAL } else { RECEIVER };
        let mut line = format!(
            "cpreg-vmm send {address} --vcpus {} --timeout 90",
            quoted(self.vcpus)
        );
        if [self.from, self.to].into_iter().any(lacks_physical_timer) {
            line += " --no-physical-timer --gic-revision 2";
        }
        if self.serial {
            line += " --memory 8";
        }
        self.job("10.0.0.1", &line)
    }

    fn receiver(&self) -> Job {
        let address = if self.serial { SERIAL } else { "0.0.0.0:4000" };
        let line = format!(
            "cpreg-vmm receive {address} --accept {} --timeout 90",
            quoted(self.accept)
        );
        self.job("10.0.0.2", &line)
    }

    fn job(&self, address: &str, line: &str) -> Job {
        let mut script = String::new();
        if self.serial {
            // A kernel that does not see the second port must say so, and not wait for it.
            let _ = writeln!(
                script,
                "[ -c {SERIAL} ] || {{ echo 'no {SERIAL} here' > /out/said; exit 2; }}"
            );
        } else {
            let _ = writeln!(script, "ifconfig eth0 {address} netmask 255.255.255.0 up");
        }
        let _ = writeln!(script, "{line} > /out/said 2>&1");
        Job {
            script,
            programs: vec![self.program.to_owned()],
            ..Job::default()
        }
    }
}

fn lacks_physical_timer(kernel: &Kernel) -> bool {
    let numbers: Vec<u32> = kernel
        .release
        .split(|character: char| !character.is_ascii_digit())
        .take(2)
        .filter_map(|number| number.parse().ok())
        .collect();
    numbers < PHYSICAL_TIMER.to_vec()
}

/// What one end said, and its exit status.
struct Said {
    text: String,
    status: String,
}

fn said(results: &Path) -> Result<Said> {
    let read = |name: &str| fs::read_to_string(results.join(name));
    Ok(Said {
        text: read("said")?,
        status: read("status")?.trim().to_owned(),
    })
}

/// Whether both ends agree on how it went.
fn judge(source: &Said, destination: &Said) -> Result<Moved> {
    let both = format!(
        "  source ({}):\n{}  destination ({}):\n{}",
        source.status,
        indented(&source.text),
        destination.status,
        indented(&destination.text)
    );
    let lines = |said: &Said, start: &str| {
        let found = said.text.lines().filter(|line| line.starts_with(start));
        found.map(str::to_owned).collect::<Vec<_>>()
    };
    let last_of_guest = |said: &Said| lines(said, "guest:").pop().unwrap_or_default();
    match (source.status.as_str(), destination.status.as_str()) {
        ("0", "0") => Ok(Moved {
            at_destination: true,
            summary: format!(
                "        {}\n        there: {}",
                lines(source, "migrated").join("; "),
                last_of_guest(destination)
            ),
        }),
        ("1", "1") if source.text.contains("the guest goes on at the source") => Ok(Moved {
            at_destination: false,
            summary: format!(
                "        {}\n        here: {}",
                lines(source, "refused").join("\n        "),
                last_of_guest(source)
            ),
        }),
        _ => Err(both.into()),
    }
}

fn indented(text: &str) -> String {
    text.lines()
        .fold(String::new(), |all, line| all + "    " + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, status: &str) -> Said {
        Said {
            text: text.to_owned(),
            status: status.to_owned(),
        }
    }

    #[test]
    fn a_move_is_judged_by_both_ends() {
        let moved = judge(
            &said("migrated: pre-copied 3 pages\n", "0"),
            &said("guest: 9 rounds\n", "0"),
        );
        assert!(moved.unwrap().at_destination);
        let refused = "refused: PSCI_VERSION\nthe guest goes on at the source\nguest: 3 rounds\n";
        let stayed = judge(&said(refused, "1"), &said("refused: PSCI_VERSION\n", "1")).unwrap();
        assert!(!stayed.at_destination);
        assert!(stayed.summary.contains("PSCI_VERSION"));
        // One end alone does not count.
        assert!(judge(&said(refused, "1"), &said("", "0")).is_err());
        assert!(judge(&said("refused: x\n", "1"), &said("", "1")).is_err());
        assert!(judge(&said("", "0"), &said("guest: lost\n", "4")).is_err());
    }
}
