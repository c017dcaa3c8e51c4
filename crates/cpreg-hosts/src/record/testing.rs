//! Generated hosts for tests, with everything that a record can contain.

use std::collections::BTreeMap;

use cpreg::destination::{AcceptedField, DroppedValues, Features, MAX_FIELD_WIDTH};
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::{HardwareFacts, PmuEvents, VectorLengths};
use cpreg::register::{RegisterId, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{AtReset, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial};

/// Returns the registers in the order of a record.
pub(crate) fn sorted(registers: impl IntoIterator<Item = RegisterRecord>) -> Vec<RegisterRecord> {
    let by_id: BTreeMap<RegisterId, RegisterRecord> = registers
        .into_iter()
        .map(|register| (register.id, register))
        .collect();
    by_id.into_values().collect()
}

/// Generates registers from few ids and values, so that guests and hosts share some.
fn any_register() -> impl Strategy<Value = RegisterRecord> {
    let ids = prop::sample::select(vec![
        RegisterId::SCTLR_EL1,
        RegisterId::PSCI_VERSION,
        RegisterId::ID_AA64PFR0_EL1,
        RegisterId::v(0),
        RegisterId::SVE_VLS,
        RegisterId::from_raw(0x6020_0000_0011_0000),
        RegisterId::from_raw(0x60f0_0000_0017_0001),
        RegisterId::from_raw(u64::MAX),
    ]);
    let number = prop_oneof![0_u64..4, any::<u64>()];
    let errno = prop_oneof![3 => Just(0_u16), 1 => Just(22), 1 => any::<u16>()];
    let trial = (number.clone(), errno.clone(), number.clone());
    let trial = trial.prop_map(|(value, errno, read_back)| WriteTrial {
        value,
        errno,
        read_back,
    });
    let at_reset = (0..5_u8, number, any::<u16>());
    let fields = prop::option::of(any_fields());
    (
        ids,
        at_reset,
        any::<bool>(),
        errno,
        vec(trial, 0..4),
        fields,
    )
        .prop_map(
            |(id, (kind, number, unreadable), differs_by_vcpu, write_back, trials, fields)| {
                RegisterRecord {
                    id,
                    at_reset: match kind {
                        0 => AtReset::Poison,
                        1 => AtReset::Counter,
                        2 => AtReset::Unreadable(unreadable),
                        _ => AtReset::Value(value_of_size(id, number)),
                    },
                    differs_by_vcpu,
                    write_back,
                    trials,
                    fields,
                }
            },
        )
}

/// Generates fields that share no bit, of any width and with values of any kind.
fn any_fields() -> impl Strategy<Value = Vec<AcceptedField>> {
    let sets = (any::<u64>(), any::<u64>(), 0..2_u8);
    let field = (0..10_u8, 1..=MAX_FIELD_WIDTH, sets);
    vec(field, 0..4).prop_map(|fields| {
        let by_slot: BTreeMap<u8, AcceptedField> = fields
            .into_iter()
            .filter_map(|(slot, width, (kept, dropped, reads))| {
                let lsb = slot * MAX_FIELD_WIDTH;
                let all = u64::MAX >> (64 - (1_u32 << width));
                let dropped = DroppedValues {
                    reads,
                    values: dropped & !kept & all,
                };
                let dropped = if dropped.values == 0 {
                    vec![]
                } else {
                    vec![dropped]
                };
                let field = AcceptedField::new(lsb + width - 1, lsb, kept & all, dropped)?;
                Some((slot, field))
            })
            .collect();
        by_slot.into_values().collect()
    })
}

fn any_hardware() -> impl Strategy<Value = HardwareFacts> {
    let frequency = prop::option::of(1..=u32::MAX);
    let lengths = prop::option::of(any::<u16>());
    let dczid = (0..10_u64, any::<bool>());
    let dczid = dczid.prop_map(|(size, is_prohibited)| size | u64::from(is_prohibited) << 4);
    let dczid = prop::option::of(dczid);
    let icc_ctlr = (3..8_u64, 0..2_u64, 0..4_u64);
    let gic = icc_ctlr.prop_map(|(priority_bits, id_bits, flags)| {
        let icc_ctlr = priority_bits << 8 | id_bits << 11 | flags << 14;
        Gic::V3(GicLimits::from_icc_ctlr(icc_ctlr))
    });
    let events = any::<(u64, u64)>();
    let events = events.prop_map(|(pmceid0, pmceid1)| PmuEvents { pmceid0, pmceid1 });
    let of_features = (
        prop::option::of(2..7_u64),
        prop::option::of(events),
        prop::option::of(any::<u32>()),
    );
    let facts = (
        frequency,
        lengths,
        dczid,
        prop::option::of(gic),
        of_features,
    );
    facts.prop_map(
        |(counter_frequency, lengths, dczid, gic, (gmid, pmu_events, gicd_iidr))| HardwareFacts {
            counter_frequency,
            vector_lengths: lengths.map(|bits| VectorLengths::from_bits(bits | 1)),
            dczid,
            is_emulated: false,
            gic,
            gmid,
            pmu_events,
            gicd_iidr,
            uses_lpis: None,
        },
    )
}

fn value_of_size(id: RegisterId, number: u64) -> Value {
    match id.size_bytes() {
        Some(size @ 9..) => {
            let mut bytes = vec![0; size];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            bytes[size - 1] = number.to_le_bytes()[0];
            Value::Bytes(bytes.into())
        }
        Some(8) | None => Value::U64(number),
        Some(size) => Value::U64(number & ((1 << (8 * size)) - 1)),
    }
}

fn any_guest() -> impl Strategy<Value = GuestRecord> {
    let mask = prop_oneof![0_u64..4, any::<u64>()];
    let ids = prop::sample::select(vec![RegisterId::ID_AA64PFR0_EL1, RegisterId::MIDR_EL1]);
    let masks = prop::option::of(btree_map(ids, mask, 0..3));
    (vec(any_register(), 0..8), masks).prop_map(|(registers, writable)| GuestRecord {
        registers: sorted(registers),
        writable,
    })
}

fn any_features() -> impl Strategy<Value = Features> {
    prop::sample::select(vec![
        Features::NONE,
        Features::PMU,
        Features::SVE,
        Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION,
        Features::EL1_32BIT,
        Features::MTE,
    ])
}

/// Generates any host; with words as users and kernels write them, and a few that they do not.
pub(crate) fn any_record() -> impl Strategy<Value = HostRecord> {
    let word = || "[ -~]{0,12}|6\\.12\\.1-test|#1 SMP Debian 6\\.12\\.1-1 \\(2026\\)|-|é\n%";
    let identity = (word(), word(), any::<u64>(), word(), word(), any::<bool>());
    let identity = identity.prop_map(|(release, version, midr, cpu, mode, emulated)| Identity {
        release,
        version,
        midr,
        cpu,
        mode,
        emulated,
        cpus: Vec::new(),
    });
    (
        identity,
        btree_map(word(), any::<i32>(), 0..3),
        btree_map(any_features(), any_guest(), 0..4),
        any_hardware(),
    )
        .prop_map(|(identity, capabilities, guests, mut hardware)| {
            let mut registers = guests.values().flat_map(|guest| &guest.registers);
            // The register must not contradict the facts.
            if registers.any(|register| register.id == RegisterId::SVE_VLS) {
                hardware.vector_lengths = None;
            }
            HostRecord {
                identity,
                capabilities,
                guests,
                hardware,
            }
        })
}
