use cpreg::register::Value;
use cpreg_hosts::record::AtReset;

use super::*;
use crate::host::Vcpu;
use crate::testing;
use crate::value::{read, write};

const PMU: Features = Features::PMU;

fn set(vm: &RecordedVm, vcpu: usize, id: RegisterId, value: u64) -> Result<(), Errno> {
    write(&vm.vcpus()[vcpu], id, &Value::U64(value))
}

fn get(vm: &RecordedVm, vcpu: usize, id: RegisterId) -> Result<u64, Errno> {
    let value = read(&vm.vcpus()[vcpu], id)?;
    Ok(value.as_u64().expect("a register of at most 64 bits"))
}

#[test]
fn unlisted_registers_do_not_exist() {
    let host = testing::recorded_host("6.12.107", "neoverse-n1");
    let vm = testing::vm(&host, PMU, 1);
    assert_eq!(get(&vm, 0, RegisterId::PMMIR_EL1), Err(Errno::ENOENT));
    assert_eq!(set(&vm, 0, RegisterId::PMMIR_EL1, 0), Err(Errno::ENOENT));
    let too_long = vm.vcpus()[0].set(RegisterId::MIDR_EL1, &[0; 16]);
    assert_eq!(too_long, Err(Errno::EINVAL));
    let list = vm.vcpus()[0].list().expect("a list");
    assert!(list.is_sorted() && list.len() == 333);
}

#[test]
fn vm_wide_registers_are_shared_and_constant_after_a_run() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let vm = testing::vm(&host, PMU, 2);
    let (psci, bitmap) = (RegisterId::PSCI_VERSION, RegisterId::STD_BMAP);
    let vbar = RegisterId::sysreg(3, 0, 12, 0, 0);
    set(&vm, 0, vbar, 0x8000).expect("its own");
    assert_ne!(get(&vm, 1, vbar), Ok(0x8000));
    set(&vm, 1, psci, 0x1_0000).expect("lower");
    assert_eq!(get(&vm, 0, psci), Ok(0x1_0000));
    assert_eq!(set(&vm, 0, psci, 0x1_0004), Err(Errno::EINVAL));
    set(&vm, 1, bitmap, 0).expect("fewer");
    vm.mark_run();
    assert_eq!(set(&vm, 0, bitmap, 1), Err(Errno::EBUSY));
    assert_eq!(set(&vm, 0, bitmap, 0), Ok(()));
    let dfr0 = get(&vm, 0, RegisterId::ID_AA64DFR0_EL1).expect("listed");
    assert_eq!(set(&vm, 1, RegisterId::ID_AA64DFR0_EL1, dfr0), Ok(()));
    assert_eq!(
        set(&vm, 1, RegisterId::ID_AA64DFR0_EL1, dfr0 - 2),
        Err(Errno::EBUSY)
    );
    // The PSCI version and ordinary registers may change after a run.
    assert_eq!(set(&vm, 1, psci, 0x2), Ok(()));
    assert_eq!(set(&vm, 1, vbar, 0x1_0000), Ok(()));
}

#[test]
fn id_registers_hide_registers_of_absent_features() {
    let (mmfr3, sctlr2) = (RegisterId::ID_AA64MMFR3_EL1, RegisterId::SCTLR2_EL1);
    let host = testing::recorded_host("7.3.4", "max");
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, 2);
    let full = get(&vm, 0, mmfr3).expect("listed");
    assert_eq!(set(&vm, 1, sctlr2, 0), Ok(()));
    set(&vm, 0, mmfr3, full & !0xf0).expect("lower");
    assert_eq!(set(&vm, 1, sctlr2, 0), Err(Errno::ENOENT));
    assert_eq!(get(&vm, 1, sctlr2), Err(Errno::ENOENT));
    assert!(!vm.vcpus()[1].list().expect("a list").contains(&sctlr2));
    assert_eq!(get(&vm, 1, RegisterId::TCR2_EL1), Ok(0));
    // 6.12 lists TCR2_EL1 on CPUs without it, whatever the ID registers.
    let host = testing::recorded_host("6.12.107", "neoverse-n1");
    let vm = testing::vm(&host, PMU, 1);
    assert_eq!(get(&vm, 0, mmfr3), Ok(0));
    assert_eq!(get(&vm, 0, RegisterId::TCR2_EL1), Ok(0));
}

#[test]
fn sve_is_finalized_once() {
    let host = testing::recorded_host("7.3.4", "max");
    let vm = testing::vm(&host, testing::max_features(&host), 1);
    let vcpu = &vm.vcpus()[0];
    let lengths = read(vcpu, RegisterId::SVE_VLS).expect("readable");
    let (vector, wide) = (RegisterId::sve_z(0, 0), Value::Bytes([7; 256].into()));
    assert_eq!(write(vcpu, vector, &wide), Err(Errno::EPERM));
    assert_eq!(vcpu.list(), Err(Errno::EPERM));
    assert_eq!(write(vcpu, RegisterId::SVE_VLS, &lengths), Ok(()));
    assert_eq!(vcpu.finalize_sve(), Ok(()));
    assert_eq!(
        write(vcpu, RegisterId::SVE_VLS, &lengths),
        Err(Errno::EPERM)
    );
    assert_eq!(vcpu.finalize_sve(), Err(Errno::EPERM));
    assert_eq!(write(vcpu, vector, &wide), Ok(()));
    assert_eq!(read(vcpu, vector), Ok(wide));
    let without = testing::recorded_host("7.3.4", "neoverse-n1");
    let vm = testing::vm(&without, PMU, 1);
    assert_eq!(vm.vcpus()[0].finalize_sve(), Err(Errno::EINVAL));
}

#[test]
fn trials_are_repeated_and_determine_the_fixed_bits() {
    let (control, lock) = (RegisterId::TIMER_CTL, RegisterId::OSLSR_EL1);
    let host = testing::host(
        PMU,
        vec![
            testing::register_with_trials(control, 0, &[(u64::MAX, 0, 0xffff_fffb), (0, 0, 0)]),
            testing::register_with_trials(lock, 8, &[(0, 22, 8), (9, 0, 10)]),
        ],
    );
    let vm = testing::vm(&host, PMU, 1);
    assert_eq!(set(&vm, 0, control, 0xff_0000_0005), Ok(()));
    assert_eq!(get(&vm, 0, control), Ok(1));
    assert_eq!(set(&vm, 0, lock, 0), Err(Errno::EINVAL));
    assert_eq!(set(&vm, 0, lock, 9), Ok(()));
    assert_eq!(get(&vm, 0, lock), Ok(10));
    assert_eq!(set(&vm, 0, lock, 0xf0), Err(Errno::EINVAL));
}

#[test]
fn pairs_of_the_pmu_share_a_state() {
    let (set_id, clear_id) = (RegisterId::PMCNTENSET_EL0, RegisterId::PMCNTENCLR_EL0);
    let pair = |cleared_bits: u64| {
        let registers = vec![
            testing::register_with_trials(set_id, 0, &[(u64::MAX, 0, 0x8000_003f)]),
            testing::register_with_trials(clear_id, 0, &[(u64::MAX, 0, cleared_bits)]),
        ];
        testing::vm(&testing::host(PMU, registers), PMU, 1)
    };
    let replaced = pair(0x8000_003f);
    set(&replaced, 0, set_id, 0x107).expect("accepted");
    set(&replaced, 0, clear_id, 0x2).expect("accepted");
    assert_eq!(
        (get(&replaced, 0, set_id), get(&replaced, 0, clear_id)),
        (Ok(2), Ok(2))
    );
    let cleared = pair(0);
    set(&cleared, 0, set_id, 0x107).expect("bits set");
    set(&cleared, 0, clear_id, 0x2).expect("bits cleared");
    assert_eq!(
        (get(&cleared, 0, set_id), get(&cleared, 0, clear_id)),
        (Ok(5), Ok(5))
    );
}

#[test]
fn counters_run_from_the_written_value() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let vm = testing::vm(&host, PMU, 2);
    let counter = RegisterId::TIMER_CNT;
    set(&vm, 1, counter, 1000).expect("time");
    let (first, second) = (get(&vm, 0, counter), get(&vm, 1, counter));
    assert_eq!((first, second), (Ok(1000), Ok(1001)));
}

#[test]
fn recorded_errors_are_returned() {
    let (refused, unreadable) = (RegisterId::ID_PFR0_EL1, RegisterId::ID_PFR1_EL1);
    let mut registers = vec![
        testing::register(refused, 3),
        testing::register(unreadable, 0),
    ];
    registers[0].write_back = 22;
    registers[1].at_reset = AtReset::Unreadable(2);
    let vm = testing::vm(&testing::host(PMU, registers), PMU, 1);
    assert_eq!(set(&vm, 0, refused, 3), Err(Errno::EINVAL));
    assert_eq!(get(&vm, 0, unreadable), Err(Errno::ENOENT));
}

#[test]
fn a_vm_beyond_the_record_cannot_be_created() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let step = |features, vcpus| {
        let error = host.create_vm(features, vcpus).expect_err("refused");
        match error.kind() {
            ErrorKind::Create { step, .. } => *step,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(step(Features::MTE, 1), "KVM_ARM_VCPU_INIT");
    assert_eq!(step(PMU, 513), "KVM_CREATE_VCPU");
}

#[test]
fn event_counters_have_the_width_of_the_vms_pmu() {
    const PMUVER: u64 = 0xf << 8;
    let counter = RegisterId::sysreg(3, 3, 14, 8, 1);
    let dfr0 = RegisterId::ID_AA64DFR0_EL1;
    let host = testing::recorded_host("7.3.4", "max");
    let vm = testing::vm(&host, PMU, 1);
    let host_value = get(&vm, 0, dfr0).expect("listed");
    assert!(host_value & PMUVER >= 6 << 8, "{host_value:#x}");
    set(&vm, 0, counter, 0x1_2345_6789).expect("a counter");
    assert_eq!(get(&vm, 0, counter), Ok(0x1_2345_6789));
    // FEAT_PMUv3p4: event counters have 32 bits.
    set(&vm, 0, dfr0, host_value & !PMUVER | 5 << 8).expect("lower");
    assert_eq!(get(&vm, 0, counter), Ok(0x2345_6789));
    set(&vm, 0, dfr0, host_value).expect("the host's value");
    assert_eq!(get(&vm, 0, counter), Ok(0x1_2345_6789));
}

#[test]
fn aarch32_modes_narrow_registers() {
    let narrowed = |mode: u64, by_mode: bool| -> Vec<RegisterId> {
        guest_profile::narrowed_registers(mode, by_mode).collect()
    };
    let registers = |numbers: &[u8]| -> Vec<RegisterId> {
        let general = numbers.iter().map(|number| RegisterId::x(*number));
        general.chain([RegisterId::CORE_PC]).collect()
    };
    let (user, supervisor, fiq) = (0x10, 0x13, 0x11);
    for by_mode in [false, true] {
        assert!(narrowed(5, by_mode).is_empty());
        assert_eq!(
            narrowed(user, by_mode),
            registers(&(0..15).collect::<Vec<_>>())
        );
    }
    assert_eq!(
        narrowed(supervisor, false),
        registers(&(0..31).collect::<Vec<_>>())
    );
    assert_eq!(
        narrowed(supervisor, true),
        registers(&(0..13).chain(18..20).collect::<Vec<_>>())
    );
    assert_eq!(
        narrowed(fiq, true),
        registers(&(0..8).chain(24..31).collect::<Vec<_>>())
    );
}
