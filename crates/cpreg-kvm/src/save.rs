//! [`save`]: every register of every vCPU, as [`cpreg::vm::Vm`].
//!
//! What a VMM has to save besides (memory, the GIC, devices) is its own.

use std::fmt;

use cpreg::register::RegisterId;
use cpreg::vm::{Registers, Vcpu as SavedVcpu, Vm};

use crate::errno::{Errno, meaning_of_list, meaning_of_read, os_error};
use crate::host::Vcpu;
use crate::value;

/// Reads every register that KVM lists, of all classes and widths, of each vCPU in turn. The vCPUs must not run meanwhile.
///
/// # Errors
/// Which vCPU, which register, and what the kernel answered.
pub fn save(vcpus: &[impl Vcpu]) -> Result<Vm, SaveError> {
    let saved = vcpus.iter().enumerate();
    let vcpus = saved
        .map(|(number, vcpu)| save_vcpu(number, vcpu))
        .collect::<Result<_, _>>()?;
    Ok(Vm { vcpus })
}

fn save_vcpu(number: usize, vcpu: &impl Vcpu) -> Result<SavedVcpu, SaveError> {
    let list = vcpu.list().map_err(|errno| SaveError {
        vcpu: number,
        register: None,
        errno,
    })?;
    let mut pairs = Vec::with_capacity(list.len());
    for id in list {
        let value = value::read(vcpu, id).map_err(|errno| SaveError {
            vcpu: number,
            register: Some(id),
            errno,
        })?;
        pairs.push((id, value));
    }
    // KVM lists no register twice; if it ever does, its list is wrong.
    let registers = Registers::from_pairs(pairs).map_err(|duplicate| SaveError {
        vcpu: number,
        register: Some(duplicate.0),
        errno: Errno::EINVAL,
    })?;
    Ok(SavedVcpu {
        registers,
        extensions: Vec::new(),
    })
}

/// A vCPU could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveError {
    /// Which vCPU.
    pub vcpu: usize,
    /// Which register; `None` if KVM did not list them.
    pub register: Option<RegisterId>,
    /// What the kernel answered.
    pub errno: Errno,
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            vcpu,
            register,
            errno,
        } = self;
        match register {
            None => write!(
                f,
                "vCPU {vcpu}: KVM does not list its registers: {}: {}",
                os_error(*errno),
                meaning_of_list(*errno)
            ),
            Some(id) => write!(
                f,
                "vCPU {vcpu}: {id} ({:#018x}) is listed and cannot be read: {}: {}",
                id.raw(),
                os_error(*errno),
                meaning_of_read(*errno)
            ),
        }
    }
}

impl std::error::Error for SaveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.errno)
    }
}

#[cfg(test)]
mod tests;
