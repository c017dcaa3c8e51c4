//! [`save`]: every register of every vCPU, as [`cpreg::vm::Vm`].
//!
//! The VMM itself saves memory, the GIC and devices.

use cpreg::vm::{Registers, Vcpu as SavedVcpu, Vm};

use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::Vcpu;
use crate::value;

/// Reads every register that KVM lists, of all classes and widths, of each vCPU in turn.
///
/// The caller must have stopped all vCPUs.
///
/// # Errors
/// Returns the vCPU, the register if one failed, and the kernel's errno.
pub fn save(vcpus: &[impl Vcpu]) -> Result<Vm, Error> {
    let numbered = vcpus.iter().enumerate();
    let vcpus = numbered
        .map(|(number, vcpu)| save_vcpu(number, vcpu))
        .collect::<Result<_, _>>()?;
    Ok(Vm {
        vcpus,
        ..Vm::default()
    })
}

fn save_vcpu(number: usize, vcpu: &impl Vcpu) -> Result<SavedVcpu, Error> {
    let list = vcpu.list().map_err(|errno| ErrorKind::List {
        vcpu: Some(number),
        errno,
    })?;
    let mut pairs = Vec::with_capacity(list.len());
    for id in list {
        let value = value::read(vcpu, id).map_err(|errno| ErrorKind::Read {
            vcpu: number,
            register: id,
            errno,
        })?;
        pairs.push((id, value));
    }
    // KVM lists no register twice: a duplicate means that its list is invalid.
    let registers = Registers::from_pairs(pairs).map_err(|duplicate| ErrorKind::Read {
        vcpu: number,
        register: duplicate.0,
        errno: Errno::EINVAL,
    })?;
    Ok(SavedVcpu {
        registers,
        ..SavedVcpu::default()
    })
}

#[cfg(test)]
mod tests;
