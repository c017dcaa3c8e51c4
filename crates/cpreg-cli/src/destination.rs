//! What DEST names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would.

use std::path::Path;

use cpreg::destination::{Destination, HostRegister, HostVcpu, Loader, ValuesAre};
use cpreg::register::Value;
use cpreg_qemu::Stream;
use cpreg_qemu::stream::BLANKED;

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
    resolve_with_input(path, going, verify, printer).map(|(named, _)| named)
}

/// As [`resolve`], with the file that it was found in.
pub(crate) fn resolve_with_input(
    path: &Path,
    going: &Going,
    verify: bool,
    printer: &Printer,
) -> Result<(Named, Input), Failure> {
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
            let mut destination = of_stream(input.name(), stream)?;
            forget_blanked(&mut destination, &input);
            let evidence = match destination.values {
                _ if input.report.is_some() => {
                    "a report of a stream it wrote: its list is proven, and that it takes the values in it that are not blanked"
                }
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
    let named = Named {
        destination,
        evidence,
    };
    Ok((named, input))
}

/// What a report does not tell is no evidence: it has a mark there in place of the value.
pub(crate) fn forget_blanked(destination: &mut Destination, input: &Input) {
    let blanked = input.blanked();
    if blanked.is_empty() {
        return;
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().map(|register| {
            let is_mark = register.value == Some(Value::from(BLANKED));
            let value = register.value.clone();
            HostRegister {
                value: value.filter(|_| !(is_mark && blanked.contains(&register.id))),
                ..register.clone()
            }
        });
        *vcpu = HostVcpu::new(registers.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
}

/// A stream as evidence of the host that wrote it.
pub(crate) fn of_stream(name: String, stream: &Stream) -> Result<Destination, Failure> {
    let cannot = format!("cannot use {name}");
    stream
        .destination(name)
        .map_err(|error| Failure::new(cannot).because(error))
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
