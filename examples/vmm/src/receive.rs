//! [`receive`]: takes a VM from the other end, step by step. Nothing is run before *run* is heard, and nothing that is not loaded as a whole.

use crate::link::{Line, Link};
use crate::migrate::{Failure, Refusal, Target, hear, say, unexpected};
use crate::protocol::{Devices, Message, Outline};
use cpreg::vm::Vm;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The guest runs here. Whether the sender heard of it is another matter: it does not run there in any case.
    Runs,
    /// This host refused it, for these reasons. It does not run here, and never will.
    Refused(Vec<String>),
    /// It failed. It does not run here, and never will.
    Failed(Failure),
}

/// Takes a VM.
pub fn receive<L: Line>(target: &mut impl Target, link: &mut Link<L>) -> Received {
    match steps(target, link) {
        Ok(()) => Received::Runs,
        Err(End::Refused(Refusal(reasons))) => {
            // If that does not get through the sender finds out by itself.
            let _ = link.send(&Message::Refused(reasons.clone()).encode());
            Received::Refused(reasons)
        }
        Err(End::Failed(failure)) => {
            let _ = link.send(&Message::Failed(failure.0.clone()).encode());
            Received::Failed(failure)
        }
    }
}

enum End {
    Refused(Refusal),
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

fn steps<L: Line>(target: &mut impl Target, link: &mut Link<L>) -> Result<(), End> {
    let outline = match hear(link)? {
        Message::Hello(outline) => outline,
        other => return Err(unexpected(&other).into()),
    };
    target.create(&outline)?;
    say(link, &Message::Accepted)?;

    let notes = match hear(link)? {
        Message::Look(vm, devices) => {
            has_all(&outline, &vm, &devices)?;
            target.look(&vm, &devices)?
        }
        other => return Err(unexpected(&other).into()),
    };
    say(link, &Message::Ready(notes))?;

    let (vm, devices) = loop {
        match hear(link)? {
            Message::Pages(pages) => {
                for (number, content) in pages {
                    target.write(number, content.as_deref())?;
                }
            }
            Message::State(vm, devices) => break (vm, devices),
            other => return Err(unexpected(&other).into()),
        }
    };
    has_all(&outline, &vm, &devices)?;
    target.load(&vm, &devices)?;
    say(link, &Message::Loaded)?;

    match hear(link)? {
        Message::Run => {}
        other => return Err(unexpected(&other).into()),
    }
    target.run()?;
    // It runs; the sender may be gone.
    let _ = say(link, &Message::Running);
    Ok(())
}

fn has_all(outline: &Outline, vm: &Vm, devices: &Devices) -> Result<(), Failure> {
    let vcpus = usize::from(outline.vcpus);
    if vm.vcpus.len() == vcpus && devices.vcpus.len() == vcpus {
        return Ok(());
    }
    Err(Failure(format!(
        "the other end announced {vcpus} vCPUs and sent the registers of {} and the state of {}",
        vm.vcpus.len(),
        devices.vcpus.len()
    )))
}
