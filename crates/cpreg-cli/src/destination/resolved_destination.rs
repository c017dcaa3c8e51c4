//! [`ResolvedDestination`]: a destination and its provenance.

use std::borrow::Cow;
use std::path::PathBuf;

use cpreg::destination::{
    Accelerator, Destination, DestinationRegister, DestinationVcpu, Features, Loader, ValueOrigin,
};
use cpreg::hardware::HardwareFacts;
use cpreg::register::Value;
use cpreg::shape::MachineShape;
use cpreg_hosts::host;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_report::unrecorded::UnrecordedKernel;
use cpreg_snapshot::RegisterState;
use cpreg_stream::{REDACTED, Stream};

use crate::arguments::LoaderArgs;
use crate::failure::Failure;
use crate::input::{Content, Input};

/// Destination and its provenance.
#[derive(Clone)]
pub(crate) struct ResolvedDestination {
    pub(crate) destination: Destination,
    /// Provenance of the destination, in words.
    pub(crate) provenance: Cow<'static, str>,
    /// Program and machine of the recording, as far as known.
    pub(crate) origin: Box<ProfileOrigin>,
    /// Assumptions about a recorded host or KVM; `None` for a file.
    pub(crate) assumption: Option<Assumption>,
    /// Kernel of the destination, if it was not recorded. The destination and its alternatives are
    /// then recorded hosts next to it, or a destination without registers if there are none.
    pub(crate) unrecorded_kernel: Option<UnrecordedKernel>,
    /// Other destinations that are possible too; empty if the destination is certain.
    pub(crate) alternatives: Vec<Self>,
}

/// Assumptions about a destination that depends on the guest's features.
#[derive(Clone)]
pub(crate) struct Assumption {
    /// The user's argument.
    pub(crate) base: PathBuf,
    /// Argument that names exactly this destination.
    pub(crate) argument: String,
    /// Features of the guest.
    pub(crate) features: Features,
    /// Recorded host next to the destination's kernel, if that was not recorded.
    pub(crate) recorded_host: Option<String>,
}

impl ResolvedDestination {
    /// Returns the destination that a profile or a stream describes.
    pub(crate) fn from_input(input: &Input, loader: &LoaderArgs) -> Result<Self, Failure> {
        let resolved = match &input.content {
            Content::Profile(profile) => {
                let provenance = match profile.destination.value_origin {
                    ValueOrigin::EmulatedHost => host::EMULATED_HOST_EVIDENCE,
                    ValueOrigin::Reset | ValueOrigin::Guest => "a profile recorded from it",
                };
                Self {
                    destination: profile.destination.clone(),
                    provenance: provenance.into(),
                    origin: Box::new(profile.origin.clone()),
                    assumption: None,
                    unrecorded_kernel: None,
                    alternatives: Vec::new(),
                }
            }
            Content::Stream(stream) => {
                let mut destination = from_stream(input.name(), stream)?;
                clear_redacted_values(&mut destination, input);
                Self {
                    provenance: stream_provenance(input, destination.value_origin).into(),
                    origin: Box::new(origin_from_stream(stream)),
                    assumption: None,
                    unrecorded_kernel: None,
                    alternatives: Vec::new(),
                    destination,
                }
            }
            Content::Registers(state) => Self {
                destination: from_registers(input.name(), state),
                provenance: "the host that made this snapshot".into(),
                origin: Box::default(),
                assumption: None,
                unrecorded_kernel: None,
                alternatives: Vec::new(),
            },
            // Only `NamedHost::for_guest` resolves a host, because the guest decides the host's
            // registers.
            Content::Host(_) => return Err(input.missing_features()),
        };
        resolved.with_loader(loader)
    }

    /// Sets the loader named with `--loader`.
    pub(crate) fn with_loader(mut self, loader: &LoaderArgs) -> Result<Self, Failure> {
        if let Some(loader) = parse_loader(loader)? {
            self.for_each(|destination| destination.loader = Some(loader));
        }
        Ok(self)
    }

    /// Returns a destination of which only the name and the accelerator are known.
    pub(crate) fn without_registers(
        kernel: UnrecordedKernel,
        argument: PathBuf,
        features: Option<Features>,
    ) -> Self {
        Self {
            destination: Destination {
                name: kernel.host.clone(),
                accelerator: Some(Accelerator::Kvm),
                loader: None,
                value_origin: ValueOrigin::Reset,
                vcpus: Vec::new(),
                kernel_version: None,
                hardware: HardwareFacts::UNKNOWN,
                shape: None,
            },
            provenance: "nothing is known of it".into(),
            origin: Box::default(),
            assumption: Some(Assumption {
                argument: argument.display().to_string(),
                base: argument,
                features: features.unwrap_or(Features::NONE),
                recorded_host: None,
            }),
            unrecorded_kernel: Some(kernel),
            alternatives: Vec::new(),
        }
    }

    /// Returns `true` if no register of the destination is known.
    pub(crate) fn lacks_registers(&self) -> bool {
        self.unrecorded_kernel.is_some() && self.destination.vcpus.is_empty()
    }

    /// Returns this destination and its alternatives.
    pub(crate) fn possible(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.alternatives)
    }

    /// Changes this destination and its alternatives.
    pub(crate) fn for_each(&mut self, mut change: impl FnMut(&mut Destination)) {
        change(&mut self.destination);
        for alternative in &mut self.alternatives {
            change(&mut alternative.destination);
        }
    }

    /// Returns the feature that only some of the possible destinations assume.
    pub(crate) fn open_feature(&self) -> Option<Features> {
        let features = |resolved: &Self| resolved.assumption.as_ref().map(|it| it.features);
        let own = features(self)?;
        let others = self.alternatives.iter().filter_map(features);
        others
            .map(|other| own.difference(other))
            .find(|difference| !difference.is_empty())
    }

    /// Returns `true` if the VM's plan is the same at this destination and at its alternatives.
    pub(crate) fn is_certain(&self) -> bool {
        let registers = |destination: &Destination| -> Vec<_> {
            let vcpus = destination.vcpus.iter();
            vcpus.map(|vcpu| vcpu.registers().to_vec()).collect()
        };
        let one = &self.destination;
        let mut others = self.alternatives.iter().map(|it| &it.destination);
        self.unrecorded_kernel.is_none()
            && others
                .all(|other| registers(one) == registers(other) && one.hardware == other.hardware)
    }

    /// Excludes loaders that load feature bits of QEMU from the input, unless the loader is known.
    pub(crate) fn exclude_feature_bits(&mut self) {
        self.for_each(Destination::exclude_feature_bits);
    }

    /// Sets the shape of the destination's VM to `shape`, for a VM that is started as at the
    /// source.
    pub(crate) fn set_shape(&mut self, shape: &MachineShape) {
        self.for_each(|destination| destination.shape = Some(shape.clone()));
    }
}

/// Parses the loader named with `--loader`.
pub(crate) fn parse_loader(arguments: &LoaderArgs) -> Result<Option<Loader>, Failure> {
    let loader = arguments.loader.as_ref().map(|name| {
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
            "a report of a stream written by the destination host: proves its list, and that it \
             accepts the values that are not redacted"
        }
        ValueOrigin::Reset => {
            "written by the destination host before a guest ran: proves its list and its reset \
             values"
        }
        ValueOrigin::Guest | ValueOrigin::EmulatedHost => {
            "written by the destination host: proves its list, and that it accepts the values in \
             it; not its reset values"
        }
    }
}

/// Returns the program and machine that wrote a stream, from the data in the stream.
fn origin_from_stream(stream: &Stream) -> ProfileOrigin {
    let accelerator = stream
        .accelerator()
        .map(|accelerator| accelerator.name().to_owned());
    ProfileOrigin {
        accelerator: accelerator.unwrap_or_default(),
        machine: stream.machine().unwrap_or_default().to_owned(),
        ..ProfileOrigin::default()
    }
}

/// Clears the values that a report has redacted, because their replacements are no evidence.
pub(crate) fn clear_redacted_values(destination: &mut Destination, input: &Input) {
    let redacted = input.redacted_registers();
    if redacted.is_empty() {
        return;
    }
    for vcpu in &mut destination.vcpus {
        let registers = vcpu.registers().iter().map(|register| {
            let is_redaction_mark = register.value == Some(Value::from(REDACTED));
            let value = register.value.clone();
            DestinationRegister {
                value: value.filter(|_| !(is_redaction_mark && redacted.contains(&register.id))),
                ..register.clone()
            }
        });
        *vcpu = DestinationVcpu::new(registers.collect::<Vec<_>>(), vcpu.extensions.clone());
    }
}

/// Returns the host that wrote a stream as a destination.
pub(crate) fn from_registers(name: String, state: &RegisterState) -> Destination {
    let vcpus = state.vm.vcpus.iter().map(DestinationVcpu::from_vcpu);
    Destination {
        name,
        accelerator: Some(Accelerator::Kvm),
        loader: state.loader,
        value_origin: ValueOrigin::Guest,
        vcpus: vcpus.collect(),
        kernel_version: None,
        hardware: state.vm.source_hardware,
        shape: Some(state.shape.clone()),
    }
}

/// Returns the destination that a stream describes.
pub(crate) fn from_stream(name: String, stream: &Stream) -> Result<Destination, Failure> {
    let message = format!("cannot use {name}");
    stream
        .destination(name)
        .map_err(|error| Failure::new(message).with_cause(error))
}
