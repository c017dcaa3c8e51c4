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

use std::path::Path;

use cpreg::destination::Features;
use cpreg_fleet::Host;
use cpreg_hosts::host;
use cpreg_hosts::{ErrorKind, HostIndex, IndexedHost};

use crate::arguments::LoaderArgs;
use crate::destination::hosts::{self, HostOrFile};
use crate::destination::{ResolvedDestination, kvm};
use crate::failure::Failure;
use crate::printer::Printer;

/// Argument for all recorded hosts.
const ALL: &str = "all";

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

/// Opens the host in a file.
pub(crate) fn open_file(
    path: &Path,
    loader: &LoaderArgs,
    printer: &Printer,
) -> Result<Host, Failure> {
    if kvm::is_kvm_path(path) {
        return Err(
            Failure::new("this machine's KVM is no destination of a matrix")
                .with_hint("record it first: `cpreg probe kvm -o host.json`, and name the file"),
        );
    }
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
