//! [`CaseCounts`]: cases that run one after the other.

use std::fmt::Display;
use std::time::Instant;

use crate::Result;

/// Numbers of the cases that passed and failed.
#[derive(Debug, Default)]
pub struct CaseCounts {
    passed: usize,
    failed: usize,
}

impl CaseCounts {
    /// Runs a case, and prints its result with the note that it returns.
    pub fn run(&mut self, case: &impl Display, run: impl FnOnce() -> Result<String>) {
        let start = Instant::now();
        match run() {
            Ok(note) => {
                self.passed += 1;
                println!("ok      {case}  {:.1?}{note}", start.elapsed());
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED  {case}  {:.1?}\n{error}", start.elapsed());
            }
        }
    }

    /// Prints the numbers. Returns `true` if no case failed.
    pub fn print(&self) -> bool {
        println!("{} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}
