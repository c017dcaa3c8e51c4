//! Save images moved between two generations of libvirt, without and with `cpreg convert`.
//!
//! | module | content |
//! |---|---|
//! | [`host`] | the two hosts |
//! | [`cases`] | the cases, and what must hold |
//! | [`hooks`] | cases in which libvirt calls cpreg |
//! | [`steps`] | the VM of all cases, and steps that several cases share |
//! | [`proxmox`] | a hookscript of Proxmox VE, called as Proxmox VE does |

#![forbid(unsafe_code)]
// The tests print for their user.
#![expect(clippy::print_stdout, clippy::print_stderr)]

mod cases;
mod hooks;
mod host;
mod proxmox;
mod steps;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::{self, Guest, TIMER_SECONDS};

use self::host::{Host, NEW, OLD};

/// Save images of one libvirt, restored by another
#[derive(Debug, Parser)]
#[command(
    name = "libvirt",
    bin_name = "cargo xtask libvirt",
    max_term_width = 100
)]
struct Arguments {
    /// Only fetch the packages of the two hosts
    #[arg(long)]
    fetch: bool,
    /// Words that must all occur in the name of a case
    words: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the selected cases; returns `true` if all succeed.
fn run(arguments: &Arguments) -> Result<bool> {
    host::ensure()?;
    if arguments.fetch {
        return Ok(true);
    }
    let cases = cases::all().into_iter().filter(|case| {
        let name = case.to_string();
        arguments.words.iter().all(|word| name.contains(word))
    });
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Err("no case matches".into());
    }
    let guests = guest::assemble()?;
    let image = guests.image(Guest::Live, TIMER_SECONDS[0]);
    let cpreg = Cpreg::build()?;
    let hosts = [Host::start(OLD)?, Host::start(NEW)?];
    let fixture = cases::Fixture::new(hosts, &cpreg, image)?;
    let mut failed = 0;
    for case in &cases {
        let start = Instant::now();
        match fixture.run(case) {
            Ok(()) => println!("ok      {case}  {:.1?}", start.elapsed()),
            Err(error) => {
                failed += 1;
                println!("FAILED  {case}  {:.1?}\n{error}", start.elapsed());
            }
        }
    }
    println!("{} passed, {failed} failed", cases.len() - failed);
    Ok(failed == 0)
}
