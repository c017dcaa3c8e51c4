//! Recorded hosts as arguments: built-in hosts by name, and files written by `cpreg probe kvm`.
//!
//! | argument | meaning |
//! |---|---|
//! | `linux-6.12.107/neoverse-n1` | built-in recorded host ([`cpreg_hosts::host`]) |
//! | `FILE` | host recorded in that file |
//! | either, followed by `/FEATURES` | the host, for a guest with exactly these features |
//!
//! The registers that a host lists depend on the guest's features. Most commands therefore use the
//! profile of a host for a guest.

use std::path::{Path, PathBuf};

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Destination, Features};
use cpreg::register::Value;
use cpreg::vm::{Registers, Vm};
use cpreg_hosts::host::{self, HOST_NAME_PREFIX};
use cpreg_hosts::unrecorded_host::{Gap, UnrecordedHost};
use cpreg_hosts::{Error, ErrorKind, HostIndex, HostRecord, IndexedHost, Profile};

use super::resolved_destination::{FeatureArgument, ResolvedDestination};
use crate::failure::Failure;
use crate::input::{Content, Input};
use crate::printer::Printer;

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
}

/// Content of the path of a command: a recorded host, or another file.
pub(crate) enum HostOrFile {
    /// File that is not a recorded host.
    File(Box<Input>),
    /// Recorded host.
    Host(Box<NamedHost>),
}

/// Returns the index of the recorded hosts that are built into cpreg.
pub(crate) fn history() -> Result<HostIndex, Failure> {
    HostIndex::built_in()
        .map_err(|error| Failure::new("cannot read the recorded kernels").with_cause(error))
}

/// Returns the path as the name of a recorded host; `None` if a file has that path.
fn recorded_host_name(path: &Path) -> Option<&str> {
    let name = path.to_str()?;
    (host::is_host_name(name) && !exists(path)).then_some(name)
}

/// Returns `true` if the path is readable: an existing path, `-`, or `FILE/FEATURES`.
pub(crate) fn exists(path: &Path) -> bool {
    path == Path::new("-") || path.exists() || split_features(path).is_some()
}

/// Splits `FILE/FEATURES`.
fn split_features(path: &Path) -> Option<(&Path, Features)> {
    let (file, name) = (path.parent()?, path.file_name()?.to_str()?);
    // A regular file has no paths below it, so the path can only be a file with features.
    let is_file = file.metadata().is_ok_and(|metadata| !metadata.is_dir());
    let features = Features::from_names(name).filter(|_| is_file)?;
    Some((file, features))
}

/// Adds the missing prefix to the name of a recorded host: `6.12.107/n1`.
pub(crate) fn with_prefix(text: &str) -> Option<String> {
    let is_host = !history().ok()?.find_hosts(text).is_empty();
    is_host.then(|| format!("{HOST_NAME_PREFIX}{text}"))
}

/// Opens the VM that a path names.
///
/// # Errors
/// Returns an error that names `check` if the path names a recorded host.
pub(crate) fn open_vm(path: &Path, verify: bool, printer: &Printer) -> Result<Input, Failure> {
    match recorded_host_name(path) {
        Some(name) => Err(Failure::new(format!(
            "{name} names a recorded host, but a VM is needed: a migration stream"
        ))
        .with_hint("`cpreg check` takes a recorded host as SOURCE")),
        None => Input::open(path, verify, printer),
    }
}

/// Opens the recorded host or the file that a path names.
pub(crate) fn open(path: &Path, verify: bool, printer: &Printer) -> Result<HostOrFile, Failure> {
    if let Some(name) = recorded_host_name(path) {
        let index = history()?;
        return Ok(HostOrFile::Host(Box::new(NamedHost::find(&index, name)?)));
    }
    let with_features = split_features(path);
    let file = with_features.map_or(path, |(file, _)| file);
    let input = Input::open(file, verify, printer).map_err(|failure| {
        let name = path
            .to_str()
            .filter(|_| !exists(path))
            .and_then(with_prefix);
        name.into_iter().fold(failure, |failure, name| {
            failure.with_hint(format!(
                "the name of a recorded host begins with the name of its kernel: {name}"
            ))
        })
    })?;
    match input.content {
        Content::Host(record) => Ok(HostOrFile::Host(Box::new(NamedHost {
            record: *record,
            features: with_features.map(|(_, features)| features),
            display_name: file.display().to_string(),
            argument: path.to_owned(),
            unrecorded_name: None,
        }))),
        _ if with_features.is_some() => Err(Failure::new(format!(
            "{} names features of a guest, but {} is not a recorded host",
            path.display(),
            file.display()
        ))
        .with_hint("name the file without features: only recorded hosts depend on them")),
        _ => Ok(HostOrFile::File(Box::new(input))),
    }
}

impl NamedHost {
    /// Finds the recorded host that a name names or, for an unrecorded kernel, the recorded host
    /// that stands for it.
    fn find(index: &HostIndex, name: &str) -> Result<Self, Failure> {
        let error = match index.resolve(name) {
            Ok(named) => return Ok(Self::new(named.host, named.features, name, None)),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::Features {
            return Err(host_name_failure(&error));
        }
        match index.find_unrecorded(name) {
            Ok(host) => match host.substitute() {
                Some(recorded) => Ok(Self::new(recorded, host.features, name, Some(host.name))),
                None if error.kind() == ErrorKind::AmbiguousName => Err(host_name_failure(&error)),
                None => Err(unrecorded_host_failure(&host)),
            },
            Err(cause) if cause.kind() == ErrorKind::UnknownCpu => Err(host_name_failure(&cause)),
            Err(_) => Err(host_name_failure(&error)),
        }
    }

    fn new(
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
        }
    }

    /// Returns the host as a destination for a guest.
    ///
    /// If the guest does not determine its features, the result has an alternative.
    pub(crate) fn for_guest(&self, guest: Guest<'_>) -> Result<ResolvedDestination, Failure> {
        let guest = self.guest_features(guest)?;
        let mut resolved = self.resolve(guest.features)?;
        if !guest.undetermined.is_empty() {
            let alternative = self.resolve(guest.without_undetermined())?;
            resolved.alternative = Some(Box::new(alternative));
        }
        Ok(resolved)
    }

    /// Returns the host as a destination for a guest with exactly these features.
    fn resolve(&self, features: Features) -> Result<ResolvedDestination, Failure> {
        let Profile {
            origin,
            destination,
        } = self.profile(features)?;
        Ok(ResolvedDestination {
            destination,
            provenance: self.provenance(features).into(),
            origin: Box::new(origin),
            argument: self.features.is_none().then(|| FeatureArgument {
                base: self.argument.clone(),
                features,
            }),
            alternative: None,
        })
    }

    /// Returns the profile of the host for a guest, as an input.
    pub(crate) fn input_for_guest(&self, guest: Guest<'_>) -> Result<Input, Failure> {
        let features = self.features_for(guest)?;
        self.profile(features).map(Input::from_recorded_host)
    }

    /// Returns the host for a guest, and a new VM with the guest's features.
    pub(crate) fn new_vm(&self, guest: Guest<'_>) -> Result<(Destination, Vm), Failure> {
        let features = self.features_for(guest)?;
        let vm = self.record.new_vm(features, Program::QEMU);
        let vm = vm.map_err(|error| self.not_recorded(&error))?;
        Ok((self.profile(features)?.destination, vm))
    }

    /// Returns the provenance of the host's data, in words.
    fn provenance(&self, features: Features) -> String {
        let evidence = self.record.evidence(features);
        match &self.unrecorded_name {
            Some(name) => {
                format!("{evidence}; it stands for {name}, an unrecorded kernel of the same series")
            }
            None => evidence,
        }
    }

    fn profile(&self, features: Features) -> Result<Profile, Failure> {
        let profile = self.record.profile(features, Program::QEMU);
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

/// Recognises the vCPU features of the guest with which a host was recorded.
pub(crate) fn recognise_host_features(host: &Destination) -> GuestFeatures {
    let registers = host.vcpus.first().map(|vcpu| {
        let values = vcpu.registers().iter();
        let values = values.map(|register| {
            let value = register.value.clone();
            (register.id, value.unwrap_or_else(Value::unknown))
        });
        Registers::from_pairs(values)
    });
    let registers = registers.and_then(Result::ok).unwrap_or_default();
    GuestFeatures::from_registers(&registers)
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

/// Returns the error for an unrecorded host that no recorded one stands for.
fn unrecorded_host_failure(host: &UnrecordedHost<'_>) -> Failure {
    let name = &host.name;
    let neighbours: Vec<_> = host.neighbours.iter().map(IndexedHost::name).collect();
    let neighbours = neighbours.join(" and ");
    let message = match host.gap {
        Gap::SameSeries => {
            format!("{name} was not recorded, and its recorded neighbours differ: {neighbours}")
        }
        Gap::BetweenSeries => {
            format!("no kernel of the series of {name} was recorded; its neighbours: {neighbours}")
        }
        Gap::OutsideSeries => {
            format!("{name} is outside the recorded series; the nearest host: {neighbours}")
        }
        Gap::Backports(distribution) => format!(
            "{distribution} backports changes of KVM, so no recorded kernel stands for {name}"
        ),
    };
    let record_it = "record the host itself: run `cpreg probe kvm -o host.json` there, and name the \
                     file";
    Failure::new(message).with_hint(match host.gap {
        Gap::SameSeries | Gap::BetweenSeries => {
            format!("{record_it}; or name one neighbour after the other: both verdicts must agree")
        }
        Gap::OutsideSeries | Gap::Backports(_) => record_it.to_owned(),
    })
}

/// Returns the error for a name that no host has, or that more than one host has.
pub(crate) fn host_name_failure(error: &Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::AmbiguousName => "write a longer part of the name, or the full name",
        ErrorKind::Features => {
            "`cpreg hosts` lists the recorded features of each host; DESTINATION without features \
             stands for the guest in SOURCE"
        }
        _ => "`cpreg hosts` lists all recorded hosts; no file has that name either",
    };
    Failure::new(error.to_string()).with_hint(hint)
}
