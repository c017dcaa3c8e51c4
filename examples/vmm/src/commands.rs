//! What the commands do.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;
use std::time::Duration;

use cpreg::plan::Consents;
use cpreg_vmm::kvm::bench;
use cpreg_vmm::kvm::machine::{self, Machine};
use cpreg_vmm::kvm::target::Here;
use cpreg_vmm::link::Link;
use cpreg_vmm::migrate::Failure;
use cpreg_vmm::protocol::Outline;
use cpreg_vmm::receive::{Received, receive};
use cpreg_vmm::send::{Sent, send};
use cpreg_vmm::transport::Wire;

use crate::arguments::{Arguments, Command, Guest, consents};
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
        Command::Send {
            address,
            guest,
            before,
            after,
            timeout,
        } => {
            let times = Times {
                before: Duration::from_secs(before),
                after: Duration::from_secs(after),
                timeout: Duration::from_secs(timeout),
            };
            send_there(&address, guest, times)
        }
        Command::Receive {
            address,
            accept,
            set,
            seconds,
            timeout,
        } => {
            let consents = consents(&accept, set);
            let (seconds, timeout) = (Duration::from_secs(seconds), Duration::from_secs(timeout));
            receive_here(&address, consents, seconds, timeout)
        }
        Command::BenchLoad { guest, times } => bench_load(guest, times),
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
    machine.boot(!guest.no_physical_timer)?;
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

/// How long what takes.
#[derive(Clone, Copy)]
struct Times {
    before: Duration,
    after: Duration,
    timeout: Duration,
}

fn send_there(address: &str, guest: Guest, times: Times) -> Result<Status, Failure> {
    let mut machine = boot(guest)?;
    if !watch(&machine.report, times.before) {
        return Ok(Status::GUEST);
    }
    let opened = Wire::connect(address, times.timeout)
        .map_err(|error| Failure::new(address, error))
        .and_then(|wire| {
            let session = session();
            Link::open(wire, session, times.timeout).map_err(Failure::from)
        });
    let sent = match opened {
        Ok(mut link) => send(&mut machine, &mut link, |notes| {
            for note in notes {
                say(format_args!("the guest could notice: {note}"));
            }
        }),
        Err(failure) => Sent::Failed(failure),
    };
    let status = match sent {
        Sent::Moved(figures) => {
            say(format_args!(
                "migrated: pre-copied {} pages in {} rounds, {} at the end, pause {:.1} ms",
                figures.pages,
                figures.rounds,
                figures.last_pages,
                figures.pause.as_secs_f64() * 1000.0
            ));
            return Ok(Status::DONE);
        }
        Sent::Unknown(failure) => {
            say(format_args!(
                "unknown: the guest was given up, and then: {failure}"
            ));
            say("it may run at the other end, and is not run here again; look there");
            return Ok(Status::UNKNOWN);
        }
        Sent::Lost(failure, second) => {
            say(format_args!("failed: {failure}"));
            say(format_args!(
                "lost: the guest cannot go on at the source: {second}"
            ));
            return Ok(Status::FAILED);
        }
        Sent::Refused(reasons) => {
            for reason in reasons {
                say(format_args!("refused: {reason}"));
            }
            Status::REFUSED
        }
        Sent::Failed(failure) => {
            say(format_args!("failed: {failure}"));
            Status::FAILED
        }
    };
    say("the guest goes on at the source");
    if !watch(&machine.report, times.after) {
        return Ok(Status::GUEST);
    }
    Ok(status)
}

/// A number that an earlier migration over the same line is not likely to have had.
fn session() -> u32 {
    // A fresh state of this kind is random.
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random >> 32).unwrap_or_default()
}

fn receive_here(
    address: &str,
    consents: Consents,
    seconds: Duration,
    timeout: Duration,
) -> Result<Status, Failure> {
    let mut here = Here::new(consents)?;
    let wire = Wire::listen(address, timeout).map_err(|error| Failure::new(address, error))?;
    let mut link = Link::accept(wire, timeout, timeout)?;
    match receive(&mut here, &mut link) {
        Received::Runs => say("the guest runs here"),
        Received::Refused(reasons) => {
            for reason in reasons {
                say(format_args!("refused: {reason}"));
            }
            return Ok(Status::REFUSED);
        }
        Received::Failed(failure) => {
            say(format_args!("failed: {failure}"));
            say("the guest does not run here");
            return Ok(Status::FAILED);
        }
    }
    let Some(mut machine) = here.into_machine() else {
        return Ok(Status::FAILED);
    };
    let is_well = watch(&machine.report, seconds);
    machine.stop()?;
    Ok(well(is_well))
}

fn bench_load(guest: Guest, times: usize) -> Result<Status, Failure> {
    let features = match guest.features {
        Some(features) => features,
        None => machine::features()?,
    };
    let vcpus = usize::from(guest.vcpus);
    let figures = bench::bench(features, vcpus, times)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    say(format_args!(
        "bench: {vcpus} vCPUs, features {features}, {} registers written, {} system calls",
        figures.registers, figures.calls
    ));
    say(format_args!(
        "bench: plan {:.0} us, load {:.0} us, bare loop {:.0} us: {:.2} times the bare loop",
        micros(figures.plan),
        micros(figures.load),
        micros(figures.bare),
        (figures.plan + figures.load).as_secs_f64() / figures.bare.as_secs_f64()
    ));
    Ok(Status::DONE)
}
