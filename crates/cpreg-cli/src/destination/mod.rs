//! What DEST names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would;
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
mod named;

use std::path::Path;

use cpreg::destination::{Accelerator, Destination};
use cpreg_hosts::host;

use crate::arguments::Going;
use crate::destination::hosts::Opened;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

pub(crate) use named::{Named, forget_blanked, loader, of_stream};

/// Finds out what DEST names. A recorded host is taken as it is for a guest like the one in `source`.
pub(crate) fn resolve(
    path: &Path,
    source: &Input,
    going: &Going,
    verify: bool,
    printer: &Printer,
) -> Result<Named, Failure> {
    find(path, verify, printer)?.named_for(source, going)
}

/// What DEST names, before it is known which guest goes there.
pub(crate) enum Found<'p> {
    /// This machine's KVM, as it was written.
    Kvm(cpreg_kvm::Kvm, &'p Path),
    /// A recorded host.
    Host(Box<hosts::Named>),
    /// What is in a file.
    File(Box<Input>),
}

/// Finds out what DEST names, and that it is there.
pub(crate) fn find<'p>(
    path: &'p Path,
    verify: bool,
    printer: &Printer,
) -> Result<Found<'p>, Failure> {
    if kvm::is_named(path) {
        return Ok(Found::Kvm(kvm::open()?, path));
    }
    if !hosts::exists(path) && !path.to_str().is_some_and(|it| it.starts_with(host::PREFIX)) {
        return Err(no_such(path));
    }
    Ok(match hosts::open(path, verify, printer)? {
        Opened::File(input) => Found::File(input),
        Opened::Host(host) => Found::Host(host),
    })
}

impl Found<'_> {
    /// What it is for a VM of which only its host is known.
    pub(crate) fn named_for_guest_of(
        &self,
        host: &Destination,
        going: &Going,
    ) -> Result<Named, Failure> {
        let mut named = match self {
            Self::Kvm(..) => {
                return Err(Failure::new(
                    "--to kvm asks this machine about a guest, and of --from only the host is \
                     known",
                )
                .hint(
                    "name a stream of the VM, or the monitor socket of the QEMU that runs it; or \
                     give --to the recorded host (`cpreg probe kvm`)",
                ));
            }
            Self::Host(there) => {
                let features = there
                    .features
                    .unwrap_or_else(|| hosts::features_of_host(host));
                let guest = hosts::Guest::With(features);
                there.for_guest(guest)?.loaded_as(going)?
            }
            Self::File(input) => Named::of_file(input, going)?,
        };
        // What a host does for one vCPU it does for each.
        named.destination.vcpus.truncate(host.vcpus.len());
        Ok(named)
    }

    /// What it is for the guest in `source`.
    pub(crate) fn named_for(&self, source: &Input, going: &Going) -> Result<Named, Failure> {
        match self {
            Self::Kvm(kvm, path) => Ok(kvm::ask(kvm, path, source, going)?.named),
            Self::Host(host) => of_host(host, source, going),
            Self::File(input) => Named::of_file(input, going),
        }
    }

    /// What it is whatever the guest, if it is.
    pub(crate) fn named_for_all(&self, going: &Going) -> Result<Option<Named>, Failure> {
        match self {
            Self::Kvm(..) | Self::Host(_) => Ok(None),
            Self::File(input) => Named::of_file(input, going).map(Some),
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
fn of_host(host: &hosts::Named, source: &Input, going: &Going) -> Result<Named, Failure> {
    // Of anything but a VM it is better said that it is none.
    source.stream()?;
    let mut named = host.for_guest(hosts::Guest::In(source))?.loaded_as(going)?;
    named.is_started_as(source.stream()?.shape());
    Ok(named)
}

fn no_such(path: &Path) -> Failure {
    let name = path.display().to_string();
    let failure = Failure::new(format!("there is no file {name}"));
    if let Some(whole) = hosts::whole_name(&name) {
        return failure.hint(format!(
            "a recorded host's name begins with its kernel's: {whole}"
        ));
    }
    failure.hint(
        "DEST is a profile or a recorded host that `cpreg probe` wrote, a migration stream that \
         the destination wrote, the name of a recorded host (`cpreg hosts` lists them), or kvm for \
         this machine",
    )
}
