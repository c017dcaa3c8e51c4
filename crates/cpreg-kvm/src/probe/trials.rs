//! Trial writes. A trial writes a value, reads the register back, and restores the original value.
//!
//! Values are tried in this order, each once and never the current value:
//! - 0; all ones; the value with bit 0 changed; the value with its lowest nonzero hexadecimal digit
//!   decreased by 1. Only with [`TrialScope::AllRegisters`], and not for core registers, counters,
//!   and registers of more than 64 bits.
//! - every PSCI version, for PSCI_VERSION
//! - every single bit, for firmware bitmaps
//!
//! The values of the first item show which bits a write can change, and if the register accepts
//! lower values. The values of the other items show all accepted values.

use cpreg::destination::kernel::{PSCI_VERSIONS, RegisterKind};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg_hosts::record::WriteTrial;

use crate::host::Vcpu;
use crate::value;

/// Scope of the trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialScope {
    /// Every register.
    AllRegisters,
    /// PSCI version and firmware bitmaps only.
    FirmwareOnly,
}

/// Tries values on one register of a vCPU. Returns no trials if the register cannot be read.
pub(super) fn try_register(vcpu: &impl Vcpu, id: RegisterId, scope: TrialScope) -> Vec<WriteTrial> {
    let mut values = Vec::new();
    let Ok(Value::U64(original)) = value::read(vcpu, id) else {
        return Vec::new();
    };
    // A counter accepts any value and reads differently each time.
    let is_counter = RegisterKind::from_id(id) == RegisterKind::Counter;
    if scope == TrialScope::AllRegisters && id.class() != RegisterClass::Core && !is_counter {
        values.extend(generic_values(id, original));
    }
    match RegisterKind::from_id(id) {
        RegisterKind::PsciVersion => values.extend(PSCI_VERSIONS),
        RegisterKind::FirmwareBitmap(_) => values.extend((0..u64::BITS).map(|bit| 1_u64 << bit)),
        _ => {}
    }
    let mut results: Vec<WriteTrial> = Vec::new();
    for value in values {
        if value != original && results.iter().all(|trial| trial.value != value) {
            results.push(try_value(vcpu, id, original, value));
        }
    }
    results
}

fn generic_values(id: RegisterId, original: u64) -> [u64; 4] {
    let ones = value::all_ones(id).unwrap_or(u64::MAX);
    let digits = (0..u64::BITS / 4).map(|digit| 4 * digit);
    let lowest = digits.filter(|lsb| original >> lsb & 0xf != 0).min();
    let lower = lowest.map_or(original, |lsb| original - (1 << lsb));
    [0, ones, original ^ 1, lower]
}

fn try_value(vcpu: &impl Vcpu, id: RegisterId, original: u64, value: u64) -> WriteTrial {
    let written = value::write(vcpu, id, &Value::U64(value));
    // A value that cannot be read back counts as refused, whatever the write returned.
    let (errno, read_back) = match (written, value::read(vcpu, id)) {
        (Err(errno), read) => (
            errno.0,
            read.ok().and_then(|value| value.as_u64()).unwrap_or(0),
        ),
        (Ok(()), Ok(read)) => (0, read.as_u64().unwrap_or(0)),
        (Ok(()), Err(errno)) => (errno.0, 0),
    };
    // A failure is harmless: later trials start from the current value, and the vCPU is thrown
    // away.
    let _ = value::write(vcpu, id, &Value::U64(original));
    WriteTrial {
        value,
        errno,
        read_back,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_width_of_the_register() {
        let ctr = RegisterId::CTR_EL0;
        assert_eq!(generic_values(ctr, 0x120), [0, u64::MAX, 0x121, 0x110]);
        assert_eq!(generic_values(ctr, 0), [0, u64::MAX, 1, 0]);
        assert_eq!(
            generic_values(RegisterId::ccsidr(0), 0x10),
            [0, 0xffff_ffff, 0x11, 0]
        );
    }
}
