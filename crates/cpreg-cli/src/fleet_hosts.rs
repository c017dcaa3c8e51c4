//! Hosts of a fleet, from the arguments of a command: names of recorded hosts, and files.
//!
//! | argument | hosts |
//! |---|---|
//! | `all` | every recorded host |
//! | `linux-6.12.107/neoverse-n1`, also with `/FEATURES` | that host |
//! | `linux-6.12`, `linux-6.12/n1`, `n1`, `graviton3` | all recorded hosts that the name matches |
//! | `linux-6.8/n1` | a host whose kernel was not recorded, by the recorded ones next to it |
//! | a file | the recorded host in it, also with `/FEATURES`; a profile; the host of a stream |
//! | a directory | the hosts in its files |

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use cpreg::destination::Features;
use cpreg_fleet::Host;
use cpreg_hosts::host;
use cpreg_hosts::{ErrorKind, HostIndex, IndexedHost};
use cpreg_report::matrix::model::LeftOutSource;
use cpreg_snapshot::Folder;

use crate::arguments::LoaderArgs;
use crate::destination::hosts::{self, HostOrFile};
use crate::destination::{self, ResolvedDestination, kvm};
use crate::failure::Failure;
use crate::input::VmPath;
use crate::printer::{self, Printer};

/// Argument for all recorded hosts.
const ALL: &str = "all";

/// Hosts of the arguments, and the arguments that cannot be used.
pub(crate) struct FleetHosts {
    /// Hosts in the order of the arguments, each once.
    pub(crate) hosts: Vec<Host>,
    /// Inputs that were left out.
    pub(crate) unusable: Vec<LeftOutSource>,
}

/// Opens the hosts of all arguments. Prints an error for each input that cannot be used.
///
/// # Errors
/// Returns an error if no host can be used.
pub(crate) fn open_all(
    paths: &[PathBuf],
    loader: &LoaderArgs,
    printer: &Printer,
) -> Result<FleetHosts, Failure> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut failures = Vec::new();
    for path in paths {
        match find_by_name(path) {
            Ok(Some(named)) => hosts.extend(named),
            // A folder `kvm` is named `./kvm`, as for the other commands.
            Ok(None) if kvm::is_kvm_path(path) => failures.push((path.clone(), kvm_failure())),
            Ok(None) => match files(path) {
                Ok(files) => {
                    for file in files {
                        match open_file(&file, loader, printer) {
                            Ok(host) => hosts.push(host),
                            Err(failure) => failures.push((file, failure)),
                        }
                    }
                }
                Err(failure) => failures.push((path.clone(), failure)),
            },
            Err(failure) => failures.push((path.clone(), failure)),
        }
    }
    let mut names = HashSet::new();
    hosts.retain(|host| {
        let is_new = names.insert(host.name().to_owned());
        if !is_new {
            printer.note(format_args!("host {} is used once", host.name()));
        }
        is_new
    });
    let unusable = failures
        .iter()
        .map(|(path, failure)| left_out(path.display().to_string(), failure));
    let unusable: Vec<_> = unusable.collect();
    if hosts.is_empty() {
        let last = failures.pop().map(|(_, failure)| failure);
        // Only an empty folder gives neither a host nor an error.
        return Err(last.unwrap_or_else(|| Failure::new("the arguments name no host")));
    }
    unusable.iter().for_each(printer::print_left_out);
    let loader = destination::parse_loader(loader)?;
    let hosts = hosts.into_iter().map(|host| host.with_loader(loader));
    Ok(FleetHosts {
        hosts: hosts.collect(),
        unusable,
    })
}

/// Returns an input that is left out because of an error.
pub(crate) fn left_out(name: String, failure: &Failure) -> LeftOutSource {
    LeftOutSource {
        name,
        error: failure.into(),
    }
}

/// Returns the files of a path: itself, or those of a directory in the order of their names.
///
/// A directory inside the directory stands for the saved VMs in it.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() || VmPath::new(path).vm.is_some() {
        return Ok(vec![path.to_owned()]);
    }
    if let Ok(folder) = Folder::open(path)
        && folder.kind.is_some()
        && !folder.is_cut
    {
        return Ok(folder.files.into_iter().map(|file| file.path).collect());
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| Failure::io("read", path, error))?;
    let mut entries: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    entries.sort();
    let mut files = Vec::new();
    for entry in entries {
        if !entry.is_dir() {
            files.push(entry);
        } else if let Ok(folder) = Folder::open(&entry) {
            files.extend(folder.files.into_iter().map(|file| file.path));
        }
    }
    if files.is_empty() {
        return Err(
            Failure::new(format!("{} is a directory without files", path.display()))
                .with_path(path),
        );
    }
    Ok(files)
}

/// Returns the hosts that a name names; `None` if the argument is no name of a recorded host.
pub(crate) fn find_by_name(path: &Path) -> Result<Option<Vec<Host>>, Failure> {
    let Some(name) = path.to_str().filter(|_| !hosts::exists(path)) else {
        return Ok(None);
    };
    let index = hosts::history()?;
    if name == ALL {
        let all = index.hosts();
        return Ok(Some(recorded(&all, None)));
    }
    let error = match index.resolve(name) {
        Ok(named) => return Ok(Some(recorded(&[named.host], named.features))),
        Err(error) => error,
    };
    if error.kind() == ErrorKind::Features {
        return Err(hosts::host_name_failure(&error));
    }
    let (base, features) = split_features(name);
    let several = index.find_hosts(base);
    if !several.is_empty() {
        return Ok(Some(recorded(&several, features)));
    }
    match find_unrecorded(index, name) {
        Some(host) => Ok(Some(vec![host])),
        None if host::is_host_name(name) => Err(hosts::host_name_failure(&error)),
        None => {
            let selection = index.select(base).ok().filter(|it| it.gap.is_none());
            Ok(selection.map(|it| recorded(&it.hosts, features)))
        }
    }
}

/// Returns the only recorded host that a name names; `None` if the argument is no name of one.
pub(crate) fn find_one_by_name(path: &Path) -> Result<Option<Host>, Failure> {
    let Some(mut hosts) = find_by_name(path)? else {
        return Ok(None);
    };
    match (hosts.pop(), hosts.len()) {
        (Some(host), 0) => Ok(Some(host)),
        (_, others) => {
            let name = path.display();
            Err(
                Failure::new(format!("{name} names {} recorded hosts", others + 1))
                    .with_hint("write the full name of one; `cpreg hosts` lists them"),
            )
        }
    }
}

/// Splits the features off a name: `linux-6.12/n1/pmu`, `n1/pmu`.
fn split_features(name: &str) -> (&str, Option<Features>) {
    let parts = name.rsplit_once('/');
    parts
        .and_then(|(base, features)| Some((base, Some(Features::from_names(features)?))))
        .unwrap_or((name, None))
}

fn recorded(hosts: &[IndexedHost<'_>], features: Option<Features>) -> Vec<Host> {
    let hosts = hosts.iter().map(|host| match features {
        Some(features) => Host::recorded_for(
            format!("{}/{features}", host.name()),
            host.record(),
            features,
        ),
        None => Host::recorded(host.name(), host.record()),
    });
    hosts.collect()
}

/// Returns a host whose kernel was not recorded. A recorded host that stands for it takes its
/// place.
fn find_unrecorded(index: &HostIndex, name: &str) -> Option<Host> {
    let unrecorded = index.find_unrecorded(name).ok()?;
    let host = |name: String, host: &IndexedHost<'_>| match unrecorded.features {
        Some(features) => Host::recorded_for(name, host.record(), features),
        None => Host::recorded(name, host.record()),
    };
    if let Some(substitute) = unrecorded.substitute() {
        return Some(host(name.to_owned(), &substitute));
    }
    let neighbours = unrecorded.neighbours.iter();
    let neighbours = neighbours.map(|neighbour| host(neighbour.name(), neighbour));
    let is_enclosed = unrecorded.gap.is_enclosed();
    Some(Host::unrecorded(
        name.to_owned(),
        neighbours.collect(),
        is_enclosed,
    ))
}

fn kvm_failure() -> Failure {
    Failure::new("this machine's KVM is no host of this command")
        .with_hint("record it first: `cpreg probe kvm -o host.json`, and name the file")
}

/// Opens the host in a file.
pub(crate) fn open_file(
    path: &Path,
    loader: &LoaderArgs,
    printer: &Printer,
) -> Result<Host, Failure> {
    let name = path.display().to_string();
    match hosts::open(path, false, printer)? {
        HostOrFile::Host(host) => Ok(match host.features {
            Some(features) => Host::recorded_for(name, host.record, features),
            None => Host::recorded(name, host.record),
        }),
        HostOrFile::Unrecorded(host) => Err(host.failure()),
        HostOrFile::File(input) => {
            let resolved = ResolvedDestination::from_input(&input, loader)?;
            Ok(Host::profile(name, resolved.destination))
        }
    }
}
