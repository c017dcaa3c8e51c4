//! `cargo xtask lab test`: what CI runs of the lab. Three kernels, old, stable and new, on a CPU without and one with what later architectures added.
//!
//! | module | what is shown |
//! |---|---|
//! | [`hosts`] | each host is what cpreg has recorded of it, and a recorded host behaves as it does |
//! | [`moves`] | the example VMM's guest moves there and back between each two kernels, or is refused for the reasons that are expected |
//! | [`relays`] | a guest of QEMU under KVM moves live through `cpreg relay`, where it does not without |
//! | [`faults`] | whoever dies or refuses in the middle: the guest runs in one place |
//!
//! [`fixture`] has what they share. And `lab clippy`. Everything is tried, whatever became of what came before; what each host said stays in `results/test` in the lab folder.

mod faults;
mod fixture;
mod hosts;
mod moves;
mod relays;

use std::time::Instant;

use self::fixture::{Fixture, RESULTS, Tally, TestCounts};
use crate::lints;
use crate::options::MAX_CONCURRENT_HOSTS;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::lab::toolchain::Toolchain;
use e2e_framework::{Result, debian, parallel};

const KERNELS: [&str; 3] = ["6.1.176", "6.12.107", "7.3.4"];
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// A boot that is made for several tests.
type BootTask<'a> = Box<dyn Fn() + Send + Sync + 'a>;

/// `cargo xtask lab test`.
///
/// # Errors
/// If anything failed; which, and the rest is above.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    let tally = Tally::default();
    tally.count("clippy for arm64", lints::run(lab));
    let kernels = lab.with_make_lock(|| kernels(lab))?;
    let cpus: Result<Vec<_>> = CPUS.iter().map(|name| Cpu::parse(name)).collect();
    let cpus = cpus?;
    let programs = lab
        .build_programs_and_examples(&["cpreg-cli", "cpreg-vmm", "cpreg-kvm"], &[hosts::COMPARE])?;
    lab.prepare(true)?;
    debian::remove(&lab.folder.join("results").join(RESULTS))?;
    println!("made what is needed: {:.0?}", start.elapsed());

    let bench = Fixture {
        lab,
        programs: &programs,
        tally,
    };
    let (bench, kernels, cpus) = (&bench, &kernels, &cpus);
    let mut boots: Vec<BootTask<'_>> = Vec::new();
    for cpu in cpus {
        for kernel in kernels {
            boots.push(Box::new(move || hosts::test(bench, kernel, cpu)));
        }
    }
    let (kernel, cpu) = faults::host(kernels, cpus)?;
    boots.push(Box::new(move || faults::test(bench, kernel, cpu)));
    parallel::for_each(MAX_CONCURRENT_HOSTS, boots.into_iter(), |boot| boot());
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
    let TestCounts { passed, failed } = &*ended;
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

/// Fetches what all of it needs. Nothing is built.
///
/// # Errors
/// If something cannot be fetched.
pub(crate) fn fetch(lab: &Lab) -> Result<()> {
    lab.prepare(false)?;
    lab.with_make_lock(|| kernels(lab).map(drop))?;
    lab.with_make_lock(|| Toolchain::ensure(&lab.folder).map(drop))
}

/// The kernels that are tested.
///
/// # Errors
/// If one cannot be fetched.
fn kernels(lab: &Lab) -> Result<Vec<Kernel>> {
    kernels::fetch_versions(&lab.folder, &KERNELS)
}
