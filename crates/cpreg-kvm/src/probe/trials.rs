//! Which other values are tried, and how: each is written, read again, and what was there is written back.
//!
//! | trials | registers | values, in this order, each once and never what the register holds |
//! |---|---|---|
//! | [`TrialScope::AllRegisters`] | all but core registers, counters, and those of more than 64 bits | 0; all ones; the value with bit 0 changed; the value with its lowest digit that is not 0 less by 1 |
//! | both | PSCI_VERSION | every version that there is |
//! | both | bitmaps of services | every single bit |
//!
//! The first row finds what is masked, what is refused, and whether less is taken; the others find all that is taken.

use cpreg::destination::kernel::{PSCI_VERSIONS, RegisterKind};
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg_hosts::record::WriteTrial;

use crate::host::Vcpu;
use crate::value;

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrialScope {
    /// Every register.
    AllRegisters,
    /// PSCI's version and the bitmaps of services only.
    FirmwareOnly,
}

/// Tries values on one register of a vCPU; none if it cannot be read.
pub(super) fn try_register(
    vcpu: &impl Vcpu,
    id: RegisterId,
    trials: TrialScope,
) -> Vec<WriteTrial> {
    let mut values = Vec::new();
    let Ok(Value::U64(holds)) = value::read(vcpu, id) else {
        return Vec::new();
    };
    // Counters take anything, and what is read then is another time each time.
    let is_time = RegisterKind::from_id(id) == RegisterKind::Counter;
    if trials == TrialScope::AllRegisters && id.class() != RegisterClass::Core && !is_time {
        values.extend(generic_values(id, holds));
    }
    match RegisterKind::from_id(id) {
        RegisterKind::PsciVersion => values.extend(PSCI_VERSIONS),
        RegisterKind::FirmwareBitmap(_) => values.extend((0..u64::BITS).map(|bit| 1_u64 << bit)),
        _ => {}
    }
    let mut tried: Vec<WriteTrial> = Vec::new();
    for value in values {
        if value != holds && tried.iter().all(|trial| trial.value != value) {
            tried.push(try_value(vcpu, id, holds, value));
        }
    }
    tried
}

fn generic_values(id: RegisterId, holds: u64) -> [u64; 4] {
    let ones = value::all_ones(id).unwrap_or(u64::MAX);
    let digits = (0..u64::BITS / 4).map(|digit| 4 * digit);
    let lowest = digits.filter(|lsb| holds >> lsb & 0xf != 0).min();
    let less = lowest.map_or(holds, |lsb| holds - (1 << lsb));
    [0, ones, holds ^ 1, less]
}

fn try_value(vcpu: &impl Vcpu, id: RegisterId, holds: u64, value: u64) -> WriteTrial {
    let written = value::write(vcpu, id, &Value::U64(value));
    // What cannot be read then was not taken, whatever the write's answer.
    let (errno, reads) = match (written, value::read(vcpu, id)) {
        (Err(errno), read) => (errno.0, read.ok().and_then(|it| it.as_u64()).unwrap_or(0)),
        (Ok(()), Ok(read)) => (0, read.as_u64().unwrap_or(0)),
        (Ok(()), Err(errno)) => (errno.0, 0),
    };
    // If it is not taken back, later trials start from what it holds then: the vCPU is thrown away.
    let _ = value::write(vcpu, id, &Value::U64(holds));
    WriteTrial {
        value,
        errno,
        read_back: reads,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_to_the_registers_width() {
        let ctr = RegisterId::CTR_EL0;
        assert_eq!(generic_values(ctr, 0x120), [0, u64::MAX, 0x121, 0x110]);
        assert_eq!(generic_values(ctr, 0), [0, u64::MAX, 1, 0]);
        assert_eq!(
            generic_values(RegisterId::ccsidr(0), 0x10),
            [0, 0xffff_ffff, 0x11, 0]
        );
    }
}
