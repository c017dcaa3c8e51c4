use std::cell::RefCell;
use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::RecordedVm;
use cpreg_kvm::{Host as _, RecordedHost, Vcpu as _, Vm as _};
use cpreg_vcpu_filter::Candidate;

use super::*;

const KVM: c_int = 3;
const VM: c_int = 4;
const FIRST_VCPU: c_int = 5;

/// Kernel with one VM of a recorded host, whose calls take pointers.
struct FakeKernel {
    vm: RecordedVm,
    calls: RefCell<BTreeMap<u32, usize>>,
}

impl FakeKernel {
    fn new() -> Self {
        let index = HostIndex::built_in().expect("the built-in index");
        let host = index.resolve("linux-6.16.12/neoverse-n1").expect("a host");
        let host = RecordedHost::new(host.host.record());
        Self {
            vm: host.create_vm(Features::PMU, 2).expect("a VM"),
            calls: RefCell::default(),
        }
    }

    fn count(&self, request: u32) -> usize {
        self.calls.borrow().get(&request).copied().unwrap_or(0)
    }
}

impl Calls for FakeKernel {
    unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int> {
        *self.calls.borrow_mut().entry(request).or_default() += 1;
        let number = usize::try_from(descriptor - FIRST_VCPU).unwrap_or(0);
        let errno = |errno: Errno| c_int::from(errno.0);
        match request {
            requests::CREATE_VM => return Ok(VM),
            requests::CREATE_VCPU => {
                return Ok(FIRST_VCPU + c_int::try_from(argument.addr()).expect("a number"));
            }
            requests::ARM_VCPU_INIT => return Ok(0),
            _ => {}
        }
        let vcpu = &self.vm.vcpus()[number];
        if request == requests::GET_REG_LIST {
            let list = vcpu.list().map_err(errno)?;
            // SAFETY: The caller passes a list.
            let stored = unsafe { store_list(argument, &list) };
            return if stored {
                Ok(0)
            } else {
                Err(errno(Errno::E2BIG))
            };
        }
        // SAFETY: The caller passes a register.
        let register = unsafe { RegisterArgument::read(argument) }.expect("a register");
        let mut bytes = [0; MAX_REGISTER_LEN];
        let length = register.length();
        if request == requests::GET_ONE_REG {
            let result = vcpu.get(register.id, &mut bytes[..length]);
            // SAFETY: The caller passes memory for the register.
            result.map(|()| unsafe { register.store(&bytes) })
        } else {
            // SAFETY: As above.
            unsafe { register.load(&mut bytes) };
            vcpu.set(register.id, &bytes[..length])
        }
        .map(|()| 0)
        .map_err(errno)
    }
}

fn interposer(is_receiving: bool) -> Interposer<FakeKernel> {
    let policy = Policy {
        is_receiving,
        candidates: vec![Candidate {
            register: RegisterId::PIR_EL1,
            features: vec![Features::NONE],
        }],
        ..Policy::default()
    };
    let interposer = Interposer::new(FakeKernel::new(), policy);
    assert_eq!(
        call(&interposer, KVM, requests::CREATE_VM, 0),
        Answer::Success(VM)
    );
    for number in 0..2 {
        let descriptor = FIRST_VCPU + c_int::try_from(number).expect("a number");
        let created = call(&interposer, VM, requests::CREATE_VCPU, number);
        assert_eq!(created, Answer::Success(descriptor));
        let initialised = call(&interposer, descriptor, requests::ARM_VCPU_INIT, 0);
        assert_eq!(initialised, Answer::Success(0));
    }
    interposer
}

/// Makes a call with a number, or with the address of memory that is valid for the request.
fn call(
    interposer: &Interposer<FakeKernel>,
    descriptor: c_int,
    request: u32,
    argument: usize,
) -> Answer {
    let argument = std::ptr::with_exposed_provenance_mut(argument);
    // SAFETY: The tests pass arguments that are valid for the request.
    unsafe { interposer.ioctl(descriptor, request, argument) }
}

fn list(interposer: &Interposer<FakeKernel>, words: &mut Vec<u64>) -> Answer {
    let address = words.as_mut_ptr().expose_provenance();
    call(interposer, FIRST_VCPU, requests::GET_REG_LIST, address)
}

/// Reads or writes a register.
fn register(
    interposer: &Interposer<FakeKernel>,
    request: u32,
    id: RegisterId,
    value: &mut u64,
) -> Answer {
    let address = (&raw mut *value).expose_provenance() as u64;
    let mut argument = [id.raw(), address];
    let address = argument.as_mut_ptr().expose_provenance();
    call(interposer, FIRST_VCPU, request, address)
}

#[test]
fn a_short_list_fails_with_the_enlarged_length() {
    let interposer = interposer(true);
    let mut words = vec![0];
    let too_big = Answer::Failure(c_int::from(Errno::E2BIG.0));
    assert_eq!(list(&interposer, &mut words), too_big);
    let length = words[0];
    let kernel = interposer.calls.vm.vcpus()[0].list().expect("a list");
    assert_eq!(length, kernel.len() as u64 + 1);
    words.resize(usize::try_from(length).expect("a length"), 0);
    words[0] = length - 1;
    assert_eq!(list(&interposer, &mut words), too_big);
    words.push(0);
    words[0] = length;
    assert_eq!(list(&interposer, &mut words), Answer::Success(0));
    assert!(words.contains(&RegisterId::PIR_EL1.raw()));
    // Each call of the VMM is one call to the kernel.
    assert_eq!(interposer.calls.count(requests::GET_REG_LIST), 3);
}

#[test]
fn a_register_that_the_host_lacks_is_remembered() {
    let interposer = interposer(true);
    let mut words = vec![1024; 1025];
    assert_eq!(list(&interposer, &mut words), Answer::Success(0));
    let mut value = 7;
    let access =
        |request, value: &mut u64| register(&interposer, request, RegisterId::PIR_EL1, value);
    assert_eq!(
        access(requests::GET_ONE_REG, &mut value),
        Answer::Success(0)
    );
    assert_eq!(value, 0);
    value = 9;
    assert_eq!(
        access(requests::SET_ONE_REG, &mut value),
        Answer::Success(0)
    );
    value = 0;
    assert_eq!(
        access(requests::GET_ONE_REG, &mut value),
        Answer::Success(0)
    );
    assert_eq!(value, 9);
    // The VM lacks ID_AA64MMFR3_EL1, so nothing shows that the guest lacks the register.
    assert_eq!(call(&interposer, FIRST_VCPU, requests::RUN, 0), Answer::End);
}

#[test]
fn the_calls_of_a_vcpu_that_runs_pass() {
    let interposer = interposer(true);
    assert_eq!(
        call(&interposer, FIRST_VCPU, requests::RUN, 0),
        Answer::Pass
    );
    assert!(interposer.passes(FIRST_VCPU, requests::RUN));
    assert!(!interposer.passes(FIRST_VCPU + 1, requests::RUN));
    let before = interposer.calls.count(requests::GET_ONE_REG);
    let mut value = 0;
    let id = RegisterId::SCTLR_EL1;
    let answer = register(&interposer, requests::GET_ONE_REG, id, &mut value);
    assert_eq!(answer, Answer::Pass);
    assert_eq!(interposer.calls.count(requests::GET_ONE_REG), before);
    let again = call(&interposer, FIRST_VCPU, requests::ARM_VCPU_INIT, 0);
    assert_eq!(again, Answer::Success(0));
    assert!(!interposer.passes(FIRST_VCPU, requests::RUN));
}

#[test]
fn unknown_descriptors_and_null_pointers_pass() {
    let interposer = interposer(true);
    for request in [
        requests::GET_ONE_REG,
        requests::SET_ONE_REG,
        requests::GET_REG_LIST,
    ] {
        assert_eq!(call(&interposer, 99, request, 0), Answer::Pass);
        assert_eq!(call(&interposer, FIRST_VCPU, request, 0), Answer::Pass);
    }
    assert!(interposer.passes(FIRST_VCPU, 0x5401));
    interposer.close(FIRST_VCPU);
    let mut value = 0;
    let id = RegisterId::SCTLR_EL1;
    let answer = register(&interposer, requests::GET_ONE_REG, id, &mut value);
    assert_eq!(answer, Answer::Pass);
}

#[test]
fn a_vmm_that_does_not_receive_makes_the_same_calls() {
    let interposer = interposer(false);
    let mut words = vec![1024; 1025];
    assert_eq!(list(&interposer, &mut words), Answer::Pass);
    let mut value = 1;
    for request in [requests::GET_ONE_REG, requests::SET_ONE_REG] {
        let answer = register(&interposer, request, RegisterId::PIR_EL1, &mut value);
        assert_eq!(answer, Answer::Pass);
    }
    assert_eq!(
        call(&interposer, FIRST_VCPU, requests::RUN, 0),
        Answer::Pass
    );
    for request in [requests::GET_REG_LIST, requests::GET_ONE_REG, requests::RUN] {
        assert_eq!(interposer.calls.count(request), 0);
    }
}
