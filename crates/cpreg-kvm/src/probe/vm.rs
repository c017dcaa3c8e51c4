//! VMs of a probe.

use cpreg::destination::Features;

use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};

/// Creates a VM with SVE finalized.
pub(super) fn create_vm<H: Host>(
    host: &H,
    features: Features,
    vcpus: usize,
) -> Result<H::Vm, Error> {
    let vm = host
        .create_vm(features, vcpus)
        .map_err(|error| error.with_probe_features(features))?;
    for vcpu in vm.vcpus() {
        if features.contains(Features::SVE) {
            vcpu.finalize_sve().map_err(|errno| {
                Error::from(ErrorKind::Finalize(errno)).with_probe_features(features)
            })?;
        }
    }
    Ok(vm)
}
