//! Properties of this machine that its guests see and that no register list holds.

use std::path::Path;

use cpreg::hardware::HardwareFacts;
use cpreg_kvm::sys::read_process_facts;

use crate::local_process::{has_kvm_vm, peer_pid};

/// Returns the properties of this machine, if the QEMU at the monitor has a VM in its KVM.
///
/// The monitor can be that of a QEMU on another machine, through a forwarded socket. The process at
/// the other end must therefore hold a VM of KVM.
pub(crate) fn local_facts(monitor: &Path) -> HardwareFacts {
    let process = peer_pid(monitor).and_then(|process| u32::try_from(process).ok());
    let is_local = process.is_some_and(|process| has_kvm_vm(process).unwrap_or(false));
    let facts = is_local.then(read_process_facts).flatten();
    facts.unwrap_or(HardwareFacts::UNKNOWN)
}
