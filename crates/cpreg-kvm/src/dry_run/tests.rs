use cpreg::register::RegisterId;

use super::*;
use crate::errno::Errno;
use crate::error::ErrorKind;
use crate::recorded::Fault;
use crate::save::save;
use crate::testing;

#[test]
fn a_dry_run_reports_all_refused_writes() {
    let host = testing::recorded_host("7.3.4", "max");
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, 2);
    let plan = testing::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let result = dry_run(&host, features, &plan).expect("a dry run");
    assert!(result.is_success() && result.summary.written_registers > 600);
    let (psci, vbar) = (RegisterId::PSCI_VERSION, RegisterId::sysreg(3, 0, 12, 0, 0));
    let faulty = host
        .with_fault(Fault::Register(psci, Errno::EINVAL))
        .with_fault(Fault::Register(vbar, Errno::ENOENT));
    let result = dry_run(&faulty, features, &plan).expect("a dry run");
    let refused: Vec<_> = result
        .refused_writes
        .iter()
        .map(|write| (write.vcpu, write.register, write.errno))
        .collect();
    let expected = [
        (0, psci, Errno::EINVAL),
        (0, vbar, Errno::ENOENT),
        (1, vbar, Errno::ENOENT),
    ];
    assert_eq!(refused, expected);
}

#[test]
fn a_vm_that_cannot_be_created_is_an_error() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let features = testing::max_features(&host);
    let vm = testing::ready_vm(&host, features, 1);
    let plan = testing::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let error = dry_run(&host, features | Features::SVE, &plan).expect_err("a host without SVE");
    assert_eq!(
        error.kind(),
        &ErrorKind::Create {
            step: "KVM_ARM_VCPU_INIT",
            errno: Errno::EINVAL
        }
    );
}
