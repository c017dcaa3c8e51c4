//! What DEST names: a profile, or a stream that stands for the host that wrote it; a report stands for it as its stream would;
//! or a recorded host ([`hosts`]), by name or as a file; or this machine's KVM ([`kvm`]). A file wins over a host of the same name.

pub(crate) mod hosts;
pub(crate) mod kvm;

use std::borrow::Cow;
use std::path::Path;

use cpreg::destination::{Accelerator, Destination, HostRegister, HostVcpu, Loader, ValuesAre};
use cpreg::register::Value;
use cpreg::shape::Shape;
use cpreg_hosts::host;
use cpreg_stream::BLANKED;
use cpreg_stream::Stream;

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
    find(path, verify, printer)?.for_guest(source, going)
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
    /// What it is for the guest in `source`.
    pub(crate) fn for_guest(
        self,
        source: &Input,
        going: &Going,
    ) -> Result<(Named, Input), Failure> {
        match self {
            Self::Kvm(kvm, path) => kvm::ask(&kvm, path, source, going)?.with_input(path),
            Self::Host(host) => of_host(&host, source, going),
            Self::File(input) => Ok((named(&input, None, going)?, *input)),
        }
    }

    /// What it is for a VM of which only its host is known.
    pub(crate) fn named_for_guest_of(
        &self,
        host: &Destination,
        going: &Going,
    ) -> Result<Named, Failure> {
        let mut named = match self {
            Self::Kvm(..) => {
                return Err(Failure::new(
                    "--to kvm asks this machine about a guest, and of --from only the host is known",
                )
                .hint("name a stream of the VM, or the monitor socket of the QEMU that runs it; or give --to the recorded host (`cpreg probe kvm`)"));
            }
            Self::Host(there) => {
                let features = there
                    .features
                    .unwrap_or_else(|| hosts::features_of_host(host));
                let (input, evidence) = there.for_guest(hosts::Guest::With(features))?;
                named(&input, Some(evidence), going)?
            }
            Self::File(input) => named(input, None, going)?,
        };
        // What a host does for one vCPU it does for each.
        named.destination.vcpus.truncate(host.vcpus.len());
        Ok(named)
    }

    /// The same, where it is asked about again.
    pub(crate) fn named_for(&self, source: &Input, going: &Going) -> Result<Named, Failure> {
        match self {
            Self::Kvm(kvm, path) => Ok(kvm::ask(kvm, path, source, going)?.named),
            Self::Host(host) => Ok(of_host(host, source, going)?.0),
            Self::File(input) => named(input, None, going),
        }
    }

    /// What it is whatever the guest, if it is.
    pub(crate) fn named_for_all(&self, going: &Going) -> Result<Option<Named>, Failure> {
        match self {
            Self::Kvm(..) | Self::Host(_) => Ok(None),
            Self::File(input) => named(input, None, going).map(Some),
        }
    }

    /// How guests are executed there, if that is known.
    pub(crate) fn accelerator(&self) -> Result<Option<Accelerator>, Failure> {
        match self {
            Self::Kvm(..) | Self::Host(_) => Ok(Some(Accelerator::Kvm)),
            Self::File(input) => match &input.content {
                Content::Profile(profile) => profile
                    .to_destination()
                    .map(|destination| destination.accelerator)
                    .map_err(|error| unreadable(input, error)),
                Content::Stream(stream) => Ok(stream.accelerator()),
                Content::Host(_) => Ok(Some(Accelerator::Kvm)),
            },
        }
    }
}

/// A recorded host, for the guest in `source`.
fn of_host(host: &hosts::Named, source: &Input, going: &Going) -> Result<(Named, Input), Failure> {
    // Of anything but a VM it is better said that it is none.
    source.stream()?;
    let (input, evidence) = host.for_guest(hosts::Guest::In(source))?;
    let mut named = named(&input, Some(evidence), going)?;
    named.is_started_as(source.stream()?.shape());
    Ok((named, input))
}

impl Named {
    /// The VM is started there as it was here.
    pub(crate) fn is_started_as(&mut self, shape: Shape) {
        self.destination.shape = Some(shape);
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
fn named(input: &Input, evidence: Option<String>, going: &Going) -> Result<Named, Failure> {
    let (mut destination, known_from) = match &input.content {
        Content::Profile(profile) => {
            let destination = profile
                .to_destination()
                .map_err(|error| unreadable(input, error))?;
            let known_from = match destination.values {
                ValuesAre::OfAnEmulatedHost => host::EVIDENCE,
                ValuesAre::AtReset | ValuesAre::OfAGuest => "a profile, recorded from it",
            };
            (destination, known_from)
        }
        Content::Stream(stream) => {
            let mut destination = of_stream(input.name(), stream)?;
            forget_blanked(&mut destination, input);
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
    if let Some(loader) = loader(going)? {
        destination.loader = Some(loader);
    }
    Ok(Named {
        destination,
        evidence: evidence.map_or(Cow::Borrowed(known_from), Cow::Owned),
    })
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
    if let Some(whole) = hosts::whole_name(&name) {
        return failure.hint(format!(
            "a recorded host's name begins with its kernel's: {whole}"
        ));
    }
    failure.hint("DEST is a profile or a recorded host that `cpreg probe` wrote, a migration stream that the destination wrote, the name of a recorded host (`cpreg hosts` lists them), or kvm for this machine")
}
