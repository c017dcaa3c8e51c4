//! [`Source`] and [`Target`]: the requirements of both ends of a migration on a VM and on a host.
//!
//! The order of steps ([`crate::send`], [`crate::receive`]) is the same for a real KVM and in tests
//! on any machine.

use std::fmt;

use cpreg::vm::Vm;

use crate::link::{Link, LinkError, Transport};
use crate::protocol::{DeviceState, Message, PAGE, VmShape};
use crate::wire::MalformedMessage;

/// Failure of a step, with its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl Failure {
    /// Creates the failure of `step`, with its cause.
    pub fn new(step: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{step}: {cause}"))
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

/// A running VM that is to run on another host.
pub trait Source {
    /// Returns the shape of the VM.
    fn shape(&self) -> VmShape;

    /// Stops the VM.
    ///
    /// # Errors
    /// Every method of this trait returns the failed step. After an error of this method, the VM
    /// still runs.
    fn stop(&mut self) -> Result<(), Failure>;

    /// Resumes the VM if it is stopped.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn resume(&mut self) -> Result<(), Failure>;

    /// Reads the registers of the stopped VM.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn registers(&mut self) -> Result<Vm, Failure>;

    /// Reads the rest of the state of the stopped VM, except memory.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn devices(&mut self) -> Result<DeviceState, Failure>;

    /// Starts dirty page tracking.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn start_dirty_tracking(&mut self) -> Result<(), Failure>;

    /// Stops dirty page tracking.
    ///
    /// # Errors
    /// See [`Self::stop`].
    fn stop_dirty_tracking(&mut self) -> Result<(), Failure>;

    /// Returns the numbers of the pages written since the last call, ascending.
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

/// Refusal of a VM, with every reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub Vec<String>);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self(vec![failure.0])
    }
}

/// A host that could run the VM.
pub trait Target {
    /// Creates a VM of this shape, with all memory zero, that does not run.
    ///
    /// # Errors
    /// Returns every reason why this host cannot have such a VM.
    fn create(&mut self, shape: &VmShape) -> Result<(), Refusal>;

    /// Checks whether these registers and devices could be loaded, and loads them into another VM
    /// as a dry run. Returns the changes that the guest could notice.
    ///
    /// # Errors
    /// Returns every reason why this host cannot load the VM.
    fn preflight(&mut self, vm: &Vm, devices: &DeviceState) -> Result<Vec<String>, Refusal>;

    /// Writes a page. Without content, zeroes it.
    ///
    /// # Errors
    /// Returns the failed step.
    fn write(&mut self, number: u32, content: Option<&[u8; PAGE]>) -> Result<(), Failure>;

    /// Loads the whole state. After an error, the VM is never run.
    ///
    /// # Errors
    /// Returns every reason why this host cannot load the VM.
    fn load(&mut self, vm: &Vm, devices: &DeviceState) -> Result<(), Refusal>;

    /// Runs the VM.
    ///
    /// # Errors
    /// Returns the failed step. The VM does not run then, and never will.
    fn run(&mut self) -> Result<(), Failure>;
}

/// Sends a message. If the other end sent one instead of receiving, receives it and returns it as
/// the error.
pub(crate) fn send_message<L: Transport>(
    link: &mut Link<L>,
    message: &Message,
) -> Result<(), Failure> {
    match link.send(&message.encode()) {
        Err(LinkError::Interrupted) => {
            let reply = receive_message(link)?;
            Err(unexpected_message(&reply))
        }
        result => Ok(result?),
    }
}

/// Receives the next message of the other end.
pub(crate) fn receive_message<L: Transport>(link: &mut Link<L>) -> Result<Message, Failure> {
    Ok(Message::decode(&link.receive()?)?)
}

/// Describes a message that was not expected at this step, or the failure that it reports.
pub(crate) fn unexpected_message(message: &Message) -> Failure {
    match message {
        Message::Failed(cause) => Failure::new("the other end failed", cause),
        Message::Refused(reasons) => Failure::new("the other end refuses", reasons.join("; ")),
        other => Failure(format!(
            "the other end sent {:?}, which is not expected at this step",
            other.name()
        )),
    }
}
