//! Recorded hosts by name, wherever a file could be named: as the profile that they would be.

use std::path::Path;

use cpreg::destination::features::Recognised;
use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Features};
use cpreg_hosts::History;
use cpreg_hosts::host::{Host, NameError, PREFIX};

use crate::failure::Failure;
use crate::input::{Content, Input};

/// The guest that a host is asked about, which decides what the host lists.
#[derive(Clone, Copy)]
pub(crate) enum Guest<'a> {
    /// The one in this file.
    In(&'a Input),
    /// One with these features.
    Having(Features),
    /// None.
    Nobody,
}

/// The recorded kernels.
pub(crate) fn history() -> Result<History, Failure> {
    History::built_in()
        .map_err(|error| Failure::new("cannot read the recorded kernels").because(error))
}

/// The name, if it is one of a recorded host and of no file.
pub(crate) fn name_of(path: &Path) -> Option<&str> {
    let name = path.to_str()?;
    (name.starts_with(PREFIX) && !path.exists()).then_some(name)
}

/// The features that a name has at its end, if it is a recorded host's.
pub(crate) fn features_in(path: &Path) -> Option<Features> {
    let (_, features) = name_of(path)?.split_once('/')?.1.split_once('/')?;
    Features::from_names(features)
}

/// Whether the name is that of one host.
pub(crate) fn exists(name: &str) -> Result<(), Failure> {
    let history = history()?;
    let named = history.named(name);
    named.map(|_| ()).map_err(|error| unnamed(&error))
}

/// The host of that name as it is for a guest; and what it is known from.
pub(crate) fn open(name: &str, guest: Guest<'_>) -> Result<(Input, &'static str), Failure> {
    let history = history()?;
    let named = history.named(name).map_err(|error| unnamed(&error))?;
    let host = named.host;
    let features = match (named.features, guest) {
        (Some(features), _) | (None, Guest::Having(features)) => features,
        (None, Guest::In(source)) => features_of(source, &host)?,
        (None, Guest::Nobody) => return Err(unsaid(&host)),
    };
    let (profile, evidence) = host.profile(features, Program::QEMU).map_err(|error| {
        Failure::new(error.to_string()).hint(format!(
            "if another set will do, name it: {}/FEATURES; or record the destination itself with `cpreg probe`",
            host.name()
        ))
    })?;
    let full = profile.name.clone();
    Ok((Input::of_host(Path::new(&full), profile)?, evidence))
}

/// No host, or not one, has the name.
pub(crate) fn unnamed(error: &NameError) -> Failure {
    let hint = match error {
        NameError::Several { .. } => "write more of the name, or all of it",
        NameError::Nothing { .. } => {
            "`cpreg hosts` lists them all; there is no file of that name either"
        }
        NameError::Features { .. } => "without them, they are those of the guest in SOURCE",
    };
    Failure::new(error.to_string()).hint(hint)
}

/// The features of the guest in a file.
fn features_of(source: &Input, host: &Host<'_>) -> Result<Features, Failure> {
    let Content::Stream(stream) = &source.content else {
        return Err(unsaid(host));
    };
    let vm = stream.vm().map_err(|error| {
        Failure::new(format!("cannot use {}", source.path.display())).because(error)
    })?;
    let is_kvm = stream.accelerator() == Some(Accelerator::Kvm);
    let Some(vcpu) = vm.vcpus.first().filter(|_| is_kvm) else {
        // That it did not run under KVM is said where both sides are looked at.
        return Ok(Features::NONE);
    };
    let recognised = Recognised::of(&vcpu.registers);
    if recognised.open.is_empty() || is_all_the_same(host, recognised) {
        return Ok(recognised.features);
    }
    let without = recognised.features.without(recognised.open);
    Err(Failure::new(format!(
        "the registers of {} do not tell whether the guest has a PMU: its kernel lists the PMU's for guests without one as well",
        source.name()
    ))
    .hint(format!(
        "if it has one (QEMU gives it one unless told pmu=off), write {name}/{}; if not, {name}/{without}",
        recognised.features,
        name = host.name()
    )))
}

/// Whether the host is the same for the guest whatever it really has.
fn is_all_the_same(host: &Host<'_>, recognised: Recognised) -> bool {
    let vcpus = |features| {
        let made = host.destination(features, Program::QEMU).ok();
        made.map(|(destination, _)| destination.vcpus)
    };
    let registers = |features| vcpus(features)?.first().map(|it| it.registers().to_vec());
    registers(recognised.features) == registers(recognised.features.without(recognised.open))
}

/// Nothing says for which guest a host is meant.
fn unsaid(host: &Host<'_>) -> Failure {
    let recorded = host.recorded();
    let recorded: Vec<_> = recorded.keys().map(ToString::to_string).collect();
    Failure::new(format!(
        "what {} lists depends on the guest's vCPU features",
        host.name()
    ))
    .hint(format!(
        "name them: {}/FEATURES; recorded are {}",
        host.name(),
        recorded.join("; ")
    ))
}
