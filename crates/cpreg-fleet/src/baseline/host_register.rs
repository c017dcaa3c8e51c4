//! [`HostRegister`]: a register of one host, and the values that it keeps.

use cpreg::destination::accept::Acceptor;
use cpreg::destination::{Destination, DestinationRegister, DestinationVcpu};
use cpreg::register::{RegisterId, Value};

/// Register of one host.
pub(super) struct HostRegister<'a> {
    /// Index of the host.
    pub(super) index: usize,
    /// Value with which a VM is born without settings.
    pub(super) own: u64,
    acceptor: Acceptor,
    vcpu: &'a DestinationVcpu,
    register: &'a DestinationRegister,
}

impl<'a> HostRegister<'a> {
    /// Returns the register of a host, or `None` if the host does not list it or its value is not
    /// known.
    pub(super) fn new(index: usize, host: &'a Destination, id: RegisterId) -> Option<Self> {
        let vcpu = host.vcpu(0)?;
        let register = vcpu.get(id)?;
        Some(Self {
            index,
            own: register.value.as_ref()?.as_u64()?,
            acceptor: host.acceptor(),
            vcpu,
            register,
        })
    }

    /// Returns `Some(true)` if the host accepts the value and does not replace a part of it.
    /// Returns `None` if it is not known.
    pub(super) fn keeps(&self, value: u64) -> Option<bool> {
        if value == self.own {
            return Some(true);
        }
        let acceptance = self
            .acceptor
            .evaluate(self.vcpu, self.register, &Value::U64(value));
        let is_accepted = acceptance.as_bool()?;
        let is_replaced = self
            .acceptor
            .replaced_value(self.vcpu, self.register, value)
            .is_some();
        Some(is_accepted && !is_replaced)
    }
}
