//! A VM of a host, and random numbers, for the examples that compare KVM with its record.

use std::error::Error;

use cpreg::destination::Features;
use cpreg_kvm::{Host, Vcpu, Vm};

/// Creates a VM with SVE finalized, so that all registers can be read.
pub(crate) fn ready_vm<H: Host>(
    host: &H,
    features: Features,
    vcpus: usize,
) -> Result<H::Vm, Box<dyn Error>> {
    let vm = host.create_vm(features, vcpus)?;
    if features.contains(Features::SVE) {
        for vcpu in vm.vcpus() {
            vcpu.finalize_sve()?;
        }
    }
    Ok(vm)
}

/// `xorshift64*`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns the next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number from 0 up to, and without, `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0) % end.max(1)
    }
}
