//! [`Memory`]: the guest's memory in one piece, and which of it was written.

use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::failure::step_failure;
use crate::guest::RAM_BASE;
use crate::migrate::Failure;
use crate::protocol::PAGE;

/// The memory slot of KVM's that it is.
const SLOT: u32 = 0;
/// The longest name that is read for a guest.
const MAX_NAME_LEN: usize = 32;

/// The guest's memory. Addresses are offsets into it, but where it is said otherwise.
#[derive(Debug)]
pub struct Memory {
    map: GuestMemoryMmap,
    size: u64,
    /// One flag at a time may be set in KVM.
    is_dirty_tracking: Mutex<bool>,
}

impl Memory {
    /// Gives the VM so many bytes of zeros.
    ///
    /// # Errors
    /// If there are not as many, or KVM does not take them.
    pub fn new(vm: &VmFd, size: u64) -> Result<Self, Failure> {
        let bytes = usize::try_from(size).map_err(|error| Failure::new("memory", error))?;
        let map = GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM_BASE), bytes)])
            .map_err(|error| Failure::new("cannot get memory for the guest", error))?;
        let memory = Self {
            map,
            size,
            is_dirty_tracking: Mutex::new(false),
        };
        memory.register(vm, 0)?;
        Ok(memory)
    }

    #[allow(unsafe_code)]
    fn register(&self, vm: &VmFd, flags: u32) -> Result<(), Failure> {
        use vm_memory::GuestMemoryBackend;
        let host = self
            .map
            .get_host_address(GuestAddress(RAM_BASE))
            .map_err(|error| Failure::new("the guest's memory", error))?;
        let region = kvm_userspace_memory_region {
            slot: SLOT,
            flags,
            guest_phys_addr: RAM_BASE,
            memory_size: self.size,
            userspace_addr: host.expose_provenance() as u64,
        };
        // SAFETY: the range is the whole mapping, which only the guest and `vm_memory`, by volatile accesses, touch; it is
        // mapped for as long as the `Machine`, which drops the VM's descriptors first.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(step_failure("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// If they do not fit.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let address = RAM_BASE.checked_add(offset).map(GuestAddress);
        let address = address.ok_or_else(|| Failure("an address beyond all memory".into()))?;
        self.map
            .write_slice(bytes, address)
            .map_err(|error| Failure::new("cannot write the guest's memory", error))
    }

    /// Reads a page.
    ///
    /// # Errors
    /// If there is none.
    pub fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure> {
        let address = GuestAddress(RAM_BASE + u64::from(number) * PAGE as u64);
        self.map
            .read_slice(content, address)
            .map_err(|error| Failure::new("cannot read the guest's memory", error))
    }

    /// The name at a guest's physical address: up to a zero, not too long, nothing but ASCII that can be printed.
    pub fn text(&self, address: u64) -> Option<String> {
        let mut bytes = [0; MAX_NAME_LEN];
        let read = self.map.read(&mut bytes, GuestAddress(address)).ok()?;
        let text = bytes.get(..read)?.split(|byte| *byte == 0).next()?;
        let is_text = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
        (is_text && !text.is_empty()).then(|| text.iter().map(|byte| char::from(*byte)).collect())
    }

    /// Tells KVM whether to keep account of what is written.
    ///
    /// # Errors
    /// If it does not.
    pub fn set_dirty_tracking(&self, vm: &VmFd, watch: bool) -> Result<(), Failure> {
        let mut watched = self
            .is_dirty_tracking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *watched != watch {
            self.register(vm, if watch { KVM_MEM_LOG_DIRTY_PAGES } else { 0 })?;
            *watched = watch;
        }
        Ok(())
    }

    /// Pages that were written since it was asked last, ascending; in units of [`PAGE`], whatever the host's are.
    ///
    /// # Errors
    /// If KVM does not tell.
    pub fn dirty_pages(&self, vm: &VmFd) -> Result<Vec<u32>, Failure> {
        let size = usize::try_from(self.size).map_err(|error| Failure::new("memory", error))?;
        let bitmap = vm
            .get_dirty_log(SLOT, size)
            .map_err(step_failure("KVM_GET_DIRTY_LOG"))?;
        let each = (rustix::param::page_size() / PAGE).max(1);
        let mut pages = Vec::new();
        for (word, bits) in bitmap.iter().enumerate() {
            for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                let first = (word * 64 + bit) * each;
                let here = first..(first + each).min(size / PAGE);
                pages.extend(here.filter_map(|page| u32::try_from(page).ok()));
            }
        }
        Ok(pages)
    }
}
