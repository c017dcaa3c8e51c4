use cpreg::register::RegisterId;

use super::*;
use crate::errno::Errno;
use crate::error::ErrorKind;
use crate::made;
use crate::recorded::Fault;
use crate::save::save;

#[test]
fn an_attempt_says_all_that_was_refused() {
    let host = made::recorded("7.3.4", "max");
    let features = made::most(&host);
    let vm = made::ready(&host, features, 2);
    let plan = made::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let done = attempt(&host, features, &plan).expect("tried");
    assert!(done.succeeded() && done.loaded.written > 600);
    let (psci, vbar) = (RegisterId::PSCI_VERSION, RegisterId::sysreg(3, 0, 12, 0, 0));
    let faulty = host
        .with_fault(Fault::Register(psci, Errno::EINVAL))
        .with_fault(Fault::Register(vbar, Errno::ENOENT));
    let refused = attempt(&faulty, features, &plan).expect("tried").refused;
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
    let host = made::recorded("7.3.4", "neoverse-n1");
    let features = made::most(&host);
    let vm = made::ready(&host, features, 1);
    let plan = made::plan(&save(vm.vcpus()).expect("readable"), &host, features);
    let error = attempt(&host, features | Features::SVE, &plan).expect_err("no SVE there");
    assert_eq!(
        error.kind(),
        &ErrorKind::Create {
            step: "KVM_ARM_VCPU_INIT",
            errno: Errno::EINVAL
        }
    );
}
