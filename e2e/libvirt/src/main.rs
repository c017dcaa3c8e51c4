//! VMs moved between two generations of libvirt, without and with cpreg: save images, and live
//! migrations through `cpreg relay --serve`.
//!
//! | module | content |
//! |---|---|
//! | [`host`] | the two hosts |
//! | [`cases`] | the cases with save images, and what must hold |
//! | [`hooks`] | cases in which libvirt calls cpreg |
//! | [`steps`] | the VM of all cases, and steps that several cases share |
//! | [`proxmox`] | a hookscript of Proxmox VE, called as Proxmox VE does |
//! | [`live`] | the live migrations, and what must hold |
//! | [`faults`] | live migrations during which something fails |
//! | [`pair`] | the two hosts and the VMs of a live migration |
//! | [`monitor`] | a second monitor of a QEMU |
//! | [`relay`] | the service at the destination |
//! | [`certificates`] | certificates for TLS |

#![forbid(unsafe_code)]
// The tests print for their user.
#![expect(clippy::print_stdout)]

mod cases;
mod certificates;
mod faults;
mod hooks;
mod host;
mod live;
mod monitor;
mod pair;
mod proxmox;
mod relay;
mod steps;

use std::process::ExitCode;

use clap::Parser;
use e2e_framework::Result;
use e2e_framework::case_counts::CaseCounts;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::guest::{self, Guest, TIMER_SECONDS};

use self::host::{Host, NEW, OLD};

/// VMs of one libvirt, restored by or migrated to another
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
    e2e_framework::exit_code(run(&Arguments::parse()))
}

/// Runs the selected cases; returns `true` if all succeed.
fn run(arguments: &Arguments) -> Result<bool> {
    host::ensure()?;
    if arguments.fetch {
        return Ok(true);
    }
    let matches = |name: String| arguments.words.iter().all(|word| name.contains(word));
    let mut saved = cases::all();
    saved.retain(|case| matches(case.to_string()));
    let mut live = live::all();
    live.retain(|case| matches(case.to_string()));
    if saved.is_empty() && live.is_empty() {
        return Err("no case matches".into());
    }
    let guests = guest::assemble()?;
    let image = guests.image(Guest::Live, TIMER_SECONDS[0]);
    let cpreg = Cpreg::build()?;
    let hosts = [Host::start(OLD)?, Host::start(NEW)?];
    host::connect([&hosts[0], &hosts[1]])?;
    let fixture = cases::Fixture::new(hosts, &cpreg, image)?;
    let mut counts = CaseCounts::default();
    for case in &saved {
        counts.run(case, || fixture.run(case).map(|()| String::new()));
    }
    if !live.is_empty() {
        let live_fixture = live::Fixture::new(fixture.hosts())?;
        for case in &live {
            counts.run(case, || live_fixture.run(case).map(|()| String::new()));
        }
    }
    Ok(counts.print())
}
