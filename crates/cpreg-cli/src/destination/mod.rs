//! What DESTINATION names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would;
//! or a recorded host ([`hosts`]), by name or as a file; or this machine's KVM ([`kvm`]). A file wins over a host of the same name.

//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | what a name leads to, before and after it is known which guest goes there |
//! | [`hosts`] | recorded hosts |
//! | [`kvm`] | this machine's KVM |
//! | `named.rs` | [`Named`]: a destination, and what it is known from |

pub(crate) mod hosts;
pub(crate) mod kvm;
mod resolved_destination;

use std::path::Path;

use cpreg::destination::{Accelerator, Destination};
use cpreg_hosts::host;

use crate::arguments::LoaderArgs;
use crate::destination::hosts::HostOrFile;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

pub(crate) use resolved_destination::{
    ResolvedDestination, clear_redacted_values, from_stream, parse_loader,
};

/// Finds out what DESTINATION names. A recorded host is taken as it is for a guest like the one in `source`.
pub(crate) fn resolve(
    path: &Path,
    source: &Input,
    going: &LoaderArgs,
    verify: bool,
    printer: &Printer,
) -> Result<ResolvedDestination, Failure> {
    find(path, verify, printer)?.resolve_for_stream(source, going)
}

/// What DESTINATION names, before it is known which guest goes there.
pub(crate) enum DestinationSpec<'p> {
    /// This machine's KVM, as it was written.
    Kvm(cpreg_kvm::Kvm, &'p Path),
    /// A recorded host.
    Host(Box<hosts::NamedHost>),
    /// What is in a file.
    File(Box<Input>),
}

/// Finds out what DESTINATION names, and that it is there.
pub(crate) fn find<'p>(
    path: &'p Path,
    verify: bool,
    printer: &Printer,
) -> Result<DestinationSpec<'p>, Failure> {
    if kvm::is_kvm_path(path) {
        return Ok(DestinationSpec::Kvm(kvm::open()?, path));
    }
    if !hosts::exists(path) && !path.to_str().is_some_and(|it| it.starts_with(host::PREFIX)) {
        return Err(no_such_destination(path));
    }
    Ok(match hosts::open(path, verify, printer)? {
        HostOrFile::File(input) => DestinationSpec::File(input),
        HostOrFile::Host(host) => DestinationSpec::Host(host),
    })
}

impl DestinationSpec<'_> {
    /// What it is for a VM of which only its host is known.
    pub(crate) fn resolve_for_host(
        &self,
        host: &Destination,
        going: &LoaderArgs,
    ) -> Result<ResolvedDestination, Failure> {
        let mut named = match self {
            Self::Kvm(..) => {
                return Err(Failure::new(
                    "--to kvm asks this machine about a guest, and of --from only the host is \
                     known",
                )
                .with_hint(
                    "name a stream of the VM, or the monitor socket of the QEMU that runs it; or \
                     give --to the recorded host (`cpreg probe kvm`)",
                ));
            }
            Self::Host(there) => {
                let features = there
                    .features
                    .unwrap_or_else(|| hosts::recognise_host_features(host));
                let guest = hosts::Guest::Features(features);
                there.for_guest(guest)?.with_loader(going)?
            }
            Self::File(input) => ResolvedDestination::from_input(input, going)?,
        };
        // What a host does for one vCPU it does for each.
        named.destination.vcpus.truncate(host.vcpus.len());
        Ok(named)
    }

    /// What it is for the guest in `source`.
    pub(crate) fn resolve_for_stream(
        &self,
        source: &Input,
        going: &LoaderArgs,
    ) -> Result<ResolvedDestination, Failure> {
        match self {
            Self::Kvm(kvm, path) => Ok(kvm::probe_destination(kvm, path, source, going)?.resolved),
            Self::Host(host) => resolve_host(host, source, going),
            Self::File(input) => ResolvedDestination::from_input(input, going),
        }
    }

    /// What it is whatever the guest, if it is.
    pub(crate) fn resolve_fixed(
        &self,
        going: &LoaderArgs,
    ) -> Result<Option<ResolvedDestination>, Failure> {
        match self {
            Self::Kvm(..) | Self::Host(_) => Ok(None),
            Self::File(input) => ResolvedDestination::from_input(input, going).map(Some),
        }
    }

    /// How guests are executed there, if that is known.
    pub(crate) fn accelerator(&self) -> Option<Accelerator> {
        match self {
            Self::Kvm(..) | Self::Host(_) => Some(Accelerator::Kvm),
            Self::File(input) => match &input.content {
                Content::Profile(profile) => profile.destination.accelerator,
                Content::Stream(stream) => stream.accelerator(),
                Content::Host(_) => Some(Accelerator::Kvm),
            },
        }
    }
}

/// A recorded host, for the guest in `source`.
fn resolve_host(
    host: &hosts::NamedHost,
    source: &Input,
    going: &LoaderArgs,
) -> Result<ResolvedDestination, Failure> {
    // Of anything but a VM it is better said that it is none.
    source.stream()?;
    let mut named = host
        .for_guest(hosts::Guest::Stream(source))?
        .with_loader(going)?;
    named.set_shape(source.stream()?.shape());
    Ok(named)
}

fn no_such_destination(path: &Path) -> Failure {
    let name = path.display().to_string();
    let failure = Failure::new(format!("there is no file {name}"));
    if let Some(whole) = hosts::whole_name(&name) {
        return failure.with_hint(format!(
            "a recorded host's name begins with its kernel's: {whole}"
        ));
    }
    failure.with_hint(
        "DESTINATION is a profile or a recorded host that `cpreg probe` wrote, a migration stream that \
         the destination wrote, the name of a recorded host (`cpreg hosts` lists them), or kvm for \
         this machine",
    )
}
