//! [`FakeKvm`]: the VMs of a process on a recorded host.
#![expect(unsafe_code, reason = "ioctls take pointers")]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use cpreg::destination::Features;
use cpreg::register::RegisterId;
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::{RecordedHost, RecordedVm};
use cpreg_kvm::{Errno, Host as _, Vcpu as _, Vm as _};

const CREATE_VM: u32 = 0xae01;
const CREATE_VCPU: u32 = 0xae41;
const RUN: u32 = 0xae80;
const SET_MP_STATE: u32 = 0x4004_ae99;
const GET_ONE_REG: u32 = 0x4010_aeab;
const SET_ONE_REG: u32 = 0x4010_aeac;
const ARM_VCPU_INIT: u32 = 0x4020_aeae;
const GET_REG_LIST: u32 = 0xc008_aeb0;

/// Maximum width of a register in bytes.
const MAX_REGISTER_LEN: usize = 256;

/// Object behind a descriptor.
#[derive(Clone)]
enum Object {
    Vm(Arc<RecordedVm>),
    Vcpu(Arc<RecordedVm>, usize),
}

/// VMs of a process on a recorded host.
pub(crate) struct FakeKvm {
    host: RecordedHost,
    features: Features,
    vcpus: usize,
    /// Process that created the VMs.
    process: u32,
    objects: RwLock<BTreeMap<c_int, Object>>,
    failing_write: Option<u64>,
    writes: AtomicU64,
}

impl FakeKvm {
    /// Reads the host from the environment.
    ///
    /// A test without a valid host has no meaning, so an invalid variable ends the process.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let name = variable("FAKE_KVM_HOST").expect("FAKE_KVM_HOST names a recorded host");
        let index = HostIndex::built_in().expect("the built-in index");
        let named = index.resolve(&name).expect("a recorded host");
        let number = |name: &str| variable(name).map(|text| text.parse().expect("a number"));
        Self {
            host: RecordedHost::new(named.host.record()),
            features: named.features.unwrap_or_default(),
            vcpus: number("FAKE_KVM_VCPUS").map_or(1, |count| {
                usize::try_from(count).expect("a number of vCPUs")
            }),
            process: std::process::id(),
            objects: RwLock::default(),
            failing_write: number("FAKE_KVM_FAILING_WRITE"),
            writes: AtomicU64::new(0),
        }
    }

    /// Handles one of KVM's requests. Returns its result, or the errno.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    pub(crate) unsafe fn ioctl(
        &self,
        descriptor: c_int,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int> {
        if request == CREATE_VM {
            let vm = self.host.create_vm(self.features, self.vcpus);
            let vm = vm.map_err(|_| libc::EINVAL)?;
            return self.insert(descriptor, Object::Vm(Arc::new(vm)));
        }
        let object = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            objects.get(&descriptor).cloned().ok_or(libc::ENOTTY)?
        };
        if std::process::id() != self.process {
            return Err(libc::EIO);
        }
        match object {
            Object::Vm(vm) if request == CREATE_VCPU => {
                self.insert(descriptor, Object::Vcpu(vm, argument.addr()))
            }
            Object::Vm(_) => Err(libc::ENOTTY),
            // SAFETY: The caller fulfils the condition.
            Object::Vcpu(vm, number) => unsafe { self.on_vcpu(&vm, number, request, argument) },
        }
    }

    fn insert(&self, descriptor: c_int, object: Object) -> Result<c_int, c_int> {
        // SAFETY: The function has no conditions.
        let created = unsafe { libc::dup(descriptor) };
        if created < 0 {
            return Err(libc::EMFILE);
        }
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.insert(created, object);
        Ok(created)
    }

    /// Handles a request on a vCPU.
    ///
    /// # Safety
    /// The argument must be valid for the request.
    unsafe fn on_vcpu(
        &self,
        vm: &RecordedVm,
        number: usize,
        request: u32,
        argument: *mut c_void,
    ) -> Result<c_int, c_int> {
        let vcpu = vm.vcpus().get(number).ok_or(libc::EINVAL)?;
        let errno = |errno: Errno| c_int::from(errno.0);
        match request {
            RUN => {
                vm.mark_run();
                Ok(0)
            }
            ARM_VCPU_INIT | SET_MP_STATE => Ok(0),
            GET_REG_LIST => {
                let list = vcpu.list().map_err(errno)?;
                // SAFETY: The caller passes a list.
                unsafe { store_list(argument, &list) }
            }
            GET_ONE_REG | SET_ONE_REG => {
                // SAFETY: The caller passes a register.
                let [id, address] = unsafe { argument.cast::<[u64; 2]>().read_unaligned() };
                let id = RegisterId::from_raw(id);
                let length = id.size_bytes().ok_or(libc::EINVAL)?;
                let mut bytes = [0; MAX_REGISTER_LEN];
                let bytes = bytes.get_mut(..length).ok_or(libc::EINVAL)?;
                let address: *mut u8 =
                    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0));
                if request == GET_ONE_REG {
                    vcpu.get(id, bytes).map_err(errno)?;
                    // SAFETY: The caller passes memory for the register.
                    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address, length) };
                } else {
                    // SAFETY: As above.
                    unsafe { std::ptr::copy_nonoverlapping(address, bytes.as_mut_ptr(), length) };
                    let write = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
                    if self.failing_write == Some(write) {
                        return Err(libc::EIO);
                    }
                    vcpu.set(id, bytes).map_err(errno)?;
                }
                Ok(0)
            }
            _ => Err(libc::ENOTTY),
        }
    }
}

/// Answers `KVM_GET_REG_LIST`.
///
/// # Safety
/// The argument must be a valid `struct kvm_reg_list`.
unsafe fn store_list(argument: *mut c_void, list: &[RegisterId]) -> Result<c_int, c_int> {
    let words = argument.cast::<u64>();
    // SAFETY: The structure begins with the number of ids.
    let capacity = unsafe { words.read_unaligned() };
    // SAFETY: As above.
    unsafe { words.write_unaligned(list.len() as u64) };
    if capacity < list.len() as u64 {
        return Err(libc::E2BIG);
    }
    for (index, id) in list.iter().enumerate() {
        // SAFETY: The VMM has memory for `capacity` ids after the number.
        unsafe { words.add(1 + index).write_unaligned(id.raw()) };
    }
    Ok(0)
}
