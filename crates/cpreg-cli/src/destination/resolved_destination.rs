//! [`Named`]: a destination, and what it is known from.

use std::borrow::Cow;

use cpreg::destination::{Destination, DestinationRegister, DestinationVcpu, Loader, ValueOrigin};
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg_hosts::host;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_stream::{REDACTED, Stream};

use crate::arguments::LoaderArgs;
use crate::failure::Failure;
use crate::input::{Content, Input};

/// A destination and where it comes from.
pub(crate) struct ResolvedDestination {
    pub(crate) destination: Destination,
    /// What it is known from, in words.
    pub(crate) provenance: Cow<'static, str>,
    /// The program and machine that it was recorded from, as far as that is known.
    pub(crate) origin: Box<ProfileOrigin>,
}

impl ResolvedDestination {
    /// Takes what a profile or a stream tells of a destination.
    pub(crate) fn from_input(input: &Input, going: &LoaderArgs) -> Result<Self, Failure> {
        let named = match &input.content {
            Content::Profile(profile) => {
                let evidence = match profile.destination.value_origin {
                    ValueOrigin::EmulatedHost => host::EMULATED_HOST_EVIDENCE,
                    ValueOrigin::Reset | ValueOrigin::Guest => "a profile, recorded from it",
                };
                Self {
                    destination: profile.destination.clone(),
                    provenance: evidence.into(),
                    origin: Box::new(profile.origin.clone()),
                }
            }
            Content::Stream(stream) => {
                let mut destination = from_stream(input.name(), stream)?;
                clear_redacted_values(&mut destination, input);
                Self {
                    provenance: stream_provenance(input, destination.value_origin).into(),
                    origin: Box::new(origin_from_stream(stream)),
                    destination,
                }
            }
            // Which of its guests is asked about is said before.
            Content::Host(_) => return Err(input.missing_features()),
        };
        named.with_loader(going)
    }

    /// Sets the program that the user says will load it.
    pub(crate) fn with_loader(mut self, going: &LoaderArgs) -> Result<Self, Failure> {
        if let Some(loader) = parse_loader(going)? {
            self.destination.loader = Some(loader);
        }
        Ok(self)
    }

    /// The VM is started there as it was here.
    pub(crate) fn set_shape(&mut self, shape: MachineShape) {
        self.destination.shape = Some(shape);
    }
}

/// The program that the user says will load it.
pub(crate) fn parse_loader(going: &LoaderArgs) -> Result<Option<Loader>, Failure> {
    let loader = going.loader.as_ref().map(|name| {
        name.parse::<Loader>().map_err(|error| {
            let hint = error.hint().unwrap_or_default();
            Failure::new(format!("--loader {name}: {error}; {hint}"))
        })
    });
    loader.transpose()
}

fn stream_provenance(input: &Input, values: ValueOrigin) -> &'static str {
    match values {
        _ if input.report().is_some() => {
            "a report of a stream it wrote: its list is proven, and that it takes the values in it \
             that are not blanked"
        }
        ValueOrigin::Reset => "a stream it wrote before a guest ran: its list and its reset values",
        ValueOrigin::Guest | ValueOrigin::EmulatedHost => {
            "a stream it wrote: its list is proven, and that it takes the values in it; not its \
             reset values"
        }
    }
}

/// Returns what a stream tells of the program that wrote it.
fn origin_from_stream(stream: &Stream) -> ProfileOrigin {
    let accelerator = stream.accelerator().map(|it| it.name().to_owned());
    ProfileOrigin {
        accelerator: accelerator.unwrap_or_default(),
        machine: stream.machine().unwrap_or_default().to_owned(),
        ..ProfileOrigin::default()
    }
}

/// What a report does not tell is no evidence: it has a mark there in place of the value.
pub(crate) fn clear_redacted_values(destination: &mut Destination, input: &Input) {
    let blanked = input.redacted_registers();
    if blanked.is_empty() {
        return;
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().map(|register| {
            let is_mark = register.value == Some(Value::from(REDACTED));
            let value = register.value.clone();
            DestinationRegister {
                value: value.filter(|_| !(is_mark && blanked.contains(&register.id))),
                ..register.clone()
            }
        });
        *vcpu = DestinationVcpu::new(registers.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
}

/// A stream as evidence of the host that wrote it.
pub(crate) fn from_stream(name: String, stream: &Stream) -> Result<Destination, Failure> {
    let cannot = format!("cannot use {name}");
    stream
        .destination(name)
        .map_err(|error| Failure::new(cannot).with_cause(error))
}
