//! `cargo xtask test`, which is what CI runs.
//!
//! Every step runs, whatever became of the ones before it: one run tells everything that is wrong. A step whose tools are
//! missing fails; nothing is ever skipped.

use std::thread;
use std::time::Instant;

use crate::cargo::{Profile, Result, run as program, succeed};

/// What is done in a step.
type Step = fn() -> Result<()>;

/// Property tests try the same cases in every run: what fails here fails again, and is somebody's change. `cargo test` without it tries others
/// each time.
const SAME_CASES: (&str, &str) = ("PROPTEST_RNG_SEED", "20260823");

const STEPS: [(&str, Step); 6] = [
    ("formatting", || {
        succeed(&["fmt", "--all", "--", "--check"], &[])
    }),
    ("lints", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--quiet"];
        succeed(&[&arguments[..], &["--", "-D", "warnings"]].concat(), &[])
    }),
    ("tests", || {
        succeed(&["test", "--workspace", "--quiet"], &[SAME_CASES])
    }),
    ("loader models", || {
        program("e2e-model-check", "e2e-model-check", Profile::Dev, &[])
    }),
    ("real kernels", || {
        program("e2e-lab", "e2e-lab", Profile::Dev, &["test".into()])
    }),
    ("live tests", || {
        program("e2e-live", "e2e-live", Profile::Dev, &[])
    }),
];

/// Runs `cargo xtask test`.
///
/// # Errors
/// If a step fails; which, and the rest is above.
pub(crate) fn run() -> Result<()> {
    let fetch = |what: &str| program("e2e-framework", "e2e-fetch", Profile::Dev, &[what.into()]);
    // Installing is done by one at a time. What is missing the step that needs it says.
    if fetch("tools").is_ok() {
        thread::spawn(move || {
            let fetched = fetch("qemus")
                .and_then(|()| program("e2e-lab", "e2e-lab", Profile::Dev, &["fetch".into()]));
            if let Err(error) = fetched {
                eprintln!("not fetched ahead: {error}");
            }
        });
    }
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let start = Instant::now();
        if let Err(error) = step() {
            // Above the closing line of the live tests nothing must be lost, below it nothing must be added.
            eprintln!("{name}: {error}");
            failed.push(name);
        } else if name != "live tests" {
            println!("{name}: fine ({:.1?})", start.elapsed());
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed: {}", failed.join(", ")).into())
    }
}
