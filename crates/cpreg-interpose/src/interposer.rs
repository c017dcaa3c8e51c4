//! [`Interposer`]: dispatch of a process's ioctls to the filters of its VMs.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard};

use cpreg_kvm::Errno;
use cpreg_vcpu_filter::{Policy, VcpuUse, VmFilter};

use crate::descriptors::{Descriptors, Object, lock};
use crate::kernel::{Calls, KernelVcpu};
use crate::log::{self, Log};
use crate::memory::{MAX_REGISTER_LEN, RegisterArgument, features, store_list};
use crate::requests;

/// Filters of a process's VMs, between the VMM and the kernel.
pub(crate) struct Interposer<C> {
    calls: C,
    policy: Arc<Policy>,
    descriptors: Descriptors,
    process_id: u32,
    log: Log,
}

/// Last words of a process whose VM must not run.
const REFUSED: &str = "the VM does not run with this state; the VMM ends";
/// Last words of a process whose VM does not get its settings.
const REFUSED_SETTINGS: &str = "the VM does not start without its settings; the VMM ends";
/// Last words of a process that runs a vCPU which the library cannot connect with a VM.
const UNKNOWN_VCPU: &str = "the VMM runs a vCPU whose VM is not known, so nothing has checked the \
                            VM's state; the VMM ends";
/// Last words of a process after a panic.
pub(crate) const INTERNAL_ERROR: &str =
    "internal error: the VM's state is not checked before its first run; the VMM ends";

/// Answer to an ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The call succeeds with this result.
    Success(c_int),
    /// The call fails with this errno.
    Failure(c_int),
    /// The call goes to the kernel as it came.
    Pass,
    /// The process must end, because the VM must not run.
    End(&'static str),
}

impl Answer {
    fn from_result(result: Result<(), Errno>) -> Self {
        match result {
            Ok(()) => Self::Success(0),
            Err(errno) => Self::Failure(c_int::from(errno.0)),
        }
    }

    fn from_call(result: Result<c_int, c_int>) -> Self {
        match result {
            Ok(result) => Self::Success(result),
            Err(errno) => Self::Failure(errno),
        }
    }
}

impl<C: Calls> Interposer<C> {
    pub(crate) fn new(calls: C, policy: Arc<Policy>) -> Self {
        Self {
            calls,
            descriptors: Descriptors::new(),
            process_id: std::process::id(),
            log: Log::new(policy.log.as_ref()),
            policy,
        }
    }

    /// Forgets a descriptor that the VMM closes.
    ///
    /// The child of a `vfork` has the parent's memory, and closes descriptors of its own.
    pub(crate) fn close(&self, descriptor: c_int) {
        if self.descriptors.contains(descriptor) && std::process::id() == self.process_id {
            self.descriptors.remove(descriptor);
        }
    }

    /// Returns `true` if a VM of this process must not run before its state was checked.
    fn checks_run(&self) -> bool {
        self.policy.is_receiving || !self.policy.born_with.is_empty()
    }

    /// Returns `true` if the call certainly passes. Costs a few loads.
    pub(crate) fn passes(&self, descriptor: c_int, request: u32) -> bool {
        !requests::is_kvm(request)
            || request == requests::RUN && self.descriptors.is_running(descriptor)
    }

    /// Handles an ioctl.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    pub(crate) unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Answer {
        match request {
            requests::CREATE_VM | requests::CREATE_VCPU => {
                // SAFETY: The argument is a number.
                unsafe { self.create(descriptor, request, argument) }
            }
            _ if requests::is_about_vcpu(request) => {
                let found = match self.descriptors.get(descriptor) {
                    Some(object) => Lookup::Found(object),
                    None if request == requests::RUN && !self.checks_run() => Lookup::NoVcpu,
                    None => self.find_duplicate(descriptor),
                };
                match found {
                    Lookup::UnknownVm if request == requests::RUN && self.checks_run() => {
                        Answer::End(UNKNOWN_VCPU)
                    }
                    Lookup::Found(Object::Vcpu(vm, number)) => {
                        let call = VcpuCall {
                            interposer: self,
                            descriptor,
                            vm: &vm,
                            number,
                        };
                        // SAFETY: The caller passes an argument that is valid for the request.
                        unsafe { call.handle(request, argument) }
                    }
                    _ => Answer::Pass,
                }
            }
            _ => Answer::Pass,
        }
    }

    /// Creates a VM or a vCPU, and records its descriptor.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn create(&self, descriptor: c_int, request: u32, argument: *mut c_void) -> Answer {
        // SAFETY: The caller fulfils the condition.
        let result = unsafe { self.calls.ioctl(descriptor, request, argument) };
        if let Ok(created) = result {
            let object = match self.descriptors.get(descriptor) {
                Some(Object::Vm(vm)) if request == requests::CREATE_VCPU => {
                    let number = argument.addr();
                    lock(&vm).add_vcpu(number);
                    Some(Object::Vcpu(vm, number))
                }
                _ if request == requests::CREATE_VM => {
                    let filter = VmFilter::new(self.policy.clone());
                    Some(Object::Vm(Arc::new(Mutex::new(filter))))
                }
                _ => None,
            };
            let is_known = object.is_some_and(|object| self.descriptors.insert(created, object));
            if !is_known {
                log::print(format_args!(
                    "descriptor {created} is not known; its calls pass"
                ));
            }
        }
        Answer::from_call(result)
    }

    /// Finds the vCPU of a descriptor that the VMM duplicated.
    fn find_duplicate(&self, descriptor: c_int) -> Lookup {
        const PREFIX: &str = "anon_inode:kvm-vcpu:";
        // A process may have no /proc.
        let Some(target) = self.calls.describe(descriptor) else {
            return Lookup::UnknownVm;
        };
        let Some(number) = target.strip_prefix(PREFIX) else {
            return Lookup::NoVcpu;
        };
        let vm = number.parse().ok().and_then(|number| {
            let vm = self.descriptors.vm_with_vcpu(number)?;
            Some((vm, number))
        });
        let Some((vm, number)) = vm else {
            return Lookup::UnknownVm;
        };
        let object = Object::Vcpu(vm, number);
        self.descriptors.insert(descriptor, object.clone());
        Lookup::Found(object)
    }
}

/// Result of the search for the object of a descriptor.
enum Lookup {
    /// The object is known.
    Found(Object),
    /// The descriptor is that of a vCPU of an unknown VM, or may be.
    UnknownVm,
    /// The descriptor is not that of a vCPU.
    NoVcpu,
}

/// Call about a vCPU.
struct VcpuCall<'a, C> {
    interposer: &'a Interposer<C>,
    descriptor: c_int,
    vm: &'a Mutex<VmFilter>,
    number: usize,
}

impl<C: Calls> VcpuCall<'_, C> {
    /// Handles the call.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn handle(&self, request: u32, argument: *mut c_void) -> Answer {
        let kernel = KernelVcpu {
            calls: &self.interposer.calls,
            descriptor: self.descriptor,
        };
        match request {
            // SAFETY: The caller passes an argument that is valid for the request.
            requests::GET_ONE_REG => unsafe { self.get(&kernel, argument) },
            // SAFETY: The caller passes an argument that is valid for the request.
            requests::SET_ONE_REG => unsafe { self.set(&kernel, argument) },
            // SAFETY: The caller passes an argument that is valid for the request.
            requests::GET_REG_LIST => unsafe { self.list(&kernel, argument) },
            // SAFETY: The caller passes an argument that is valid for the request.
            requests::ARM_VCPU_INIT => unsafe { self.initialize(&kernel, argument) },
            requests::SET_MP_STATE => self.check_state(&kernel),
            requests::RUN => self.check_run(&kernel),
            _ => Answer::Pass,
        }
    }

    /// Reports the events of the VM.
    fn report(&self, vm: &mut VmFilter) {
        for event in vm.take_events() {
            self.interposer.log.event(&event);
        }
    }

    /// Returns the argument of a call about one register, and the VM's filter. Returns `None` if
    /// the call passes to the kernel.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn filtered_register(
        &self,
        argument: *mut c_void,
    ) -> Option<(RegisterArgument, MutexGuard<'_, VmFilter>)> {
        // SAFETY: The caller passes a valid argument.
        let register = unsafe { RegisterArgument::read(argument) }?;
        let vm = lock(self.vm);
        (!vm.passes(self.number, register.id)).then_some((register, vm))
    }

    /// Answers `KVM_GET_ONE_REG`.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn get(&self, kernel: &KernelVcpu<'_, C>, argument: *mut c_void) -> Answer {
        // SAFETY: The caller passes a valid argument.
        let Some((register, mut vm)) = (unsafe { self.filtered_register(argument) }) else {
            return Answer::Pass;
        };
        let mut bytes = [0; MAX_REGISTER_LEN];
        let length = register.length();
        let result = match bytes.get_mut(..length) {
            Some(bytes) => vm.get(self.number, kernel, register.id, bytes),
            None => return Answer::Pass,
        };
        if result.is_ok() {
            // SAFETY: The call has not returned.
            unsafe { register.store(&bytes) };
        }
        Answer::from_result(result)
    }

    /// Answers `KVM_SET_ONE_REG`.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn set(&self, kernel: &KernelVcpu<'_, C>, argument: *mut c_void) -> Answer {
        // SAFETY: The caller passes a valid argument.
        let Some((register, mut vm)) = (unsafe { self.filtered_register(argument) }) else {
            return Answer::Pass;
        };
        let mut bytes = [0; MAX_REGISTER_LEN];
        // SAFETY: The call has not returned.
        let length = unsafe { register.load(&mut bytes) };
        let bytes = bytes.get(..length).unwrap_or_default();
        let result = vm.set(self.number, kernel, register.id, bytes);
        self.report(&mut vm);
        Answer::from_result(result)
    }

    /// Answers `KVM_GET_REG_LIST`. A VMM with too little memory for the longer list gets its length
    /// and `E2BIG`, as from the kernel.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn list(&self, kernel: &KernelVcpu<'_, C>, argument: *mut c_void) -> Answer {
        let policy = &self.interposer.policy;
        if argument.is_null() || !policy.is_receiving && policy.drop.is_empty() {
            return Answer::Pass;
        }
        let mut vm = lock(self.vm);
        let list = vm.list(self.number, kernel);
        self.report(&mut vm);
        match list {
            // SAFETY: The caller passes a valid argument.
            Ok(list) if unsafe { store_list(argument, &list) } => Answer::Success(0),
            Ok(_) => {
                vm.keep_list(self.number);
                Answer::Failure(c_int::from(Errno::E2BIG.0))
            }
            Err(errno) => Answer::Failure(c_int::from(errno.0)),
        }
    }

    /// Initialises the vCPU, and makes the settings of the policy.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn initialize(&self, kernel: &KernelVcpu<'_, C>, argument: *mut c_void) -> Answer {
        let calls = &self.interposer.calls;
        // SAFETY: The caller passes a valid argument.
        let vcpu_use = VcpuUse::from_features(unsafe { features(argument) });
        // SAFETY: The caller passes a valid argument.
        let result = unsafe { calls.ioctl(self.descriptor, requests::ARM_VCPU_INIT, argument) };
        if result.is_ok() {
            self.interposer
                .descriptors
                .set_running(self.descriptor, false);
            let mut vm = lock(self.vm);
            let initialized = vm.initialize(self.number, vcpu_use, kernel);
            self.report(&mut vm);
            if initialized.is_err() {
                return Answer::End(REFUSED_SETTINGS);
            }
        }
        Answer::from_call(result)
    }

    fn check_state(&self, kernel: &KernelVcpu<'_, C>) -> Answer {
        let mut vm = lock(self.vm);
        let result = vm.check_state(self.number, kernel);
        self.report(&mut vm);
        match result {
            Ok(()) => Answer::Pass,
            Err(errno) => Answer::Failure(c_int::from(errno.0)),
        }
    }

    fn check_run(&self, kernel: &KernelVcpu<'_, C>) -> Answer {
        // A panic may have lost a value of the incoming VM.
        if self.vm.is_poisoned() && self.interposer.checks_run() {
            return Answer::End(INTERNAL_ERROR);
        }
        let mut vm = lock(self.vm);
        let result = vm.check_run(self.number, kernel);
        self.report(&mut vm);
        if result.is_err() {
            return Answer::End(REFUSED);
        }
        self.interposer
            .descriptors
            .set_running(self.descriptor, true);
        Answer::Pass
    }
}

#[cfg(test)]
mod tests;
