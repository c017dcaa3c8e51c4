mod faults;

use std::collections::BTreeMap;
use std::sync::PoisonError;

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
    calls: Mutex<BTreeMap<u32, usize>>,
    fault: Mutex<Option<Fault>>,
    /// Descriptions of descriptors that the VMM duplicated; `None` without `/proc`.
    links: Option<BTreeMap<c_int, &'static str>>,
}

/// Fault of one call.
#[derive(Clone, Copy)]
enum Fault {
    /// The next call with this request fails with this errno.
    Errno(u32, c_int),
    /// The next call with this request panics.
    Panic(u32),
}

impl FakeKernel {
    fn new(vcpus: usize) -> Self {
        let index = HostIndex::built_in().expect("the built-in index");
        let host = index.resolve("linux-6.16.12/neoverse-n1").expect("a host");
        let host = RecordedHost::new(host.host.record());
        Self {
            vm: host.create_vm(Features::PMU, vcpus).expect("a VM"),
            calls: Mutex::default(),
            fault: Mutex::default(),
            links: Some(BTreeMap::new()),
        }
    }

    fn count(&self, request: u32) -> usize {
        let calls = self.calls.lock().expect("no panic holds the lock");
        calls.get(&request).copied().unwrap_or(0)
    }

    fn set_fault(&self, fault: Fault) {
        *self.fault.lock().expect("no panic holds the lock") = Some(fault);
    }

    /// Returns the errno of the fault for this request, once, or panics.
    fn take_fault(&self, request: u32) -> Option<c_int> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match *fault {
            Some(Fault::Errno(other, errno)) if other == request => {
                *fault = None;
                Some(errno)
            }
            Some(Fault::Panic(other)) if other == request => {
                *fault = None;
                drop(fault);
                panic!("the fault of the test");
            }
            _ => None,
        }
    }
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new(2)
    }
}

impl Calls for FakeKernel {
    unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int> {
        let mut calls = self.calls.lock().expect("no panic holds the lock");
        *calls.entry(request).or_default() += 1;
        drop(calls);
        if let Some(errno) = self.take_fault(request) {
            return Err(errno);
        }
        let number = match self.describe(descriptor) {
            Some(link) if link == "anon_inode:kvm-vcpu:1" => 1,
            _ => usize::try_from(descriptor - FIRST_VCPU).unwrap_or(0),
        };
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

    fn describe(&self, descriptor: c_int) -> Option<String> {
        let links = self.links.as_ref()?;
        let link = links.get(&descriptor).copied();
        Some(link.unwrap_or("/dev/null").to_owned())
    }
}

fn policy(is_receiving: bool) -> Policy {
    Policy {
        is_receiving,
        candidates: vec![Candidate {
            register: RegisterId::PIR_EL1,
            features: vec![Features::NONE],
        }],
        ..Policy::default()
    }
}

fn interposer(is_receiving: bool) -> Interposer<FakeKernel> {
    start(FakeKernel::new(2), policy(is_receiving))
}

/// Starts a VMM up to the initialisation of its vCPUs.
fn start(kernel: FakeKernel, policy: Policy) -> Interposer<FakeKernel> {
    let vcpus = kernel.vm.vcpus().len();
    let interposer = Interposer::new(kernel, Arc::new(policy));
    assert_eq!(
        call(&interposer, KVM, requests::CREATE_VM, 0),
        Answer::Success(VM)
    );
    for number in 0..vcpus {
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

/// Reads or writes a register of the first vCPU.
fn register(
    interposer: &Interposer<FakeKernel>,
    request: u32,
    id: RegisterId,
    value: &mut u64,
) -> Answer {
    register_of(interposer, FIRST_VCPU, request, id, value)
}

/// Reads or writes a register of the vCPU with this descriptor.
fn register_of(
    interposer: &Interposer<FakeKernel>,
    descriptor: c_int,
    request: u32,
    id: RegisterId,
    value: &mut u64,
) -> Answer {
    let address = (&raw mut *value).expose_provenance() as u64;
    let mut argument = [id.raw(), address];
    let address = argument.as_mut_ptr().expose_provenance();
    call(interposer, descriptor, request, address)
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
    // The VMM's three calls are one call to the kernel.
    assert_eq!(interposer.calls.count(requests::GET_REG_LIST), 1);
}

#[test]
fn a_call_between_two_lists_makes_the_second_one_new() {
    let interposer = interposer(true);
    let too_big = Answer::Failure(c_int::from(Errno::E2BIG.0));
    assert_eq!(list(&interposer, &mut vec![0]), too_big);
    let mut value = 0;
    let id = RegisterId::SCTLR_EL1;
    let answer = register(&interposer, requests::GET_ONE_REG, id, &mut value);
    assert_eq!(answer, Answer::Success(0));
    assert_eq!(list(&interposer, &mut vec![1024; 1025]), Answer::Success(0));
    assert_eq!(interposer.calls.count(requests::GET_REG_LIST), 2);
}

#[test]
fn a_write_after_a_reset_needs_no_new_list() {
    let interposer = interposer(true);
    assert_eq!(list(&interposer, &mut vec![1024; 1025]), Answer::Success(0));
    let mut value = 0;
    let id = RegisterId::SCTLR_EL1;
    let answer = register(&interposer, requests::GET_ONE_REG, id, &mut value);
    assert_eq!(answer, Answer::Success(0));
    let reset = call(&interposer, FIRST_VCPU, requests::ARM_VCPU_INIT, 0);
    assert_eq!(reset, Answer::Success(0));
    let answer = register(&interposer, requests::SET_ONE_REG, id, &mut value);
    assert_eq!(answer, Answer::Success(0));
    assert_eq!(interposer.calls.count(requests::GET_REG_LIST), 1);
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
    assert_eq!(
        call(&interposer, FIRST_VCPU, requests::RUN, 0),
        Answer::End(REFUSED)
    );
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
