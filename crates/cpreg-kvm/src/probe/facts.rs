//! Hardware facts of a host: read by this process, by a guest, and from KVM_REG_ARM64_SVE_VLS.

use cpreg::destination::Features;
use cpreg::hardware::{HardwareFact, HardwareFacts, VectorLengths};
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::fact_program::ProgramState;
use cpreg_hosts::record::{AtReset, GuestRecord};

use super::event::ProbeEvent;
use super::sets;
use crate::error::{Error, ErrorKind};
use crate::host::Host;

/// Returns the facts of the host, of which `guests` are recorded.
///
/// # Errors
/// Returns an error if a guest reads another fact than this process.
pub(super) fn read<'a>(
    host: &impl Host,
    guests: impl IntoIterator<Item = &'a GuestRecord>,
    mut on_event: impl FnMut(ProbeEvent),
) -> Result<HardwareFacts, Error> {
    let known = HardwareFacts {
        vector_lengths: recorded_lengths(guests),
        ..host.hardware()
    };
    let event = match host.run_fact_program(guest_features(host)) {
        Ok(ProgramState::Done(readings)) => return combine(known, readings.facts),
        Ok(_) => ProbeEvent::FactProgramUnfinished,
        Err(error) => ProbeEvent::FactProgramFailed(error),
    };
    on_event(event);
    Ok(known)
}

/// Returns all features with which a guest starts at EL1 in AArch64.
fn guest_features(host: &impl Host) -> Features {
    let available = sets::available_features(&host.capabilities());
    available.difference(Features::EL1_32BIT | Features::EL2 | Features::EL2_E2H0)
}

/// Returns the facts that this process or the guest has read.
///
/// # Errors
/// Returns an error with both values if they differ.
pub(super) fn combine(
    process: HardwareFacts,
    guest: HardwareFacts,
) -> Result<HardwareFacts, Error> {
    for fact in HardwareFact::ALL {
        if let (Some(process), Some(guest)) = (process.get(fact), guest.get(fact))
            && process != guest
        {
            return Err(ErrorKind::ContradictoryFacts {
                fact,
                process,
                guest,
            }
            .into());
        }
    }
    Ok(HardwareFacts {
        is_emulated: process.is_emulated,
        ..process.or(guest)
    })
}

/// Returns the vector lengths that a guest with SVE has, if one of the guests has SVE.
fn recorded_lengths<'a>(
    guests: impl IntoIterator<Item = &'a GuestRecord>,
) -> Option<VectorLengths> {
    let mut registers = guests.into_iter().flat_map(|guest| &guest.registers);
    registers.find_map(|register| match &register.at_reset {
        AtReset::Value(value @ Value::Bytes(_)) if register.id == RegisterId::SVE_VLS => {
            VectorLengths::from_value(value)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_the_guest_are_added() {
        let process = HardwareFacts {
            counter_frequency: Some(24_000_000),
            ..HardwareFacts::UNKNOWN
        };
        let guest = HardwareFacts {
            gmid: Some(6),
            ..process
        };
        assert_eq!(combine(process, guest), Ok(guest));
        assert_eq!(combine(process, HardwareFacts::UNKNOWN), Ok(process));
    }

    #[test]
    fn a_contradiction_names_both_values() {
        let facts = |counter_frequency, dczid| HardwareFacts {
            counter_frequency,
            dczid,
            ..HardwareFacts::UNKNOWN
        };
        let error = combine(
            facts(Some(24_000_000), Some(4)),
            facts(Some(25_000_000), None),
        );
        assert_eq!(
            error.expect_err("other frequencies").to_string(),
            "a guest reads 0x17d7840 in CNTFRQ_EL0, and this process 0x16e3600"
        );
        let error = combine(facts(None, Some(4)), facts(None, Some(5)));
        assert_eq!(
            error.expect_err("other blocks").to_string(),
            "a guest reads 0x5 in DCZID_EL0, and this process 0x4"
        );
    }
}
