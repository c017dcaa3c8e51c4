//! What the tests share: the lab, the programs, and what passed.

use std::path::Path;
use std::sync::Mutex;

use e2e_framework::Result;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::folder::Lab;
use e2e_framework::lab::kernels::Kernel;

/// Where what hosts brought back stays, below `results`.
pub(crate) const RESULTS: &str = "test";

/// What is needed for all of it.
pub(crate) struct Fixture<'a> {
    pub(crate) lab: &'a Lab,
    /// Where arm64 programs are.
    pub(crate) programs: &'a Path,
    pub(crate) tally: Tally,
}

/// What passed and what failed so far.
#[derive(Default)]
pub(crate) struct Tally(pub(crate) Mutex<TestCounts>);

#[derive(Default)]
pub(crate) struct TestCounts {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
}

impl Tally {
    /// Counts a test and says how it went.
    pub(crate) fn count(&self, name: &str, outcome: Result<()>) {
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

/// What tests say of a host.
pub(crate) fn host_label(kernel: &Kernel, cpu: &Cpu) -> String {
    format!("{}/{cpu}", kernel.version)
}
