//! Registers of a file of another VMM in cpreg's model, and the checks of an edit to a planned VM.

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_stream::ReadAt;

use crate::error::{Error, ErrorKind};

/// Reads a file. One byte more than `max_len` lets the parser see that the file is too large.
pub(crate) fn read_up_to(source: &dyn ReadAt, max_len: usize) -> Result<Vec<u8>, Error> {
    let unreadable = |error| Error::io("cannot read the file", error);
    let length = source.length().map_err(unreadable)?;
    let length = length.min(max_len as u64 + 1);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(max_len)];
    source.read_exact_at(&mut bytes, 0).map_err(unreadable)?;
    Ok(bytes)
}

/// Returns the vCPU with these registers in cpreg's model.
pub(crate) fn vcpu_of(
    registers: impl IntoIterator<Item = (RegisterId, Value)>,
) -> Result<Vcpu, Error> {
    let registers = Registers::from_pairs(registers).map_err(|twice| {
        let message = format!("the register {} is stored twice", twice.0);
        Error::new(ErrorKind::Malformed, message)
    })?;
    Ok(Vcpu {
        pstate: registers.get_u64(RegisterId::CORE_PSTATE),
        registers,
        ..Vcpu::default()
    })
}

/// Appends the bytes of a value of this width. Returns `None` if the value has another width.
pub(crate) fn push_value(data: &mut Vec<u8>, value: &Value, len: usize) -> Option<()> {
    if !value.has_width(len) {
        return None;
    }
    match value {
        Value::U64(number) => data.extend_from_slice(&number.to_le_bytes()[..len]),
        Value::Bytes(bytes) => data.extend_from_slice(bytes),
    }
    Some(())
}

/// Returns the error for a register that the file lacks.
pub(crate) fn missing_register(id: RegisterId) -> Error {
    let message = format!("the snapshot does not hold the register {id}, so it cannot be set");
    Error::new(ErrorKind::BadEdit, message)
}

/// Returns the error for a planned value that does not fit the register.
pub(crate) fn misfit(id: RegisterId, value: &Value) -> Error {
    let message = format!("the new value {value} of {id} does not fit");
    Error::new(ErrorKind::BadEdit, message)
}

/// Checks that a file can be edited to the planned state: encoding the parsed file must yield its
/// bytes, and the numbers of vCPUs must be equal. `file` names the file.
pub(crate) fn check_editable(
    file: &str,
    is_identical: bool,
    vcpus: usize,
    planned: &Vm,
) -> Result<(), Error> {
    if !is_identical {
        return Err(Error::new(
            ErrorKind::NotAsPlanned,
            format!("encoding the parsed {file} does not yield its bytes; nothing was written"),
        ));
    }
    if planned.vcpus.len() == vcpus {
        return Ok(());
    }
    let message = format!(
        "the snapshot has {vcpus} vCPUs, the state to write has {}",
        planned.vcpus.len()
    );
    Err(Error::new(ErrorKind::BadEdit, message))
}

/// Checks that the parsed edited file holds the registers of the planned state.
pub(crate) fn check_written(file: &str, written: &Vm, planned: &Vm) -> Result<(), Error> {
    let mut vcpus = written.vcpus.iter().zip(&planned.vcpus);
    let is_planned = written.vcpus.len() == planned.vcpus.len()
        && vcpus.all(|(written, planned)| written.registers == planned.registers);
    if is_planned {
        Ok(())
    } else {
        Err(not_as_planned(file))
    }
}

/// Returns the error for an edited file that does not hold the planned state.
pub(crate) fn not_as_planned(file: &str) -> Error {
    let message = format!("the edited {file} does not hold the planned state; nothing was written");
    Error::new(ErrorKind::NotAsPlanned, message)
        .with_hint("this is a fault of cpreg: please report it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_state_than_the_planned_one_is_an_error() {
        let vm = |value| {
            let registers = [(RegisterId::MIDR_EL1, Value::U64(value))];
            Vm {
                vcpus: vec![vcpu_of(registers).unwrap()],
                ..Vm::default()
            }
        };
        let none = Vm::default();
        assert!(check_written("file", &vm(1), &vm(1)).is_ok());
        for written in [vm(2), none.clone()] {
            let error = check_written("file", &written, &vm(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotAsPlanned);
        }
        assert!(check_editable("file", true, 1, &vm(1)).is_ok());
        let kind = |error: Error| error.kind();
        let changed = check_editable("file", false, 1, &vm(1));
        assert_eq!(changed.map_err(kind), Err(ErrorKind::NotAsPlanned));
        let fewer = check_editable("file", true, 1, &none);
        assert_eq!(fewer.map_err(kind), Err(ErrorKind::BadEdit));
    }

    #[test]
    fn a_register_that_is_stored_twice_is_an_error() {
        let register = (RegisterId::MIDR_EL1, Value::U64(1));
        let error = vcpu_of([register.clone(), register]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
