//! [`NamedHost`]: a recorded host that the user names, and its destination for a guest.
//!
//! The registers that a host lists depend on the guest's features. Most commands therefore use the
//! profile of a host for a guest.

use std::path::{Path, PathBuf};

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Features};
use cpreg::vm::Vm;
use cpreg_hosts::{Error, HostRecord, IndexedHost, Profile};

use super::resolved_destination::{Assumption, ResolvedDestination};
use crate::failure::Failure;
use crate::input::{Content, Input};

/// Guest whose vCPU features decide the registers that a host lists.
#[derive(Clone, Copy)]
pub(crate) enum Guest<'a> {
    /// Guest in this file.
    Stream(&'a Input),
    /// Guest with these features.
    Features(GuestFeatures),
    /// No guest is known.
    Unspecified,
}

impl Guest<'_> {
    /// Returns the program whose list of registers the guest has.
    fn program(self) -> Program {
        let state = match self {
            Self::Stream(source) => source.registers(),
            _ => None,
        };
        let loader = state.and_then(|state| state.loader);
        // All programs except QEMU keep KVM's list.
        match state {
            Some(_) => loader.map_or(Program::CPREG, |loader| loader.program),
            None => Program::QEMU,
        }
    }
}

/// Recorded host found by its name or file.
pub(crate) struct NamedHost {
    pub(crate) record: HostRecord,
    /// Features in the name; `None` if the name has none.
    pub(crate) features: Option<Features>,
    /// Name or file of the host, without features.
    pub(crate) display_name: String,
    /// The user's argument.
    argument: PathBuf,
    /// Name of the unrecorded host that the recorded host stands for.
    unrecorded_name: Option<String>,
    /// `true` if the recorded host is only next to the host in the argument.
    is_neighbour: bool,
}

impl NamedHost {
    /// Returns the host that the argument names, or that stands for the host `unrecorded_name`.
    pub(super) fn new(
        host: IndexedHost<'_>,
        features: Option<Features>,
        argument: &str,
        unrecorded_name: Option<String>,
    ) -> Self {
        Self {
            record: host.record(),
            features,
            display_name: host.name(),
            argument: argument.into(),
            unrecorded_name,
            is_neighbour: false,
        }
    }

    /// Returns the host in a file that `argument` names.
    pub(super) fn from_file(
        record: HostRecord,
        features: Option<Features>,
        file: &Path,
        argument: &Path,
    ) -> Self {
        Self {
            record,
            features,
            display_name: file.display().to_string(),
            argument: argument.to_owned(),
            unrecorded_name: None,
            is_neighbour: false,
        }
    }

    /// Returns a recorded host next to the host that the argument names.
    pub(super) fn neighbour(
        host: IndexedHost<'_>,
        features: Option<Features>,
        argument: &str,
    ) -> Self {
        Self {
            is_neighbour: true,
            ..Self::new(host, features, argument, None)
        }
    }

    /// Returns the host as a destination for a guest.
    ///
    /// If the guest does not determine its features, the result has an alternative.
    pub(crate) fn for_guest(&self, guest: Guest<'_>) -> Result<ResolvedDestination, Failure> {
        let program = guest.program();
        let mut guest = self.guest_features(guest)?;
        // A VM with a feature that the host lacks can only be started there without it.
        let lacking = match self.features {
            Some(_) => Features::NONE,
            None => guest.features.intersection(self.record.lacking_features()),
        };
        guest.features = guest.features.difference(lacking);
        guest.undetermined = guest.undetermined.difference(lacking);
        let is_open = !guest.undetermined.is_empty();
        let mut resolved = self.resolve(guest.features, is_open, program)?;
        if is_open {
            let alternative = self.resolve(guest.without_undetermined(), is_open, program)?;
            resolved.alternatives.push(alternative);
        }
        if !lacking.is_empty() {
            let provenance = &resolved.provenance;
            resolved.provenance =
                format!("{provenance}; its KVM has no {lacking} for guests").into();
        }
        Ok(resolved)
    }

    /// Returns the host as a destination for a guest with exactly these features. `is_open` says
    /// that others are possible too.
    fn resolve(
        &self,
        features: Features,
        is_open: bool,
        program: Program,
    ) -> Result<ResolvedDestination, Failure> {
        let Profile {
            origin,
            destination,
        } = self.profile(features, program)?;
        let host = if self.is_neighbour {
            self.display_name.clone()
        } else {
            self.argument.display().to_string()
        };
        let needs_features = is_open || (self.is_neighbour && self.features.is_some());
        Ok(ResolvedDestination {
            destination,
            provenance: self.provenance(features).into(),
            origin: Box::new(origin),
            assumption: Some(Assumption {
                base: self.argument.clone(),
                argument: if needs_features {
                    format!("{host}/{features}")
                } else {
                    host
                },
                features,
                recorded_host: self.is_neighbour.then(|| self.display_name.clone()),
            }),
            unrecorded_kernel: None,
            alternatives: Vec::new(),
        })
    }

    /// Returns the profile of the host for a guest, as an input.
    pub(crate) fn input_for_guest(&self, guest: Guest<'_>) -> Result<Input, Failure> {
        let features = self.features_for(guest)?;
        self.profile(features, guest.program())
            .map(Input::from_recorded_host)
    }

    /// Returns the host for a guest, and a new VM with the guest's features.
    pub(crate) fn new_vm(&self, guest: Guest<'_>) -> Result<(Destination, Vm), Failure> {
        let features = self.features_for(guest)?;
        let vm = self.record.new_vm(features, Program::QEMU);
        let vm = vm.map_err(|error| self.not_recorded(&error))?;
        let profile = self.profile(features, Program::QEMU)?;
        Ok((profile.destination, vm))
    }

    /// Returns the provenance of the host's data, in words.
    fn provenance(&self, features: Features) -> String {
        let evidence = self.record.evidence(features);
        match &self.unrecorded_name {
            _ if self.is_neighbour => {
                format!("next to the destination, whose kernel was not recorded: {evidence}")
            }
            Some(name) => {
                format!("{evidence}; it stands for {name}, an unrecorded kernel of the same series")
            }
            None => evidence,
        }
    }

    fn profile(&self, features: Features, program: Program) -> Result<Profile, Failure> {
        let profile = self.record.profile(features, program);
        profile.map_err(|error| self.not_recorded(&error))
    }

    fn not_recorded(&self, error: &Error) -> Failure {
        Failure::new(error.to_string()).with_hint(format!(
            "name another set of features: {}/FEATURES; or record the destination itself with \
             `cpreg probe`",
            self.display_name
        ))
    }

    /// Returns the features of a guest that determines them.
    fn features_for(&self, guest: Guest<'_>) -> Result<Features, Failure> {
        let recognised = self.guest_features(guest)?;
        if recognised.undetermined.is_empty() || self.ignores_undetermined_features(recognised) {
            return Ok(recognised.features);
        }
        match guest {
            Guest::Stream(source) => Err(ambiguous_features(
                source,
                &self.argument.display(),
                recognised,
            )),
            _ => Err(self.missing_features()),
        }
    }

    /// Returns the features in the name; without them, the features of the guest.
    fn guest_features(&self, guest: Guest<'_>) -> Result<GuestFeatures, Failure> {
        match (self.features, guest) {
            (Some(features), _) => Ok(GuestFeatures::determined(features)),
            (None, Guest::Stream(source)) => self.recognise_features(source),
            (None, Guest::Features(features)) => Ok(features),
            (None, Guest::Unspecified) => Err(self.missing_features()),
        }
    }

    /// Recognises the features of the guest in `source` from its registers.
    fn recognise_features(&self, source: &Input) -> Result<GuestFeatures, Failure> {
        if let Some(state) = source.registers() {
            return Ok(GuestFeatures::determined(state.features));
        }
        let Content::Stream(stream) = &source.content else {
            return Err(self.missing_features());
        };
        let vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
        })?;
        if stream.accelerator() != Some(Accelerator::Kvm) || vm.vcpus.is_empty() {
            // The check reports later that the guest did not run under KVM. All recorded guests
            // are alike for that.
            let recorded = self.record.guests.keys().next();
            let features = recorded.copied().unwrap_or(Features::NONE);
            return Ok(GuestFeatures::determined(features));
        }
        let vcpus = vm.vcpus.iter().map(|vcpu| &vcpu.registers);
        Ok(GuestFeatures::from_vcpus(vcpus))
    }

    /// Returns `true` if the host is the same for the guest with and without its undetermined
    /// features.
    fn ignores_undetermined_features(&self, recognised: GuestFeatures) -> bool {
        let registers = |features| {
            let destination = self.record.destination(features, Program::QEMU).ok()?;
            Some(destination.vcpus.first()?.registers().to_vec())
        };
        registers(recognised.features) == registers(recognised.without_undetermined())
    }

    /// Returns the error for a host whose name has no features and that has no guest.
    pub(crate) fn missing_features(&self) -> Failure {
        let recorded = self.record.guests.keys();
        let recorded: Vec<_> = recorded.map(ToString::to_string).collect();
        Failure::new(format!(
            "the registers of {} depend on the guest's vCPU features",
            self.display_name
        ))
        .with_hint(format!(
            "name the features: {}/FEATURES; recorded are {}",
            self.display_name,
            recorded.join("; ")
        ))
    }
}

/// Returns the error for a guest whose registers do not determine its features.
///
/// `name` is the user's argument for the destination.
fn ambiguous_features(
    source: &Input,
    name: &impl std::fmt::Display,
    recognised: GuestFeatures,
) -> Failure {
    let without = recognised.without_undetermined();
    Failure::new(format!(
        "the registers of {} do not determine if the guest has a PMU: its kernel lists PMU \
         registers for guests without a PMU too",
        source.name()
    ))
    .with_hint(format!(
        "with a PMU (QEMU's default unless pmu=off), write {name}/{}; without, {name}/{without}",
        recognised.features
    ))
}
