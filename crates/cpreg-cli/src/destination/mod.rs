//! Resolution of DESTINATION.
//!
//! DESTINATION is one of the following. A file takes precedence over a host of the same name.
//!
//! - a profile
//! - a stream or report, which stands for the host that wrote the stream
//! - a recorded host ([`hosts`]), by name or as a file
//! - this machine's KVM ([`kvm`])
//! - a domain of this machine's libvirt, which stands for its QEMU ([`qemu`])
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`DestinationSpec`]: destination before the guest is known |
//! | [`hosts`] | recorded hosts |
//! | `named_host.rs` | [`NamedHost`](hosts::NamedHost): a recorded host for a guest |
//! | `unrecorded_host.rs` | [`UnrecordedNamedHost`]: a host whose kernel was not recorded |
//! | [`kvm`] | this machine's KVM |
//! | [`qemu`] | an installed QEMU |
//! | `resolved_destination.rs` | [`ResolvedDestination`]: destination and its provenance |

pub(crate) mod hosts;
pub(crate) mod kvm;
mod named_host;
pub(crate) mod qemu;
mod resolved_destination;
mod unrecorded_host;

use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::{Accelerator, Destination};
use cpreg::vm::Vm;
use cpreg_hosts::host;

use cpreg_report::command::TypedCommand;
use cpreg_snapshot::RegisterState;

use crate::arguments::LoaderArgs;
use crate::command_line;
use crate::destination::hosts::HostOrFile;
use crate::failure::Failure;
use crate::input::{Content, Input, domain_address};
use crate::printer::Printer;

pub(crate) use resolved_destination::{
    ResolvedDestination, clear_redacted_values, from_registers, from_stream, parse_loader,
};
pub(crate) use unrecorded_host::{RECORDING, UnrecordedNamedHost};

/// Resolves DESTINATION. A recorded host is resolved for the guest in `source`.
pub(crate) fn resolve(
    path: &Path,
    source: &Input,
    loader: &LoaderArgs,
    verify: bool,
    printer: &Printer,
) -> Result<ResolvedDestination, Failure> {
    find(path, verify, printer)?.resolve_for_stream(source, loader)
}

/// Destination before the guest is known.
pub(crate) enum DestinationSpec<'p> {
    /// KVM of this machine, with the argument that names it.
    Kvm(cpreg_kvm::Kvm, &'p Path),
    /// Recorded host.
    Host(Box<hosts::NamedHost>),
    /// Host whose kernel was not recorded.
    Unrecorded(Box<UnrecordedNamedHost>),
    /// Content of a file.
    File(Box<Input>),
}

/// Finds and opens the file, recorded host or KVM that DESTINATION names.
pub(crate) fn find<'p>(
    path: &'p Path,
    verify: bool,
    printer: &Printer,
) -> Result<DestinationSpec<'p>, Failure> {
    if kvm::is_kvm_path(path) {
        return Ok(DestinationSpec::Kvm(kvm::open()?, path));
    }
    if let Some(address) = domain_address(path)? {
        let profile = qemu::record_destination(path, &address, printer)?;
        return Ok(DestinationSpec::File(Box::new(Input::from_probe(
            path, profile,
        ))));
    }
    if !hosts::exists(path) && !path.to_str().is_some_and(host::is_host_name) {
        return Err(no_such_destination(path));
    }
    Ok(match hosts::open(path, verify, printer)? {
        HostOrFile::File(input) => DestinationSpec::File(input),
        HostOrFile::Host(host) => DestinationSpec::Host(host),
        HostOrFile::Unrecorded(host) => DestinationSpec::Unrecorded(host),
    })
}

impl DestinationSpec<'_> {
    /// Resolves the destination for a new VM with these features, of which only the host is known.
    pub(crate) fn resolve_for_new_vm(
        &self,
        host: &Destination,
        vm: &Vm,
        features: GuestFeatures,
        loader: &LoaderArgs,
    ) -> Result<ResolvedDestination, Failure> {
        let guest = hosts::Guest::Features(features);
        let mut resolved = match self {
            Self::Kvm(kvm, path) => {
                let guest = kvm::ProbedGuest::from_new_vm(path, host, vm, features);
                kvm::probe_destination(kvm, &guest, loader)?
            }
            Self::Host(destination) => destination.for_guest(guest)?.with_loader(loader)?,
            Self::Unrecorded(destination) => destination.for_guest(guest)?.with_loader(loader)?,
            Self::File(input) => ResolvedDestination::from_input(input, loader)?,
        };
        // A host gives all vCPUs of a guest the same registers.
        let count = vm.vcpus.len();
        resolved.for_each(|destination| destination.vcpus.truncate(count));
        Ok(resolved)
    }

    /// Resolves the destination for the guest in `source`.
    pub(crate) fn resolve_for_stream(
        &self,
        source: &Input,
        loader: &LoaderArgs,
    ) -> Result<ResolvedDestination, Failure> {
        let mut resolved = match self {
            Self::Kvm(kvm, path) => {
                let guest = kvm::ProbedGuest::from_stream(path, source)?;
                kvm::probe_destination(kvm, &guest, loader)
            }
            Self::Host(host) => resolve_host(|guest| host.for_guest(guest), source, loader),
            Self::Unrecorded(host) => resolve_host(|guest| host.for_guest(guest), source, loader),
            Self::File(input) => ResolvedDestination::from_input(input, loader),
        }?;
        if let Some(state) = source.registers() {
            self.complete_for_registers(source, state, &mut resolved)?;
        }
        Ok(resolved)
    }

    /// Completes a destination for a snapshot of Firecracker or Cloud Hypervisor.
    ///
    /// # Errors
    /// If the destination's list leaves out the registers that only these programs save.
    fn complete_for_registers(
        &self,
        source: &Input,
        state: &RegisterState,
        resolved: &mut ResolvedDestination,
    ) -> Result<(), Failure> {
        if resolved.destination.lacks_core_registers() && matches!(self, Self::File(_)) {
            return Err(Failure::new(format!(
                "{} lists the registers of a QEMU, without those that {} holds too",
                resolved.destination.name,
                source.name()
            ))
            .with_hint("name a recorded host, or a snapshot that the destination's VMM made"));
        }
        resolved.for_each(|destination| {
            destination.loader = destination.loader.or(state.loader);
        });
        Ok(())
    }

    /// Resolves the destination; returns `None` if the destination depends on the guest.
    pub(crate) fn resolve_fixed(
        &self,
        loader: &LoaderArgs,
    ) -> Result<Option<ResolvedDestination>, Failure> {
        match self {
            Self::Kvm(..) | Self::Host(_) | Self::Unrecorded(_) => Ok(None),
            Self::File(input) => ResolvedDestination::from_input(input, loader).map(Some),
        }
    }

    /// Returns an error with the status of an unknown verdict, if no VM can have another verdict.
    pub(crate) fn require_possible_verdict(&self, command: &TypedCommand) -> Result<(), Failure> {
        match self {
            Self::Unrecorded(host) => host.require_possible_verdict(command),
            Self::Kvm(..) | Self::Host(_) | Self::File(_) => Ok(()),
        }
    }

    /// Returns the accelerator of the destination, if known.
    pub(crate) fn accelerator(&self) -> Option<Accelerator> {
        match self {
            Self::Kvm(..) | Self::Host(_) | Self::Unrecorded(_) => Some(Accelerator::Kvm),
            Self::File(input) => match &input.content {
                Content::Profile(profile) => profile.destination.accelerator,
                Content::Stream(stream) => stream.accelerator(),
                Content::Host(_) | Content::Registers(_) => Some(Accelerator::Kvm),
            },
        }
    }
}

/// Resolves a named host for the guest in `source`.
fn resolve_host<'s>(
    for_guest: impl FnOnce(hosts::Guest<'s>) -> Result<ResolvedDestination, Failure>,
    source: &'s Input,
    loader: &LoaderArgs,
) -> Result<ResolvedDestination, Failure> {
    // Report a source that is not a VM as such, not as a guest without features.
    let shape = source.shape()?;
    let mut resolved = for_guest(hosts::Guest::Stream(source))?.with_loader(loader)?;
    // Recorded hosts have no shape of their own, and a snapshot tells only the number of vCPUs.
    resolved.set_shape(&shape);
    Ok(resolved)
}

fn no_such_destination(path: &Path) -> Failure {
    let name = path.display().to_string();
    let failure = Failure::new(format!("the file {name} does not exist")).with_path(path);
    if let Some(host) = hosts::with_prefix(&name) {
        return failure.with_hint(format!(
            "the name of a recorded host begins with the name of its kernel: {host}"
        ));
    }
    failure.with_hint(command_line::DESTINATION_ALTERNATIVES)
}
