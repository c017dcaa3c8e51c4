//! A plan allocates per VM and per difference, not per register.

use cpreg::destination::{Accelerator, Destination, DestinationVcpu, Loader, ValueOrigin};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};

/// Returns a vCPU with all ID registers, as every VM has them, and with this number of breakpoint
/// registers and vector registers.
fn vcpu(breakpoints: u16, vectors: u8) -> Vcpu {
    let identification =
        (0..7).flat_map(|crm| (0..8).map(move |op2| RegisterId::sysreg(3, 0, 0, crm + 1, op2)));
    let identification = identification.map(|id| (id, Value::U64(0)));
    let breakpoints = (0..breakpoints).map(|number| {
        let id = 0x6030_0000_0013_8004 + u64::from(number);
        (RegisterId::from_raw(id), Value::U64(1))
    });
    let vectors = (0..vectors).map(|number| {
        let vector = RegisterId::from_raw(0x6040_0000_0010_0054 + 4 * u64::from(number));
        (vector, Value::Bytes([number; 16].into()))
    });
    let all = identification.chain(breakpoints).chain(vectors);
    Vcpu {
        registers: Registers::from_pairs(all).expect("no id twice"),
        ..Vcpu::default()
    }
}

fn allocations(vcpus: usize, breakpoints: u16, vectors: u8) -> u64 {
    let vm = Vm {
        vcpus: vec![vcpu(breakpoints, vectors); vcpus],
        ..Vm::default()
    };
    let destination = Destination {
        name: "destination".to_owned(),
        accelerator: Some(Accelerator::Kvm),
        loader: Some(Loader::CPREG),
        value_origin: ValueOrigin::Reset,
        vcpus: vm.vcpus.iter().map(DestinationVcpu::from_vcpu).collect(),
        kernel_version: None,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    };
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    let counted = allocation_counter::measure(|| {
        let plan = Plan::new(&vm, &destination, &tolerances, &consents);
        assert_eq!(plan.outcome(), PlanOutcome::Ready);
        let writes: usize = plan.vcpus.iter().map(|vcpu| vcpu.writes().len()).sum();
        assert_eq!(
            writes,
            vcpus * (56 + usize::from(breakpoints) + usize::from(vectors))
        );
    });
    counted.count_total
}

#[test]
fn a_plan_does_not_allocate_for_each_register() {
    for vcpus in [1, 4] {
        let few = allocations(vcpus, 10, 0);
        let many = allocations(vcpus, 400, 32);
        assert_eq!(few, many, "{vcpus} vCPUs");
        assert!(few < 40 * vcpus as u64, "{vcpus} vCPUs: {few}");
    }
}
