//! [`Named`]: a destination, and what it is known from.

use std::borrow::Cow;

use cpreg::destination::{Destination, HostRegister, HostVcpu, Loader, ValuesAre};
use cpreg::register::Value;
use cpreg::shape::Shape;
use cpreg_hosts::host;
use cpreg_hosts::profile::Recorded;
use cpreg_stream::{BLANKED, Stream};

use crate::arguments::Going;
use crate::failure::Failure;
use crate::input::{Content, Input};

/// A destination and where it comes from.
pub(crate) struct Named {
    pub(crate) destination: Destination,
    /// What it is known from, in words.
    pub(crate) evidence: Cow<'static, str>,
    /// The program and machine that it was recorded from, as far as that is known.
    pub(crate) recorded: Box<Recorded>,
}

impl Named {
    /// Takes what a profile or a stream tells of a destination.
    pub(crate) fn of_file(input: &Input, going: &Going) -> Result<Self, Failure> {
        let named = match &input.content {
            Content::Profile(profile) => {
                let evidence = match profile.destination.values {
                    ValuesAre::OfAnEmulatedHost => host::EVIDENCE,
                    ValuesAre::AtReset | ValuesAre::OfAGuest => "a profile, recorded from it",
                };
                Self {
                    destination: profile.destination.clone(),
                    evidence: evidence.into(),
                    recorded: Box::new(profile.recorded.clone()),
                }
            }
            Content::Stream(stream) => {
                let mut destination = of_stream(input.name(), stream)?;
                forget_blanked(&mut destination, input);
                Self {
                    evidence: evidence_of_stream(input, destination.values).into(),
                    recorded: Box::new(recorded_in(stream)),
                    destination,
                }
            }
            // Which of its guests is asked about is said before.
            Content::Host(_) => return Err(input.lacks_features()),
        };
        named.loaded_as(going)
    }

    /// Sets the program that the user says will load it.
    pub(crate) fn loaded_as(mut self, going: &Going) -> Result<Self, Failure> {
        if let Some(loader) = loader(going)? {
            self.destination.loader = Some(loader);
        }
        Ok(self)
    }

    /// The VM is started there as it was here.
    pub(crate) fn is_started_as(&mut self, shape: Shape) {
        self.destination.shape = Some(shape);
    }
}

/// The program that the user says will load it.
pub(crate) fn loader(going: &Going) -> Result<Option<Loader>, Failure> {
    let loader = going.vmm.as_ref().map(|name| {
        name.parse::<Loader>().map_err(|error| {
            let hint = error.hint().unwrap_or_default();
            Failure::new(format!("--vmm {name}: {error}; {hint}"))
        })
    });
    loader.transpose()
}

fn evidence_of_stream(input: &Input, values: ValuesAre) -> &'static str {
    match values {
        _ if input.report().is_some() => {
            "a report of a stream it wrote: its list is proven, and that it takes the values in it \
             that are not blanked"
        }
        ValuesAre::AtReset => "a stream it wrote before a guest ran: its list and its reset values",
        ValuesAre::OfAGuest | ValuesAre::OfAnEmulatedHost => {
            "a stream it wrote: its list is proven, and that it takes the values in it; not its \
             reset values"
        }
    }
}

/// Returns what a stream tells of the program that wrote it.
fn recorded_in(stream: &Stream) -> Recorded {
    let accelerator = stream.accelerator().map(|it| it.name().to_owned());
    Recorded {
        accelerator: accelerator.unwrap_or_default(),
        machine: stream.machine().unwrap_or_default().to_owned(),
        ..Recorded::default()
    }
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
