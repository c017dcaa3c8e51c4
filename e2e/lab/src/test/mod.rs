//! `cargo xtask lab test`: the lab tests that CI runs, with an old, a stable and a new kernel. Each
//! runs on two CPU models: one without and one with the features of later architectures.
//!
//! | module | claim |
//! |---|---|
//! | [`hosts`] | each host matches its record, and a recorded host behaves as the real one |
//! | [`moves`] | the example VMM's guest makes round trips, or is refused as expected |
//! | [`relays`] | a guest of QEMU under KVM moves live with cpreg, and not without it |
//! | [`faults`] | if either VMM dies or refuses, the guest runs in exactly one place |
//!
//! [`fixture`] has the shared parts. `lab clippy` runs too. A failed test does not
//! prevent the following ones. The output of each host stays in `results/test` in the lab folder.

mod faults;
mod fixture;
mod hosts;
mod moves;
mod relays;

use std::time::Instant;

use self::fixture::{Fixture, RESULTS, Tally, TestCounts};
use crate::fields::ID_FIELDS;
use crate::interposed::RunPrograms;
use crate::lints;
use crate::options::MAX_CONCURRENT_HOSTS;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::{self, Kernel};
use e2e_framework::lab::toolchain::Toolchain;
use e2e_framework::{Result, debian, parallel};

const KERNELS: [&str; 3] = ["6.1.176", "6.12.107", "7.3.4"];
const CPUS: [&str; 2] = ["neoverse-n1", "max"];

/// A boot that runs several tests.
type BootTask<'a> = Box<dyn Fn() + Send + Sync + 'a>;

/// Runs `cargo xtask lab test`.
///
/// # Errors
/// Returns an error if any test failed, with the names of the failed tests. The output has the
/// details.
pub(crate) fn run(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    let tally = Tally::default();
    tally.count("clippy for arm64", lints::run(lab));
    let kernels = lab.with_make_lock(|| kernels(lab))?;
    let cpus: Result<Vec<_>> = CPUS.iter().map(|name| Cpu::parse(name)).collect();
    let cpus = cpus?;
    let programs = lab.build_programs_and_examples(
        &["cpreg-cli", "cpreg-vmm", "cpreg-kvm"],
        &[hosts::COMPARE, ID_FIELDS],
    )?;
    let run_programs = RunPrograms::build(lab)?;
    lab.prepare(true)?;
    debian::remove(&lab.folder.join("results").join(RESULTS))?;
    println!("prepared: {:.0?}", start.elapsed());

    let fixture = Fixture {
        lab,
        programs: &programs,
        run_programs: &run_programs,
        tally,
    };
    let (fixture, kernels, cpus) = (&fixture, &kernels, &cpus);
    let mut boots: Vec<BootTask<'_>> = Vec::new();
    for cpu in cpus {
        for kernel in kernels {
            boots.push(Box::new(move || hosts::test(fixture, kernel, cpu)));
        }
    }
    let (kernel, cpu) = faults::host(kernels, cpus)?;
    boots.push(Box::new(move || faults::test(fixture, kernel, cpu)));
    parallel::for_each(MAX_CONCURRENT_HOSTS, boots.into_iter(), |boot| boot());
    println!("hosts and faults: {:.0?}", start.elapsed());

    // Pairs run one after another, because each pair boots two hosts already.
    for cpu in cpus {
        for (index, first) in kernels.iter().enumerate() {
            for second in kernels.iter().skip(index + 1) {
                moves::test(fixture, [first, second], cpu);
            }
        }
    }

    println!("moves: {:.0?}", start.elapsed());
    let (pair, cpu) = relays::hosts(kernels, cpus)?;
    relays::test(fixture, pair, cpu);

    let counts = fixture.tally.0.lock().map_err(|_| "a test panicked")?;
    let TestCounts { passed, failed } = &*counts;
    if !failed.is_empty() {
        println!(
            "consoles and output: {}",
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

/// Fetches the inputs of all tests. Builds nothing.
///
/// # Errors
/// Returns an error if a download fails.
pub(crate) fn fetch(lab: &Lab) -> Result<()> {
    lab.prepare(false)?;
    lab.with_make_lock(|| kernels(lab).map(drop))?;
    lab.with_make_lock(|| Toolchain::ensure(&lab.folder).map(drop))
}

/// Returns the tested kernels.
///
/// # Errors
/// Returns an error if a kernel cannot be fetched.
fn kernels(lab: &Lab) -> Result<Vec<Kernel>> {
    kernels::fetch_versions(&lab.folder, &KERNELS)
}
