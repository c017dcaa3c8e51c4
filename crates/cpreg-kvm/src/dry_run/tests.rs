use cpreg::register::RegisterId;

use super::*;
use crate::errno::Errno;
use crate::error::ErrorKind;
use crate::recorded::Fault;
use crate::save::save;
use crate::testing;

#[test]
fn an_attempt_says_all_that_was_refused() {
    let host = testing::recorded_host("7.3.4", "max");
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, 2);
    let plan = testing::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let done = dry_run(&host, features, &plan).expect("tried");
    assert!(done.is_success() && done.summary.written_registers > 600);
    let (psci, vbar) = (RegisterId::PSCI_VERSION, RegisterId::sysreg(3, 0, 12, 0, 0));
    let faulty = host
        .with_fault(Fault::Register(psci, Errno::EINVAL))
        .with_fault(Fault::Register(vbar, Errno::ENOENT));
    let refused = dry_run(&faulty, features, &plan)
        .expect("tried")
        .refused_writes;
    let refused: Vec<_> = refused
        .iter()
        .map(|it| (it.vcpu, it.register, it.errno))
        .collect();
    let expected = [
        (0, psci, Errno::EINVAL),
        (0, vbar, Errno::ENOENT),
        (1, vbar, Errno::ENOENT),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn a_vm_that_cannot_be_made_is_an_error() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, 1);
    let plan = testing::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let error = dry_run(&host, features | Features::SVE, &plan).expect_err("no SVE there");
    assert_eq!(
        error.kind(),
        &ErrorKind::Create {
            step: "KVM_ARM_VCPU_INIT",
            errno: Errno::EINVAL
        }
    );
}
