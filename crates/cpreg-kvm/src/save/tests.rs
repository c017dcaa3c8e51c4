use cpreg::destination::Features;
use cpreg::register::{RegisterClass, RegisterId, Value};
use cpreg_hosts::record::AtReset;

use super::*;
use crate::host::Vm as _;
use crate::testing;

#[test]
fn every_class_and_width_is_saved() {
    let host = testing::recorded_host("7.3.4", "max");
    let vm = testing::ready_vm(&host, testing::max_features(&host), 2);
    let saved = save(vm.vcpus()).expect("readable");
    assert_eq!(saved.vcpus.len(), 2);
    let registers = &saved.vcpus[1].registers;
    for class in [
        RegisterClass::Core,
        RegisterClass::Demux,
        RegisterClass::SystemRegister,
        RegisterClass::Firmware,
        RegisterClass::Sve,
        RegisterClass::FirmwareBitmap,
    ] {
        assert!(
            registers.iter().any(|(id, _)| id.class() == class),
            "{class:?}"
        );
    }
    for (id, value) in registers.iter() {
        assert!(crate::value::has_register_width(id, value), "{id} {value}");
    }
    let mpidr = |vcpu: usize| saved.vcpus[vcpu].registers.get(RegisterId::MPIDR_EL1);
    assert_eq!(mpidr(0), Some(&Value::U64(1 << 31)));
    assert_eq!(mpidr(1), Some(&Value::U64(1 << 31 | 1)));
}

#[test]
fn a_vcpu_that_is_not_finalized_cannot_be_saved() {
    let host = testing::recorded_host("7.3.4", "max");
    let vm = testing::vm(&host, testing::max_features(&host), 1);
    let error = save(vm.vcpus()).expect_err("SVE");
    let unlisted = ErrorKind::List {
        vcpu: Some(0),
        errno: Errno::EPERM,
    };
    assert_eq!(error.kind(), &unlisted);
    assert!(
        error.to_string().contains("KVM_ARM_VCPU_FINALIZE"),
        "{error}"
    );
}

#[test]
fn a_register_that_cannot_be_read_is_named() {
    let mut register = testing::register(RegisterId::PMMIR_EL1, 0);
    register.at_reset = AtReset::Unreadable(22);
    let host = testing::host(Features::NONE, vec![register]);
    let vm = testing::vm(&host, Features::NONE, 1);
    let error = save(vm.vcpus()).expect_err("unreadable");
    assert!(matches!(
        error.kind(),
        ErrorKind::Read {
            register: RegisterId::PMMIR_EL1,
            ..
        }
    ));
    assert!(
        error.to_string().starts_with("vCPU 0: PMMIR_EL1 (0x"),
        "{error}"
    );
}
