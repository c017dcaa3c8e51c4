//! `cargo xtask lab test`: what CI runs of the lab. Three kernels, old, stable and new, on a CPU without and one with what later architectures added.
//!
//! | module | what is shown |
//! |---|---|
//! | [`hosts`] | each host is what cpreg has recorded of it, and a recorded host behaves as it does |
//! | [`moves`] | the example VMM's guest moves there and back between each two kernels, or is refused for the reasons that are expected |
//! | [`relays`] | a guest of QEMU under KVM moves live through `cpreg relay`, where it does not without |
//! | [`faults`] | whoever dies or refuses in the middle: the guest runs in one place |
//!
//! And `lab clippy`. Everything is tried, whatever became of what came before; what each host said stays in `results/test` in the lab folder.

mod faults;
mod hosts;
mod moves;
mod relays;

use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use super::cpu::Cpu;
use super::kernels::{self, Kernel};
use super::{AT_A_TIME, Lab, toolchain};
use crate::{Result, debian, jobs};

const KERNELS: [&str; 3] = ["6.1.176", "6.12.107", "7.3.4"];
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// Where what hosts brought back stays, below `results`.
const RESULTS: &str = "test";

/// What is needed for all of it.
struct Bench<'a> {
    lab: &'a Lab,
    /// Where arm64 programs are.
    programs: &'a Path,
    tally: Tally,
}

/// What passed and what failed so far.
#[derive(Default)]
struct Tally(Mutex<Ended>);

#[derive(Default)]
struct Ended {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    /// Counts a test and says how it went.
    fn count(&self, name: &str, outcome: Result<()>) {
        let mut ended = match self.0.lock() {
            Ok(ended) => ended,
            Err(poisoned) => poisoned.into_inner(),
        };
        match outcome {
            Ok(()) => {
                println!("ok      {name}");
                ended.passed += 1;
            }
            Err(error) => {
                println!("FAILED  {name}\n{error}");
                ended.failed.push(name.to_owned());
            }
        }
    }
}

/// A boot that is made for several tests.
type Boot<'a> = Box<dyn Fn() + Send + Sync + 'a>;

/// `cargo xtask lab test`.
///
/// # Errors
/// If anything failed; which, and the rest is above.
pub(super) fn run(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    let tally = Tally::default();
    tally.count("clippy for arm64", toolchain::clippy(lab));
    let kernels = lab.alone(|| kernels(lab))?;
    let cpus: Result<Vec<_>> = CPUS.iter().map(|name| Cpu::parse(name)).collect();
    let cpus = cpus?;
    let programs =
        lab.programs_and_examples(&["cpreg-cli", "cpreg-vmm", "cpreg-kvm"], &[hosts::COMPARE])?;
    lab.prepare(true)?;
    debian::remove(&lab.folder.join("results").join(RESULTS))?;
    println!("made what is needed: {:.0?}", start.elapsed());

    let bench = Bench {
        lab,
        programs: &programs,
        tally,
    };
    let (bench, kernels, cpus) = (&bench, &kernels, &cpus);
    let mut boots: Vec<Boot<'_>> = Vec::new();
    for cpu in cpus {
        for kernel in kernels {
            boots.push(Box::new(move || hosts::test(bench, kernel, cpu)));
        }
    }
    let (kernel, cpu) = faults::host(kernels, cpus)?;
    boots.push(Box::new(move || faults::test(bench, kernel, cpu)));
    jobs::each(AT_A_TIME, boots.into_iter(), |boot| boot());
    println!("hosts and faults: {:.0?}", start.elapsed());

    // One after the other: each is two hosts.
    for cpu in cpus {
        for (place, first) in kernels.iter().enumerate() {
            for second in kernels.iter().skip(place + 1) {
                moves::test(bench, [first, second], cpu);
            }
        }
    }

    println!("moves: {:.0?}", start.elapsed());
    let (pair, cpu) = relays::hosts(kernels, cpus)?;
    relays::test(bench, pair, cpu);

    let ended = bench.tally.0.lock().map_err(|_| "a test died")?;
    let Ended { passed, failed } = &*ended;
    if !failed.is_empty() {
        println!(
            "consoles and all that was said: {}",
            lab.folder.join("results").join(RESULTS).display()
        );
    }
    println!(
        "lab: {passed} passed, {} failed ({:.0?})",
        failed.len(),
        start.elapsed()
    );
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join(", ").into())
    }
}

/// The kernels that are tested.
///
/// # Errors
/// If one cannot be fetched.
pub(super) fn kernels(lab: &Lab) -> Result<Vec<Kernel>> {
    kernels::named(&lab.folder, &KERNELS)
}

/// What tests say of a host.
fn named(kernel: &Kernel, cpu: &Cpu) -> String {
    format!("{}/{cpu}", kernel.version)
}
