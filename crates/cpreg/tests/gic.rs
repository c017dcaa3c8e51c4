//! Loads of a VM whose GICv3 the destination's KVM refuses or takes.

use cpreg::destination::load::{self, LoadEvent};
use cpreg::destination::{
    Accelerator, Confidence, Destination, DestinationVcpu, Loader, ValueOrigin,
};
use cpreg::gic::{Gic, GicLimits};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, IncrementalPlan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};

fn gic(icc_ctlr: u64) -> HardwareFacts {
    HardwareFacts {
        gic: Some(Gic::V3(GicLimits::from_icc_ctlr(icc_ctlr))),
        ..HardwareFacts::UNKNOWN
    }
}

fn vm(hardware: HardwareFacts) -> Vm {
    let registers = [(RegisterId::MIDR_EL1, Value::U64(0x413f_d0c1))];
    Vm {
        vcpus: vec![Vcpu {
            registers: Registers::from_pairs(registers).expect("no id twice"),
            ..Vcpu::default()
        }],
        source_hardware: hardware,
    }
}

/// Returns a destination with the registers of [`vm`].
fn destination(accelerator: Accelerator, hardware: HardwareFacts) -> Destination {
    let vcpus = vm(hardware).vcpus;
    Destination {
        name: "destination".to_owned(),
        accelerator: Some(accelerator),
        loader: Some(Loader::qemu(10, 0)),
        value_origin: ValueOrigin::Reset,
        vcpus: vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
        kernel_version: None,
        hardware,
        shape: None,
    }
}

/// QEMU loads the GICv3 before the vCPUs, so that no other message precedes.
#[test]
fn qemu_aborts_if_kvm_refuses_the_gic() {
    let load = |of_vm, accelerator, of_host| {
        let host = destination(accelerator, of_host);
        load::simulate(Loader::qemu(10, 0), &vm(of_vm), &host)
    };
    let (kvm, tcg) = (Accelerator::Kvm, Accelerator::Tcg);
    let refused = load(gic(0x8e00), kvm, gic(0x8c00));
    assert_eq!(refused.loads, Some(false));
    assert_eq!(refused.events, [LoadEvent::AbortOnGic]);
    assert_eq!(refused.confidence, Confidence::Inferred);
    for (of_vm, accelerator, of_host) in [
        (gic(0x8c00), kvm, gic(0x8e00)),
        (gic(0x8e00), kvm, HardwareFacts::UNKNOWN),
        (HardwareFacts::UNKNOWN, kvm, gic(0x8c00)),
        (gic(0x8e00), tcg, gic(0x8c00)),
    ] {
        let loaded = load(of_vm, accelerator, of_host);
        assert_eq!((loaded.loads, loaded.events), (Some(true), vec![]));
    }
}

/// A relay adds vCPUs to the plan after the GICv3 has arrived, and may send both early.
#[test]
fn an_incremental_plan_leaves_a_refused_gic_undecided() {
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    let host = destination(Accelerator::Kvm, gic(0x8c00));
    for (icc_ctlr, loads) in [(0x8c00, true), (0x8400, true), (0x8e00, false)] {
        let vm = vm(gic(icc_ctlr));
        let plan = IncrementalPlan::new(&host, &tolerances, &consents);
        let mut plan = plan.with_source_hardware(vm.source_hardware);
        assert_eq!(plan.add(&vm.vcpus[0]).is_some(), loads, "{icc_ctlr:#x}");
        assert_eq!(plan.can_load(), loads, "{icc_ctlr:#x}");
    }
}
