//! [`Memory`]: the guest's memory in one piece, with dirty page tracking.

use std::sync::{Mutex, PoisonError};

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::failure::step_failure;
use crate::guest::RAM_BASE;
use crate::migrate::Failure;
use crate::protocol::PAGE;

/// Memory slot of KVM.
const SLOT: u32 = 0;
/// Maximum length of a name read for a guest.
const MAX_NAME_LEN: usize = 32;

/// Memory of the guest. Addresses are offsets into it, unless stated otherwise.
#[derive(Debug)]
pub struct Memory {
    map: GuestMemoryMmap,
    size: u64,
    /// `true` while KVM tracks dirty pages. The lock serialises changes.
    is_dirty_tracking: Mutex<bool>,
}

impl Memory {
    /// Creates `size` bytes of zeros and gives them to the VM.
    ///
    /// # Errors
    /// Returns an error if the memory cannot be allocated, or KVM does not accept it.
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
        // SAFETY: the range is the whole mapping, which only the guest and `vm_memory`, by volatile
        // accesses, touch. The mapping lives as long as the `Machine`, which drops the VM's
        // descriptors first.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(step_failure("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Writes bytes at an offset.
    ///
    /// # Errors
    /// Returns an error if they do not fit.
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
    /// Returns an error if the page does not exist.
    pub fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure> {
        let address = GuestAddress(RAM_BASE + u64::from(number) * PAGE as u64);
        self.map
            .read_slice(content, address)
            .map_err(|error| Failure::new("cannot read the guest's memory", error))
    }

    /// Reads a name at a guest physical address: printable ASCII up to a zero, of limited length.
    pub fn text(&self, address: u64) -> Option<String> {
        let mut bytes = [0; MAX_NAME_LEN];
        let read = self.map.read(&mut bytes, GuestAddress(address)).ok()?;
        let text = bytes.get(..read)?.split(|byte| *byte == 0).next()?;
        let is_text = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
        (is_text && !text.is_empty()).then(|| text.iter().map(|byte| char::from(*byte)).collect())
    }

    /// Switches dirty page tracking on or off.
    ///
    /// # Errors
    /// Returns an error if KVM fails to switch it.
    pub fn set_dirty_tracking(&self, vm: &VmFd, enable: bool) -> Result<(), Failure> {
        let mut is_enabled = self
            .is_dirty_tracking
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *is_enabled != enable {
            self.register(vm, if enable { KVM_MEM_LOG_DIRTY_PAGES } else { 0 })?;
            *is_enabled = enable;
        }
        Ok(())
    }

    /// Returns the pages written since the last call, ascending, in units of [`PAGE`] on every
    /// host.
    ///
    /// # Errors
    /// Returns an error if KVM does not return its log.
    pub fn dirty_pages(&self, vm: &VmFd) -> Result<Vec<u32>, Failure> {
        let size = usize::try_from(self.size).map_err(|error| Failure::new("memory", error))?;
        let bitmap = vm
            .get_dirty_log(SLOT, size)
            .map_err(step_failure("KVM_GET_DIRTY_LOG"))?;
        let pages_per_bit = (rustix::param::page_size() / PAGE).max(1);
        let mut pages = Vec::new();
        for (word, bits) in bitmap.iter().enumerate() {
            for bit in (0..64).filter(|bit| bits >> bit & 1 != 0) {
                let first = (word * 64 + bit) * pages_per_bit;
                let range = first..(first + pages_per_bit).min(size / PAGE);
                pages.extend(range.filter_map(|page| u32::try_from(page).ok()));
            }
        }
        Ok(pages)
    }
}
