//! What the commands do.

use std::process::ExitCode;
use std::time::Duration;

use cpreg_vmm::kvm::machine::{self, Machine};
use cpreg_vmm::migrate::Failure;
use cpreg_vmm::protocol::Outline;

use crate::arguments::{Arguments, Command, Guest};
use crate::output::{say, watch};

/// How it ended, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status(u8);

impl Status {
    /// What was asked for was done, and the guest is well.
    const DONE: Self = Self(0);
    /// The other end, or this one, refused the guest.
    const REFUSED: Self = Self(1);
    /// Something failed.
    const FAILED: Self = Self(2);
    /// Nobody knows where the guest runs.
    const UNKNOWN: Self = Self(3);
    /// The guest lost something, or stands still.
    const GUEST: Self = Self(4);
}

/// Does what was asked for.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let done = match arguments.command {
        Command::Run { guest, seconds } => run_here(guest, seconds),
        _ => Ok(Status::FAILED),
    };
    let status = done.unwrap_or_else(|failure| {
        say(format_args!("error: {failure}"));
        Status::FAILED
    });
    ExitCode::from(status.0)
}

/// A guest that has begun to run.
fn boot(guest: Guest) -> Result<Machine, Failure> {
    let features = match guest.features {
        Some(features) => features,
        None => machine::features()?,
    };
    let mut machine = Machine::new(Outline {
        vcpus: guest.vcpus,
        features,
        memory: guest.memory << 20,
    })?;
    if let Some(revision) = guest.gic_revision {
        machine.gic().set_revision(revision)?;
    }
    machine.boot()?;
    machine.start()?;
    say(format_args!(
        "guest: started with {} vCPUs, features {features}",
        guest.vcpus
    ));
    Ok(machine)
}

fn well(is_well: bool) -> Status {
    if is_well { Status::DONE } else { Status::GUEST }
}

fn run_here(guest: Guest, seconds: u64) -> Result<Status, Failure> {
    let mut machine = boot(guest)?;
    let is_well = watch(&machine.report, Duration::from_secs(seconds));
    machine.stop()?;
    Ok(well(is_well))
}
