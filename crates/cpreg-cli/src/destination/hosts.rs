//! Recorded hosts wherever a file could be named: those that come with cpreg, by name, and files that `cpreg probe kvm` wrote.
//!
//! | written | names |
//! |---|---|
//! | `linux-6.12.107/neoverse-n1` | a host that comes with cpreg ([`cpreg_hosts::host`]) |
//! | `FILE` | the host recorded in that file |
//! | either with `/FEATURES` behind it | that host, for a guest with just these features |
//!
//! What a host lists depends on the guest's features, so for most purposes it is taken as the profile that it would be for a guest.

use std::path::Path;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Features};
use cpreg::register::Value;
use cpreg::vm::Registers;
use cpreg_hosts::host::PREFIX;
use cpreg_hosts::{Error, ErrorKind, HostIndex, HostRecord, Profile};

use super::resolved_destination;
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

/// The guest that a host is asked about, which decides what the host lists.
#[derive(Clone, Copy)]
pub(crate) enum Guest<'a> {
    /// The one in this file.
    Stream(&'a Input),
    /// One with these features.
    Features(Features),
    /// None.
    Unspecified,
}

/// A recorded host that was named.
pub(crate) struct NamedHost {
    pub(crate) record: HostRecord,
    /// The features in the name.
    pub(crate) features: Option<Features>,
    /// How it is to be written, features aside: its name or its file.
    pub(crate) display_name: String,
}

/// What a path names.
pub(crate) enum HostOrFile {
    /// A file that is no recorded host.
    File(Box<Input>),
    /// A recorded host.
    Host(Box<NamedHost>),
}

/// The recorded kernels.
pub(crate) fn history() -> Result<HostIndex, Failure> {
    HostIndex::built_in()
        .map_err(|error| Failure::new("cannot read the recorded kernels").with_cause(error))
}

/// The name, if it is one of a recorded host and of no file.
fn recorded_host_name(path: &Path) -> Option<&str> {
    let name = path.to_str()?;
    (name.starts_with(PREFIX) && !exists(path)).then_some(name)
}

/// Whether there is something of that name, or it is `FILE/FEATURES`.
pub(crate) fn exists(path: &Path) -> bool {
    path == Path::new("-") || path.exists() || split_features(path).is_some()
}

/// The file and the features of `FILE/FEATURES`.
fn split_features(path: &Path) -> Option<(&Path, Features)> {
    let (file, name) = (path.parent()?, path.file_name()?.to_str()?);
    // Nothing can be in what is no folder.
    let is_file = file.metadata().is_ok_and(|metadata| !metadata.is_dir());
    let features = Features::from_names(name).filter(|_| is_file)?;
    Some((file, features))
}

/// The name of a recorded host of which only the beginning is missing: `6.12.107/n1`.
pub(crate) fn whole_name(text: &str) -> Option<String> {
    let is_one = !history().ok()?.find_hosts(text).is_empty();
    is_one.then(|| format!("{PREFIX}{text}"))
}

/// Opens what a path names.
pub(crate) fn open(path: &Path, verify: bool, printer: &Printer) -> Result<HostOrFile, Failure> {
    if let Some(name) = recorded_host_name(path) {
        let history = history()?;
        let named = history
            .resolve(name)
            .map_err(|error| host_name_failure(&error))?;
        return Ok(HostOrFile::Host(Box::new(NamedHost {
            record: named.host.record(),
            features: named.features,
            display_name: named.host.name(),
        })));
    }
    let with_features = split_features(path);
    let file = with_features.map_or(path, |(file, _)| file);
    let input = Input::open(file, verify, printer).map_err(|failure| {
        let name = path.to_str().filter(|_| !exists(path)).and_then(whole_name);
        name.into_iter().fold(failure, |failure, name| {
            failure.with_hint(format!(
                "a recorded host's name begins with its kernel's: {name}"
            ))
        })
    })?;
    match input.content {
        Content::Host(record) => Ok(HostOrFile::Host(Box::new(NamedHost {
            record: *record,
            features: with_features.map(|(_, features)| features),
            display_name: file.display().to_string(),
        }))),
        _ if with_features.is_some() => Err(Failure::new(format!(
            "{} names a guest's features, and {} is no recorded host",
            path.display(),
            file.display()
        ))
        .with_hint("name the file alone: only what a recorded host lists depends on features")),
        _ => Ok(HostOrFile::File(Box::new(input))),
    }
}

impl NamedHost {
    /// Returns the host as a destination for a guest.
    pub(crate) fn for_guest(
        &self,
        guest: Guest<'_>,
    ) -> Result<resolved_destination::ResolvedDestination, Failure> {
        let features = self.features_for(guest)?;
        let Profile {
            origin: recorded,
            destination,
        } = self.profile(features)?;
        Ok(resolved_destination::ResolvedDestination {
            destination,
            provenance: self.record.evidence(features).into(),
            origin: Box::new(recorded),
        })
    }

    /// Returns the host as an input: what it is for a guest.
    pub(crate) fn input_for_guest(&self, guest: Guest<'_>) -> Result<Input, Failure> {
        let features = self.features_for(guest)?;
        self.profile(features).map(Input::from_recorded_host)
    }

    fn profile(&self, features: Features) -> Result<Profile, Failure> {
        let profile = self.record.profile(features, Program::QEMU);
        profile.map_err(|error| {
            Failure::new(error.to_string()).with_hint(format!(
                "if another set will do, name it: {}/FEATURES; or record the destination itself \
                 with `cpreg probe`",
                self.display_name
            ))
        })
    }

    /// Returns the features in the name, else those of the guest.
    fn features_for(&self, guest: Guest<'_>) -> Result<Features, Failure> {
        match (self.features, guest) {
            (Some(features), _) => Ok(features),
            (None, Guest::Stream(source)) => self.recognise_features(source),
            (None, Guest::Features(features)) => Ok(features),
            (None, Guest::Unspecified) => Err(self.missing_features()),
        }
    }

    /// The features of the guest in a file.
    fn recognise_features(&self, source: &Input) -> Result<Features, Failure> {
        let Content::Stream(stream) = &source.content else {
            return Err(self.missing_features());
        };
        let vm = stream.vm().map_err(|error| {
            Failure::new(format!("cannot use {}", source.path.display())).with_cause(error)
        })?;
        let is_kvm = stream.accelerator() == Some(Accelerator::Kvm);
        let Some(vcpu) = vm.vcpus.first().filter(|_| is_kvm) else {
            // That it did not run under KVM is said where both sides are looked at.
            return Ok(Features::NONE);
        };
        let recognised = GuestFeatures::from_registers(&vcpu.registers);
        if recognised.undetermined.is_empty() || self.is_unaffected_by_open_features(recognised) {
            return Ok(recognised.features);
        }
        Err(ambiguous_features(source, &self.display_name, recognised))
    }

    /// Whether the host is the same for the guest whatever it really has.
    fn is_unaffected_by_open_features(&self, recognised: GuestFeatures) -> bool {
        let registers = |features| {
            let destination = self.record.destination(features, Program::QEMU).ok()?;
            Some(destination.vcpus.first()?.registers().to_vec())
        };
        registers(recognised.features)
            == registers(recognised.features.difference(recognised.undetermined))
    }

    /// Nothing says for which guest a host is meant.
    pub(crate) fn missing_features(&self) -> Failure {
        let recorded = self.record.guests.keys();
        let recorded: Vec<_> = recorded.map(ToString::to_string).collect();
        Failure::new(format!(
            "what {} lists depends on the guest's vCPU features",
            self.display_name
        ))
        .with_hint(format!(
            "name them: {}/FEATURES; recorded are {}",
            self.display_name,
            recorded.join("; ")
        ))
    }
}

/// The features of the guests that a host was recorded with.
pub(crate) fn recognise_host_features(host: &Destination) -> Features {
    let registers = host.vcpus.first().map(|vcpu| {
        let values = vcpu.registers().iter();
        Registers::from_pairs(values.map(|it| (it.id, it.value.clone().unwrap_or(Value::U64(0)))))
    });
    let registers = registers.and_then(Result::ok).unwrap_or_default();
    GuestFeatures::from_registers(&registers).features
}

/// The guest's registers leave open which features it has; `name`: how the destination is written.
pub(crate) fn ambiguous_features(source: &Input, name: &str, recognised: GuestFeatures) -> Failure {
    let without = recognised.features.difference(recognised.undetermined);
    Failure::new(format!(
        "the registers of {} do not tell whether the guest has a PMU: its kernel lists the PMU's \
         for guests without one as well",
        source.name()
    ))
    .with_hint(format!(
        "if it has one (QEMU gives it one unless told pmu=off), write {name}/{}; if not, \
         {name}/{without}",
        recognised.features
    ))
}

/// No host, or not one, has the name.
pub(crate) fn host_name_failure(error: &Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::AmbiguousName => "write more of the name, or all of it",
        ErrorKind::Features => {
            "`cpreg hosts` lists beside each host those that were recorded; a DESTINATION without them is \
             taken as it is for the guest in SOURCE"
        }
        _ => "`cpreg hosts` lists them all; there is no file of that name either",
    };
    Failure::new(error.to_string()).with_hint(hint)
}
