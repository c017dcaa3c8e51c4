//! Implementation of the commands.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use cpreg::plan::Consents;
use cpreg_vmm::kvm::bench;
use cpreg_vmm::kvm::machine::{self, Machine};
use cpreg_vmm::kvm::target::KvmTarget;
use cpreg_vmm::link::Link;
use cpreg_vmm::migrate::Failure;
use cpreg_vmm::protocol::VmShape;
use cpreg_vmm::receive::{ReceiveOutcome, receive};
use cpreg_vmm::send::{SendOutcome, Step, send};
use cpreg_vmm::transport::FdTransport;

use crate::arguments::{Arguments, Command, Guest, consents};
use crate::output::{PhysicalTimer, print_line, watch};

/// Exit status, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Status(u8);

impl Status {
    /// The command is complete, and the guest is well.
    const SUCCESS: Self = Self(0);
    /// The destination refused the guest.
    const REFUSED: Self = Self(1);
    /// A step failed.
    const FAILED: Self = Self(2);
    /// Not known at which end the guest runs.
    const UNKNOWN: Self = Self(3);
    /// The guest lost something, or makes no progress.
    const GUEST_BROKEN: Self = Self(4);
}

/// Runs the command of `arguments`.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Command::Run { guest, seconds } => run_guest(guest, seconds),
        Command::Send {
            address,
            guest,
            seconds_before: before,
            seconds_after: after,
            timeout,
            bandwidth,
        } => {
            let options = SendOptions {
                watch_duration: Duration::from_secs(after),
                timeout: Duration::from_secs(timeout),
                bandwidth: bandwidth.and_then(|kib| NonZeroU32::new(kib.saturating_mul(1024))),
            };
            send_guest(&address, guest, Duration::from_secs(before), options)
        }
        Command::Receive {
            address,
            accept,
            set,
            seconds,
            then_send,
            timeout,
        } => {
            let consents = consents(&accept, set);
            let (seconds, timeout) = (Duration::from_secs(seconds), Duration::from_secs(timeout));
            receive_guest(&address, consents, seconds, then_send.as_deref(), timeout)
        }
        Command::BenchLoad { guest, times } => bench_load(guest, times),
    };
    let status = result.unwrap_or_else(|failure| {
        print_line(format_args!("error: {failure}"));
        Status::FAILED
    });
    ExitCode::from(status.0)
}

/// Starts a guest on this host.
fn boot(guest: Guest) -> Result<Machine, Failure> {
    let features = match guest.features {
        Some(features) => features,
        None => machine::features()?,
    };
    let mut machine = Machine::new(VmShape {
        vcpus: guest.vcpus,
        features,
        memory: guest.memory << 20,
    })?;
    if let Some(revision) = guest.gic_revision {
        machine.gic().set_revision(revision)?;
    }
    machine.boot(!guest.no_physical_timer)?;
    machine.start()?;
    print_line(format_args!(
        "guest: started with {} vCPUs, features {features}",
        guest.vcpus
    ));
    Ok(machine)
}

fn guest_status(is_well: bool) -> Status {
    if is_well {
        Status::SUCCESS
    } else {
        Status::GUEST_BROKEN
    }
}

fn run_guest(guest: Guest, seconds: u64) -> Result<Status, Failure> {
    let mut machine = boot(guest)?;
    let time = Duration::from_secs(seconds);
    let is_well = watch(&machine.report, time, physical_timer(guest));
    machine.stop()?;
    Ok(guest_status(is_well))
}

const fn physical_timer(guest: Guest) -> PhysicalTimer {
    if guest.no_physical_timer {
        PhysicalTimer::Unused
    } else {
        PhysicalTimer::Used
    }
}

/// Options of a move.
#[derive(Clone, Copy)]
struct SendOptions {
    /// Time to observe the guest if it stays.
    watch_duration: Duration,
    timeout: Duration,
    /// Limit in bytes per second.
    bandwidth: Option<NonZeroU32>,
}

fn send_guest(
    address: &str,
    guest: Guest,
    before: Duration,
    options: SendOptions,
) -> Result<Status, Failure> {
    let machine = boot(guest)?;
    let timer = physical_timer(guest);
    if !watch(&machine.report, before, timer) {
        return Ok(Status::GUEST_BROKEN);
    }
    Ok(move_guest(machine, address, timer, options))
}

/// Moves a guest that runs here. If it stays, observes it.
fn move_guest(
    mut machine: Machine,
    address: &str,
    timer: PhysicalTimer,
    options: SendOptions,
) -> Status {
    let opened = FdTransport::connect(address, options.timeout)
        .map_err(|error| Failure::new(address, error))
        .and_then(|wire| {
            let session = session();
            Link::open(wire, session, options.timeout).map_err(Failure::from)
        });
    let sent = match opened {
        Ok(mut link) => {
            if let Some(bandwidth) = options.bandwidth {
                link.set_bandwidth(bandwidth);
            }
            send(&mut machine, &mut link, print_step)
        }
        Err(failure) => SendOutcome::Failed(failure),
    };
    let status = match sent {
        SendOutcome::Moved(figures) => {
            print_line(format_args!(
                "migrated: pre-copied {} pages in {} rounds, {} at the end, pause {:.1} ms",
                figures.pages,
                figures.rounds,
                figures.final_pages,
                figures.downtime.as_secs_f64() * 1000.0
            ));
            return Status::SUCCESS;
        }
        SendOutcome::Unknown(failure) => {
            print_line(format_args!(
                "unknown: after the source handed the guest over: {failure}"
            ));
            print_line(
                "the guest may run at the destination, so the source does not run it again; check the destination",
            );
            return Status::UNKNOWN;
        }
        SendOutcome::Lost(failure, second) => {
            print_line(format_args!("failed: {failure}"));
            print_line(format_args!(
                "lost: the guest cannot continue at the source: {second}"
            ));
            return Status::FAILED;
        }
        SendOutcome::Refused(reasons) => {
            for reason in reasons {
                print_line(format_args!("refused: {reason}"));
            }
            Status::REFUSED
        }
        SendOutcome::Failed(failure) => {
            print_line(format_args!("failed: {failure}"));
            Status::FAILED
        }
    };
    print_line("the guest continues at the source");
    if !watch(&machine.report, options.watch_duration, timer) {
        return Status::GUEST_BROKEN;
    }
    status
}

fn print_step(step: Step<'_>) {
    match step {
        Step::Ready(notes) => {
            for note in notes {
                print_line(format_args!("the guest could notice: {note}"));
            }
        }
        Step::PreCopy { round, pages } => {
            print_line(format_args!("pre-copy: round {round}, {pages} pages"));
        }
        Step::Stopped { pages } => {
            print_line(format_args!(
                "the guest is stopped: {pages} pages and its registers are left"
            ));
        }
    }
}

/// Returns a number that an earlier migration over the same line is unlikely to have used.
fn session() -> u32 {
    // A new `RandomState` is random.
    let random = RandomState::new().build_hasher().finish();
    u32::try_from(random >> 32).unwrap_or_default()
}

fn receive_guest(
    address: &str,
    consents: Consents,
    seconds: Duration,
    then_send: Option<&str>,
    timeout: Duration,
) -> Result<Status, Failure> {
    let mut target = KvmTarget::new(consents)?;
    let wire =
        FdTransport::listen(address, timeout).map_err(|error| Failure::new(address, error))?;
    let mut link = Link::accept(wire, timeout, timeout)?;
    match receive(&mut target, &mut link) {
        ReceiveOutcome::Running => print_line("the guest runs here"),
        ReceiveOutcome::Refused(reasons) => {
            for reason in reasons {
                print_line(format_args!("refused: {reason}"));
            }
            return Ok(Status::REFUSED);
        }
        ReceiveOutcome::Failed(failure) => {
            print_line(format_args!("failed: {failure}"));
            print_line("the guest does not run here");
            return Ok(Status::FAILED);
        }
    }
    let Some(mut machine) = target.into_machine() else {
        return Ok(Status::FAILED);
    };
    let timer = PhysicalTimer::Unknown;
    let is_well = watch(&machine.report, seconds, timer);
    match then_send {
        Some(address) if is_well => {
            let options = SendOptions {
                watch_duration: seconds,
                timeout,
                bandwidth: None,
            };
            Ok(move_guest(machine, address, timer, options))
        }
        _ => {
            machine.stop()?;
            Ok(guest_status(is_well))
        }
    }
}

fn bench_load(guest: Guest, times: usize) -> Result<Status, Failure> {
    let features = match guest.features {
        Some(features) => features,
        None => machine::features()?,
    };
    let vcpus = usize::from(guest.vcpus);
    let figures = bench::bench(features, vcpus, times)?;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    print_line(format_args!(
        "bench: {vcpus} vCPUs, features {features}, {} registers written, {} system calls",
        figures.registers, figures.calls
    ));
    print_line(format_args!(
        "bench: plan {:.0} us, load {:.0} us, bare loop {:.0} us: {:.2} times the bare loop",
        micros(figures.plan),
        micros(figures.load),
        micros(figures.bare_load),
        (figures.plan + figures.load).as_secs_f64() / figures.bare_load.as_secs_f64()
    ));
    Ok(Status::SUCCESS)
}
