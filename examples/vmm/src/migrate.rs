//! [`Source`] and [`Target`]: what the two ends of a migration need of a VM and of a host, so that the order of steps
//! ([`crate::send`], [`crate::receive`]) is the same for a real KVM and in tests on any machine.

use std::fmt;

use cpreg::vm::Vm;

use crate::link::{Link, LinkError, Transport};
use crate::protocol::{DeviceState, Message, PAGE, VmShape};
use crate::wire::MalformedMessage;

/// Something that was tried with a VM did not work: what, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl Failure {
    /// That this did not work, for that reason.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<cpreg_kvm::Error> for Failure {
    fn from(error: cpreg_kvm::Error) -> Self {
        Self(error.to_string_with_hint())
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self(error.to_string())
    }
}

impl From<MalformedMessage> for Failure {
    fn from(error: MalformedMessage) -> Self {
        Self(error.to_string())
    }
}

/// A VM that runs, and is to run elsewhere.
pub trait Source {
    /// What it is like.
    fn shape(&self) -> VmShape;

    /// Stops it.
    ///
    /// # Errors
    /// Of all of these: what did not work. A VM that could not be stopped runs.
    fn stop(&mut self) -> Result<(), Failure>;

    /// Lets it go on, if it is stopped.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn resume(&mut self) -> Result<(), Failure>;

    /// Its registers. It is stopped.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn registers(&mut self) -> Result<Vm, Failure>;

    /// The rest of its state but for memory. It is stopped.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn devices(&mut self) -> Result<DeviceState, Failure>;

    /// Begins to keep account of which pages are written.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn start_dirty_tracking(&mut self) -> Result<(), Failure>;

    /// Ends that.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn stop_dirty_tracking(&mut self) -> Result<(), Failure>;

    /// The numbers of the pages that were written since it was asked last, ascending.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn dirty_pages(&mut self) -> Result<Vec<u32>, Failure>;

    /// Reads a page.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure>;
}

/// Why a VM is not taken: every reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(vec![failure.0])
    }
}

/// A host that a VM could come to.
pub trait Target {
    /// Makes a VM like that, all of whose memory is zero, and which is not run.
    ///
    /// # Errors
    /// Why there can be none.
    fn create(&mut self, outline: &VmShape) -> Result<(), Refusal>;

    /// Finds out whether such registers and devices could be loaded into it, and tries it on another one. What the guest could notice.
    ///
    /// # Errors
    /// Every reason why not.
    fn preflight(&mut self, vm: &Vm, devices: &DeviceState) -> Result<Vec<String>, Refusal>;

    /// Writes a page; without content it becomes zero.
    ///
    /// # Errors
    /// What did not work.
    fn write(&mut self, number: u32, content: Option<&[u8; PAGE]>) -> Result<(), Failure>;

    /// Loads all of this state. If that fails the VM is never run.
    ///
    /// # Errors
    /// Every reason why not.
    fn load(&mut self, vm: &Vm, devices: &DeviceState) -> Result<(), Refusal>;

    /// Runs it.
    ///
    /// # Errors
    /// What did not work; then it does not run, and never will.
    fn run(&mut self) -> Result<(), Failure>;
}

/// Says something. If the other end has something else to say, it is heard instead.
pub(crate) fn send_message<L: Transport>(
    link: &mut Link<L>,
    message: &Message,
) -> Result<(), Failure> {
    match link.send(&message.encode()) {
        Err(LinkError::Interrupted) => {
            let answer = receive_message(link)?;
            Err(unexpected_message(&answer))
        }
        result => Ok(result?),
    }
}

/// Hears what the other end says.
pub(crate) fn receive_message<L: Transport>(link: &mut Link<L>) -> Result<Message, Failure> {
    Ok(Message::decode(&link.receive()?)?)
}

/// The other end said what it should not have said now, or that it failed.
pub(crate) fn unexpected_message(message: &Message) -> Failure {
    match message {
        Message::Failed(why) => Failure::new("the other end gave up", why),
        Message::Refused(reasons) => Failure::new("the other end refuses", reasons.join("; ")),
        other => Failure(format!(
            "the other end said {:?}, which was not its turn",
            other.name()
        )),
    }
}
