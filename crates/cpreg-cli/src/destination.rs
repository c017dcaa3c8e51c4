//! What DEST names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would;
//! or a recorded host ([`hosts`]). A file wins over a host of the same name.

pub(crate) mod hosts;

use std::path::Path;

use cpreg::destination::{Accelerator, Destination, HostRegister, HostVcpu, Loader, ValuesAre};
use cpreg::register::Value;
use cpreg_hosts::host;
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
    find(path, verify, printer)?.for_guest(source, going)
}

/// What DEST names, before it is known which guest goes there.
pub(crate) enum Found<'p> {
    /// A recorded host of this name.
    Host(&'p str),
    /// What is in a file.
    File(Box<Input>),
}

/// Finds out what DEST names, and that it is there.
pub(crate) fn find<'p>(
    path: &'p Path,
    verify: bool,
    printer: &Printer,
) -> Result<Found<'p>, Failure> {
    if let Some(name) = hosts::name_of(path) {
        return Ok(Found::Host(name));
    }
    if !path.exists() && path != Path::new("-") {
        return Err(no_such(path));
    }
    let input = Input::open(path, verify, printer)?;
    Ok(Found::File(Box::new(input)))
}

impl Found<'_> {
    /// What it is for the guest in `source`.
    pub(crate) fn for_guest(
        self,
        source: &Input,
        going: &Going,
    ) -> Result<(Named, Input), Failure> {
        match self {
            Self::Host(name) => {
                let (input, evidence) = hosts::open(name, hosts::Guest::In(source))?;
                let (mut named, input) = named(input, Some(evidence), going)?;
                // The VM is started there as it was here.
                named.destination.shape = Some(source.stream()?.shape());
                Ok((named, input))
            }
            Self::File(input) => named(*input, None, going),
        }
    }

    /// How guests are executed there, if that is known.
    pub(crate) fn accelerator(&self) -> Result<Option<Accelerator>, Failure> {
        match self {
            Self::Host(name) => {
                // Whether there is such a host is found out on the way.
                hosts::exists(name)?;
                Ok(Some(Accelerator::Kvm))
            }
            Self::File(input) => match &input.content {
                Content::Profile(profile) => profile
                    .to_destination()
                    .map(|destination| destination.accelerator)
                    .map_err(|error| unreadable(input, error)),
                Content::Stream(stream) => Ok(stream.accelerator()),
            },
        }
    }
}

fn unreadable(input: &Input, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(format!("cannot read {}", input.path.display())).because(error)
}

/// The program that the user says will load it.
pub(crate) fn loader(going: &Going) -> Result<Option<Loader>, Failure> {
    let loader = going.vmm.as_ref().map(|name| {
        name.parse::<Loader>()
            .map_err(|error| Failure::new(format!("--vmm {name}: {error}")))
    });
    loader.transpose()
}

/// What is known of a destination from a file; `evidence`: or from a recorded host.
fn named(
    input: Input,
    evidence: Option<&'static str>,
    going: &Going,
) -> Result<(Named, Input), Failure> {
    let (mut destination, known_from) = match &input.content {
        Content::Profile(profile) => {
            let destination = profile
                .to_destination()
                .map_err(|error| unreadable(&input, error))?;
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
    };
    if let Some(loader) = loader(going)? {
        destination.loader = Some(loader);
    }
    let named = Named {
        destination,
        evidence: evidence.unwrap_or(known_from),
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
    if name == "kvm" {
        failure.hint("this version of cpreg does not ask this machine's KVM: name a recorded host (`cpreg hosts` lists them), or record QEMU with `cpreg probe qemu -o FILE -- COMMAND…`")
    } else {
        failure.hint("DEST is a profile that `cpreg probe` wrote, a migration stream that the destination wrote, or a recorded host (`cpreg hosts` lists them)")
    }
}
