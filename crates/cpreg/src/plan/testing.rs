//! Random VMs and destinations for the tests of plans.

use alloc::string::String;
use alloc::vec::Vec;

use proptest::prelude::*;

use crate::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
use crate::hardware::HardwareFacts;
use crate::register::{RegisterId, Value};
use crate::vm::{Content, Extension, Registers, Vcpu, Vm};

/// Registers with their values, ascending by id.
pub(super) type Pairs = Vec<(RegisterId, u64)>;

/// Returns registers of every kind, and those on which decisions about others depend.
pub(super) fn ids() -> Vec<RegisterId> {
    let mut ids: Vec<_> = (1..8)
        .flat_map(|crm| (0..8).map(move |op2| RegisterId::sysreg(3, 0, 0, crm, op2)))
        .collect();
    ids.extend((0..4).map(RegisterId::firmware));
    ids.extend((0..4).map(RegisterId::firmware_bitmap));
    ids.extend((0..14).map(RegisterId::ccsidr));
    ids.extend((0..31).map(RegisterId::x));
    ids.extend((0..8).map(|number| RegisterId::sysreg(2, 0, 0, number, 4)));
    ids.extend([
        RegisterId::MIDR_EL1,
        RegisterId::MPIDR_EL1,
        RegisterId::CTR_EL0,
        RegisterId::CLIDR_EL1,
        RegisterId::OSLSR_EL1,
        RegisterId::SCTLR_EL1,
        RegisterId::TCR_EL1,
        RegisterId::TTBR0_EL1,
        RegisterId::TCR2_EL1,
        RegisterId::CPACR_EL1,
        RegisterId::ZCR_EL1,
        RegisterId::PIR_EL1,
        RegisterId::PIRE0_EL1,
        RegisterId::POR_EL0,
        RegisterId::PMCR_EL0,
        RegisterId::PMCNTENSET_EL0,
        RegisterId::PMCCNTR_EL0,
        RegisterId::sysreg(3, 3, 14, 8, 5),
        RegisterId::sysreg(3, 0, 2, 3, 0),
        RegisterId::sysreg(3, 0, 2, 3, 1),
        RegisterId::PMMIR_EL1,
        RegisterId::TIMER_CTL,
        RegisterId::TIMER_CNT,
        RegisterId::PTIMER_CTL,
        RegisterId::PTIMER_CVAL,
        RegisterId::PTIMER_CNT,
    ]);
    ids.sort();
    ids.dedup();
    ids
}

/// Returns values of registers, often of one field.
pub(super) fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(0x1_0001),
        any::<u64>(),
        (0_u32..16, 0_u64..16).prop_map(|(nibble, field)| field << (4 * nibble)),
    ]
}

/// Returns a list of registers, and the lists of the vCPUs of both sides, which differ from it
/// in a few values or in one register.
pub(super) fn lists() -> impl Strategy<Value = (Vec<Pairs>, Vec<Pairs>)> {
    let base = proptest::sample::subsequence(ids(), 40..=ids().len()).prop_flat_map(|ids| {
        let values = proptest::collection::vec(value(), ids.len());
        values.prop_map(move |values| ids.iter().copied().zip(values).collect::<Pairs>())
    });
    base.prop_flat_map(|base| (side(base.clone()), side(base)))
}

/// Returns the lists of one side's vCPUs.
fn side(base: Pairs) -> impl Strategy<Value = Vec<Pairs>> {
    let change = (any::<prop::sample::Index>(), value());
    let changes = proptest::collection::vec(change, 0..4);
    let removed = proptest::option::weighted(0.1, any::<prop::sample::Index>());
    let vcpu = (changes, removed).prop_map(move |(changes, removed)| {
        let mut pairs = base.clone();
        for (index, value) in changes {
            pairs[index.index(base.len())].1 = value;
        }
        if let Some(removed) = removed {
            pairs.remove(removed.index(base.len()));
        }
        pairs
    });
    proptest::collection::vec(vcpu, 1..5)
}

/// Returns a vCPU with these registers.
pub(super) fn vcpu(pairs: &Pairs) -> Vcpu {
    let pairs = pairs.iter().map(|(id, value)| (*id, Value::U64(*value)));
    Vcpu {
        registers: Registers::from_pairs(pairs).expect("no id twice"),
        ..Vcpu::default()
    }
}

/// Returns a VM whose vCPUs have these registers, and different vector registers.
pub(super) fn vm(lists: &[Pairs]) -> Vm {
    let numbered = lists.iter().zip(0..);
    let vcpus = numbered.map(|(list, number)| Vcpu {
        extensions: Vec::from([vectors(number)]),
        ..vcpu(list)
    });
    Vm {
        vcpus: vcpus.collect(),
        ..Vm::default()
    }
}

/// Returns the extension that holds vector registers.
pub(super) fn vectors(byte: u8) -> Extension {
    Extension {
        name: "cpu/vfp".into(),
        content: Content::Bytes(Vec::from([byte])),
    }
}

/// Returns a destination that QEMU 10.0 started, whose vCPUs have these registers.
pub(super) fn destination(lists: &[Pairs], accelerator: Accelerator) -> Destination {
    let vcpus = lists
        .iter()
        .map(|list| DestinationVcpu::from_vcpu(&vcpu(list)));
    Destination {
        name: String::new(),
        accelerator: Some(accelerator),
        loader: Some(Loader::qemu(10, 0)),
        value_origin: ValueOrigin::Reset,
        vcpus: vcpus.collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    }
}
