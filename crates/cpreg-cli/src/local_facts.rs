//! Properties of this machine that its guests see and that no register list holds.

use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg_kvm::sys::read_process_facts;
use cpreg_stream::Stream;

/// Returns the properties of this machine, if the VM of the stream runs on it.
///
/// A monitor can be that of another machine, through a forwarded socket. The VM's MIDR_EL1 must
/// therefore be this machine's.
pub(crate) fn local_facts(stream: &Stream) -> HardwareFacts {
    let Ok(vm) = stream.vm() else {
        return HardwareFacts::UNKNOWN;
    };
    let vcpu = vm.vcpus.first();
    let of_vm = vcpu.and_then(|vcpu| vcpu.registers.get_u64(RegisterId::MIDR_EL1));
    match read_process_facts() {
        Some((midr, facts)) if of_vm == Some(midr) => facts,
        _ => HardwareFacts::UNKNOWN,
    }
}
