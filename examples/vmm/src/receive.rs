//! [`receive`]: receives a VM from the other end, step by step. Runs nothing before *run* arrives,
//! and nothing that is not completely loaded.

use crate::link::{Link, Transport};
use crate::migrate::{Failure, Refusal, Target, receive_message, send_message, unexpected_message};
use crate::protocol::{DeviceState, Message, VmShape};
use cpreg::vm::Vm;

/// Result of receiving a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveOutcome {
    /// The guest runs here. It does not run at the source, even if the source did not receive
    /// *running*.
    Running,
    /// The host refused the VM, for these reasons. It does not run here, and never will.
    Refused(Vec<String>),
    /// A step failed. The VM does not run here, and never will.
    Failed(Failure),
}

/// Receives a VM and runs it.
pub fn receive<L: Transport>(target: &mut impl Target, link: &mut Link<L>) -> ReceiveOutcome {
    match receive_and_run(target, link) {
        Ok(()) => ReceiveOutcome::Running,
        Err(ReceiveError::Refused(Refusal(reasons))) => {
            // If the message is lost, the sender's timeout ends the migration.
            let _ = link.send(&Message::Refused(reasons.clone()).encode());
            ReceiveOutcome::Refused(reasons)
        }
        Err(ReceiveError::Failed(failure)) => {
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            ReceiveOutcome::Failed(failure)
        }
    }
}

enum ReceiveError {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Failure> for ReceiveError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Refusal> for ReceiveError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn receive_and_run<L: Transport>(
    target: &mut impl Target,
    link: &mut Link<L>,
) -> Result<(), ReceiveError> {
    let shape = match receive_message(link)? {
        Message::Hello(shape) => shape,
        other => return Err(unexpected_message(&other).into()),
    };
    target.create(&shape)?;
    send_message(link, &Message::Accepted)?;

    let notes = match receive_message(link)? {
        Message::Preflight(vm, devices) => {
            check_complete(&shape, &vm, &devices)?;
            target.preflight(&vm, &devices)?
        }
        other => return Err(unexpected_message(&other).into()),
    };
    send_message(link, &Message::Ready(notes))?;

    let (vm, devices) = loop {
        match receive_message(link)? {
            Message::Pages(pages) => {
                for (number, content) in pages {
                    target.write(number, content.as_deref())?;
                }
            }
            Message::State(vm, devices) => break (vm, devices),
            other => return Err(unexpected_message(&other).into()),
        }
    };
    check_complete(&shape, &vm, &devices)?;
    target.load(&vm, &devices)?;
    send_message(link, &Message::Loaded)?;

    match receive_message(link)? {
        Message::Run => {}
        other => return Err(unexpected_message(&other).into()),
    }
    target.run()?;
    // The guest runs; the sender may have exited.
    let _ = send_message(link, &Message::Running);
    Ok(())
}

fn check_complete(shape: &VmShape, vm: &Vm, devices: &DeviceState) -> Result<(), Failure> {
    let vcpus = usize::from(shape.vcpus);
    if vm.vcpus.len() == vcpus && devices.vcpus.len() == vcpus {
        return Ok(());
    }
    Err(Failure(format!(
        "the other end announced {vcpus} vCPUs and sent the registers of {} and the state of {}",
        vm.vcpus.len(),
        devices.vcpus.len()
    )))
}
