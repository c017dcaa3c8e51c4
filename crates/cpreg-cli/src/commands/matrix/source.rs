//! A source of a matrix as a VM to plan.

use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Features};
use cpreg_fleet::{Host, Subject};

use crate::destination::hosts::{self, HostOrFile};
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;
use crate::source_host::SourceHost;

/// Opens the VM, or the host of a new VM, in a file.
pub(crate) fn open_file(
    path: &Path,
    from: Option<&SourceHost>,
    printer: &Printer,
) -> Result<Subject, Failure> {
    let name = path.display().to_string();
    let input = match hosts::open(path, false, printer)? {
        HostOrFile::Host(host) => {
            return new_vm(&match host.features {
                Some(features) => Host::recorded_for(name, host.record, features),
                None => Host::recorded(name, host.record),
            });
        }
        HostOrFile::Unrecorded(host) => return Err(host.failure()),
        HostOrFile::File(input) => input,
    };
    match &input.content {
        Content::Profile(profile) => new_vm(&Host::profile(name, profile.destination.clone())),
        Content::Stream(_) | Content::Registers(_) | Content::Host(_) => vm(name, &input, from),
    }
}

/// Returns a new VM of a host, with the features that QEMU gives a guest by default.
pub(super) fn new_vm(host: &Host) -> Result<Subject, Failure> {
    let features: Features = host.default_features();
    Subject::new_vm(host, features).map_err(|error| Failure::new(error.to_string()))
}

/// Returns the VM in a file.
fn vm(name: String, input: &Input, from: Option<&SourceHost>) -> Result<Subject, Failure> {
    let mut vm = input.vm()?;
    let state = input.registers();
    let accelerator = match state {
        Some(_) => Some(Accelerator::Kvm),
        None => input.stream()?.accelerator(),
    };
    // A stream knows the VM better than a report on it.
    vm.source_hardware = vm.source_hardware.or(input.source_hardware()?);
    if let Some(from) = from {
        vm.source_hardware = from.hardware_for(input, &vm, accelerator)?;
    }
    let subject = Subject::from_qemu(name, vm, input.shape()?, accelerator);
    Ok(match state {
        None => subject,
        Some(state) => Subject {
            features: GuestFeatures::determined(state.features),
            program: state.loader.map_or(Program::CPREG, |loader| loader.program),
            loader: state.loader,
            ..subject
        },
    })
}
