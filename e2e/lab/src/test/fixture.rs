//! Shared parts of the tests: the lab, the programs, and the counts of results.

use std::path::Path;
use std::sync::Mutex;

use crate::interposed::RunPrograms;
use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::Kernel;

/// Folder below `results` for the results of hosts.
pub(crate) const RESULTS: &str = "test";

/// Environment of the tests.
pub(crate) struct Fixture<'a> {
    pub(crate) lab: &'a Lab,
    /// Folder of the arm64 programs.
    pub(crate) programs: &'a Path,
    pub(crate) run_programs: &'a RunPrograms,
    pub(crate) tally: Tally,
}

/// Counts of passed and failed tests.
#[derive(Default)]
pub(crate) struct Tally(pub(crate) Mutex<TestCounts>);

#[derive(Default)]
pub(crate) struct TestCounts {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
}

impl Tally {
    /// Counts a test and prints its outcome.
    pub(crate) fn count(&self, name: &str, outcome: Result<()>) {
        let mut counts = match self.0.lock() {
            Ok(counts) => counts,
            Err(poisoned) => poisoned.into_inner(),
        };
        match outcome {
            Ok(()) => {
                println!("ok      {name}");
                counts.passed += 1;
            }
            Err(error) => {
                println!("FAILED  {name}\n{error}");
                counts.failed.push(name.to_owned());
            }
        }
    }
}

/// Returns the label of a host in test names.
pub(crate) fn host_label(kernel: &Kernel, cpu: &Cpu) -> String {
    format!("{}/{cpu}", kernel.version)
}
