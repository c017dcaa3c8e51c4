//! What DEST names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would;
//! or a recorded host ([`hosts`]), by name or as a file; or this machine's KVM ([`kvm`]). A file wins over a host of the same name.

pub(crate) mod hosts;
pub(crate) mod kvm;

use std::borrow::Cow;
use std::path::Path;

use cpreg::destination::{Destination, HostRegister, HostVcpu, Loader, ValuesAre};
use cpreg::register::Value;
use cpreg_hosts::host;
use cpreg_qemu::Stream;
use cpreg_qemu::stream::BLANKED;

use crate::arguments::Going;
use crate::destination::hosts::Opened;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

/// A destination and where it comes from.
pub(crate) struct Named {
    pub(crate) destination: Destination,
    /// What it is known from, in words.
    pub(crate) evidence: Cow<'static, str>,
}

/// Finds out what DEST names. A recorded host is taken as it is for a guest like the one in `source`.
pub(crate) fn resolve(
    path: &Path,
    source: &Input,
    going: &Going,
    verify: bool,
    printer: &Printer,
) -> Result<Named, Failure> {
    resolve_with_input(path, source, going, verify, printer).map(|(named, _)| named)
}

/// As [`resolve`], with the file that it was found in.
pub(crate) fn resolve_with_input(
    path: &Path,
    source: &Input,
    going: &Going,
    verify: bool,
    printer: &Printer,
) -> Result<(Named, Input), Failure> {
    if kvm::is_named(path) {
        return kvm::ask(&kvm::open()?, path, source, going)?.with_input(path);
    }
    if !hosts::exists(path) && !path.to_str().is_some_and(|it| it.starts_with(host::PREFIX)) {
        return Err(no_such(path));
    }
    let host = match hosts::open(path, verify, printer)? {
        Opened::File(input) => return named(*input, None, going),
        Opened::Host(host) => host,
    };
    // Of anything but a VM it is better said that it is none.
    source.stream()?;
    let (input, evidence) = host.for_guest(hosts::Guest::In(source))?;
    let (mut named, input) = named(input, Some(evidence), going)?;
    // The VM is started there as it was here.
    named.destination.shape = Some(source.stream()?.shape());
    Ok((named, input))
}

/// What is known of a destination from a file; `evidence`: or from a recorded host.
fn named(input: Input, evidence: Option<String>, going: &Going) -> Result<(Named, Input), Failure> {
    let (mut destination, known_from) = match &input.content {
        Content::Profile(profile) => {
            let destination = profile.to_destination().map_err(|error| {
                Failure::new(format!("cannot read {}", input.path.display())).because(error)
            })?;
            let known_from = match destination.values {
                ValuesAre::OfAnEmulatedHost => host::EVIDENCE,
                ValuesAre::AtReset | ValuesAre::OfAGuest => "a profile, recorded from it",
            };
            (destination, known_from)
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
                ValuesAre::OfAGuest | ValuesAre::OfAnEmulatedHost => {
                    "a stream it wrote: its list is proven, and that it takes the values in it; not its reset values"
                }
            };
            (destination, evidence)
        }
        // Which of its guests is asked about is said before.
        Content::Host(_) => return Err(input.lacks_features()),
    };
    if let Some(name) = &going.vmm {
        let loader = name.parse::<Loader>();
        destination.loader =
            Some(loader.map_err(|error| Failure::new(format!("--vmm {name}: {error}")))?);
    }
    let named = Named {
        destination,
        evidence: evidence.map_or(Cow::Borrowed(known_from), Cow::Owned),
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
    Failure::new(format!("there is no file {name}")).hint("DEST is a profile or a recorded host that `cpreg probe` wrote, a migration stream that the destination wrote, the name of a recorded host (`cpreg hosts` lists them), or kvm for this machine")
}
