//! What DEST names: a profile, or a stream that stands for the host that wrote it.

use std::path::Path;

use cpreg::destination::{Destination, HostVcpu, Loader, ValuesAre};
use cpreg_qemu::Stream;

use crate::arguments::Going;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

/// A destination and where it comes from.
pub(crate) struct Named {
    pub(crate) destination: Destination,
    /// What it is known from, in words.
    pub(crate) evidence: &'static str,
}

/// Finds out what DEST names.
pub(crate) fn resolve(
    path: &Path,
    going: &Going,
    verify: bool,
    printer: &Printer,
) -> Result<Named, Failure> {
    if !path.exists() && path != Path::new("-") {
        return Err(no_such(path));
    }
    let input = Input::open(path, verify, printer)?;
    let (mut destination, evidence) = match &input.content {
        Content::Profile(profile) => {
            let destination = profile.to_destination().map_err(|error| {
                Failure::new(format!("cannot read {}", path.display())).because(error)
            })?;
            (destination, "a profile, recorded from it")
        }
        Content::Stream(stream) => {
            let destination = of_stream(input.name(), stream)?;
            let evidence = match destination.values {
                ValuesAre::AtReset => {
                    "a stream it wrote before a guest ran: its list and its reset values"
                }
                ValuesAre::OfAGuest => {
                    "a stream it wrote: its list is proven, and that it takes the values in it; not its reset values"
                }
            };
            (destination, evidence)
        }
    };
    if let Some(name) = &going.vmm {
        let loader = name.parse::<Loader>();
        destination.loader =
            Some(loader.map_err(|error| Failure::new(format!("--vmm {name}: {error}")))?);
    }
    Ok(Named {
        destination,
        evidence,
    })
}

/// A stream as evidence of the host that wrote it.
pub(crate) fn of_stream(name: String, stream: &Stream) -> Result<Destination, Failure> {
    let vm = stream
        .vm()
        .map_err(|error| Failure::new(format!("cannot use {name}")).because(error))?;
    Ok(Destination {
        accelerator: stream.accelerator(),
        loader: None,
        values: if stream.is_prelaunch() {
            ValuesAre::AtReset
        } else {
            ValuesAre::OfAGuest
        },
        vcpus: vm.vcpus.iter().map(HostVcpu::of).collect(),
        shape: Some(stream.shape()),
        name,
    })
}

fn no_such(path: &Path) -> Failure {
    let name = path.display().to_string();
    let failure = Failure::new(format!("there is no file {name}"));
    if name.starts_with("linux-") || name == "kvm" {
        failure.hint("this version of cpreg knows destinations by profile or stream: record one with `cpreg probe qemu -o FILE -- COMMAND…`")
    } else {
        failure.hint("DEST is a profile that `cpreg probe` wrote, or a migration stream that the destination wrote")
    }
}
