//! Labels of `cpreg fleet`, read by the programs that obey them.
//!
//! | module | content |
//! |---|---|
//! | [`fixture`] | what all cases share |
//! | [`fleet`] | the command under test, and its fleet |
//! | [`python`] | programs from the Python package index, in a folder of their own |
//! | [`nfd`] | documented rules of Node Feature Discovery for a features file |
//! | [`daemon_set`] | the containers of `packaging/kubernetes` |
//! | [`kubectl`] | kubectl of Debian |
//! | [`cases`] | the cases, and what must hold |
#![forbid(unsafe_code)]

mod cases;
mod daemon_set;
mod fixture;
mod fleet;
mod kubectl;
mod nfd;
mod python;

use std::process::ExitCode;

use clap::Parser;
use e2e_framework::Result;
use e2e_framework::case_counts::CaseCounts;
use e2e_framework::tool::{self, Tool};

use self::cases::CASES;
use self::fleet::Fleet;
use self::python::Python;

/// Programs of Debian.
const TOOLS: [Tool; 5] = [
    Tool {
        program: "unshare",
        package: "util-linux",
    },
    Tool {
        program: "openssl",
        package: "openssl",
    },
    Tool {
        program: "promtool",
        package: "prometheus",
    },
    Tool {
        program: "hbal",
        package: "ganeti-htools",
    },
    Tool {
        program: "python3",
        package: "python3-venv",
    },
];

/// Test that real programs obey the labels of `cpreg fleet`
#[derive(Debug, Parser)]
#[command(name = "fleet", bin_name = "cargo xtask fleet", max_term_width = 100)]
struct Arguments {
    /// Words that must all occur in the name of a case
    words: Vec<String>,
}

fn main() -> ExitCode {
    e2e_framework::exit_code(run(&Arguments::parse()))
}

/// Runs the selected cases; returns `true` if all succeed.
fn run(arguments: &Arguments) -> Result<bool> {
    let is_selected = |name: &str| arguments.words.iter().all(|word| name.contains(word));
    let cases = CASES.iter().filter(|case| is_selected(case.name));
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Err("no case matches".into());
    }
    tool::ensure_installed(&TOOLS)?;
    let fixture = fixture::Fixture {
        fleet: Fleet::new()?,
        python: Python::install()?,
        kubectl: kubectl::install()?,
    };
    let mut counts = CaseCounts::default();
    for case in &cases {
        counts.run(&case.name, || (case.run)(&fixture));
    }
    Ok(counts.print())
}
