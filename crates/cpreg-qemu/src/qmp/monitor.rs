//! [`Monitor`]: a way to the monitor of one QEMU.

use std::os::fd::BorrowedFd;

use serde_json::Value;

use super::client::Qmp;
use super::version::Version;
use super::wait_options::WaitOptions;
use crate::error::Error;

/// Way to the monitor of one QEMU: a socket, or a program that holds the socket.
pub trait Monitor {
    /// Returns the version of QEMU.
    fn version(&self) -> &Version;

    /// Executes a command and passes a descriptor, if any, like [`Qmp::execute_with`].
    ///
    /// # Errors
    /// Returns an error if QEMU refuses the command, or its monitor cannot be reached.
    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error>;

    /// Executes a command like [`Qmp::execute`].
    ///
    /// # Errors
    /// Those of [`Self::execute_with`].
    fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        self.execute_with(command, arguments, None, options)
    }
}

impl Monitor for Qmp {
    fn version(&self) -> &Version {
        Self::version(self)
    }

    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        options: &WaitOptions<'_>,
    ) -> Result<Value, Error> {
        Self::execute_with(self, command, arguments, descriptor, options)
    }
}
