//! Recorded hosts as arguments: built-in hosts by name, and files written by `cpreg probe kvm`.
//!
//! | argument | meaning |
//! |---|---|
//! | `linux-6.12.107/neoverse-n1` | built-in recorded host ([`cpreg_hosts::host`]) |
//! | `linux-6.8/n1` | host that was not recorded ([`UnrecordedNamedHost`]) |
//! | `FILE` | host recorded in that file |
//! | either, followed by `/FEATURES` | the host, for a guest with exactly these features |

use std::path::Path;
use std::sync::OnceLock;

use cpreg::destination::Features;
use cpreg_hosts::host::{self, HOST_NAME_PREFIX};
use cpreg_hosts::{Error, ErrorKind, HostIndex};

pub(crate) use super::named_host::{Guest, NamedHost};
use super::unrecorded_host::UnrecordedNamedHost;
use crate::failure::Failure;
use crate::input::{Content, Input, VmPath, domain_address};
use crate::printer::Printer;

/// Content of the path of a command: a recorded host, or another file.
pub(crate) enum HostOrFile {
    /// File that is not a recorded host.
    File(Box<Input>),
    /// Recorded host.
    Host(Box<NamedHost>),
    /// Host with a kernel that was not recorded.
    Unrecorded(Box<UnrecordedNamedHost>),
}

/// Returns the index of the recorded hosts that are built into cpreg.
pub(crate) fn history() -> Result<&'static HostIndex, Failure> {
    // A command with many names must not parse the index for each of them.
    static INDEX: OnceLock<HostIndex> = OnceLock::new();
    if let Some(index) = INDEX.get() {
        return Ok(index);
    }
    let index = HostIndex::built_in()
        .map_err(|error| Failure::new("cannot read the recorded kernels").with_cause(error))?;
    Ok(INDEX.get_or_init(|| index))
}

/// Returns the path as the name of a recorded host; `None` if a file has that path.
fn recorded_host_name(path: &Path) -> Option<&str> {
    let name = path.to_str()?;
    (host::is_host_name(name) && !exists(path)).then_some(name)
}

/// Returns the path as the name of a kernel without a CPU; `None` if a file has that path.
pub(crate) fn kernel_name(path: &Path) -> Option<&str> {
    recorded_host_name(path).filter(|name| !name.contains('/'))
}

/// Returns `true` if the path is readable: an existing path, `-`, `FILE/FEATURES`,
/// `FILE#VM` or a domain of libvirt.
pub(crate) fn exists(path: &Path) -> bool {
    path == Path::new("-")
        || path.exists()
        || split_features(path).is_some()
        || VmPath::new(path).vm.is_some()
        || !matches!(domain_address(path), Ok(None))
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
        return find(index, name);
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
        Content::Host(record) => {
            let features = with_features.map(|(_, features)| features);
            let host = NamedHost::from_file(*record, features, file, path);
            Ok(HostOrFile::Host(Box::new(host)))
        }
        _ if with_features.is_some() => Err(Failure::new(format!(
            "{} names features of a guest, but {} is not a recorded host",
            path.display(),
            file.display()
        ))
        .with_hint("name the file without features: only recorded hosts depend on them")),
        _ => Ok(HostOrFile::File(Box::new(input))),
    }
}

/// Finds the recorded host that a name names. For an unrecorded kernel, finds the recorded host
/// that stands for it, or those next to it.
fn find(index: &HostIndex, name: &str) -> Result<HostOrFile, Failure> {
    let host = |host, features, unrecorded_name| {
        let host = NamedHost::new(host, features, name, unrecorded_name);
        HostOrFile::Host(Box::new(host))
    };
    let error = match index.resolve(name) {
        Ok(named) => return Ok(host(named.host, named.features, None)),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::Features {
        return Err(host_name_failure(&error));
    }
    match index.find_unrecorded(name) {
        Ok(unrecorded) => match unrecorded.substitute() {
            Some(recorded) => Ok(host(recorded, unrecorded.features, Some(unrecorded.name))),
            None if error.kind() == ErrorKind::AmbiguousName => Err(host_name_failure(&error)),
            None => {
                let unrecorded = UnrecordedNamedHost::new(&unrecorded, name);
                Ok(HostOrFile::Unrecorded(Box::new(unrecorded)))
            }
        },
        Err(cause) if cause.kind() == ErrorKind::UnknownCpu => Err(host_name_failure(&cause)),
        Err(_) => Err(host_name_failure(&error)),
    }
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
