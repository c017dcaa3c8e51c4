//! [`Process`]: the interposer of this process, from its first VM to its end.
//!
//! A program that makes no VM, such as a child of the VMM that inherits its environment, never gets
//! an interposer. After `fork` the child begins without one, because the kernel answers calls about
//! the parent's VMs with `EIO`. The child of a VMM that becomes a daemon makes its own VM, and then
//! gets an interposer.
#![expect(unsafe_code, reason = "a pointer that is null until the first VM")]

use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

use cpreg_vcpu_filter::Policy;

use crate::interposer::Interposer;
use crate::kernel::Calls;
use crate::requests;

/// Policy and interposer of a process.
pub(crate) struct Process<C: 'static> {
    policy: OnceLock<Arc<Policy>>,
    /// Null before the process makes a VM. An interposer is never freed.
    interposer: AtomicPtr<Interposer<C>>,
}

impl<C: Calls + Default> Process<C> {
    pub(crate) const fn new() -> Self {
        Self {
            policy: OnceLock::new(),
            interposer: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Sets the policy, once.
    pub(crate) fn set_policy(&self, policy: Policy) {
        let _ = self.policy.set(Arc::new(policy));
    }

    /// Returns the interposer if the process has made a VM.
    pub(crate) fn current(&self) -> Option<&'static Interposer<C>> {
        let interposer = self.interposer.load(Ordering::Acquire);
        // SAFETY: The pointer is null or that of an interposer, which is never freed.
        unsafe { interposer.as_ref() }
    }

    /// Returns the interposer for a request. The creation of the first VM makes it.
    pub(crate) fn for_request(&self, request: u32) -> Option<&'static Interposer<C>> {
        let current = self.current();
        if current.is_some() || request != requests::CREATE_VM {
            return current;
        }
        let policy = self.policy.get()?;
        let new = Box::into_raw(Box::new(Interposer::new(C::default(), policy.clone())));
        let null = std::ptr::null_mut();
        let exchange =
            self.interposer
                .compare_exchange(null, new, Ordering::AcqRel, Ordering::Acquire);
        if exchange.is_err() {
            // SAFETY: No other thread knows the pointer.
            drop(unsafe { Box::from_raw(new) });
        }
        self.current()
    }

    /// Forgets the parent's VMs in the child of a `fork`.
    ///
    /// Takes no lock, because another thread of the parent may have held it.
    pub(crate) fn forget(&self) {
        self.interposer
            .store(std::ptr::null_mut(), Ordering::Release);
    }
}
