//! [`Planes`]: the loaders of an HTML page, whose reader chooses one of them.

use cpreg::destination::Loader;
use cpreg_fleet::{Host, HostSet};
use cpreg_report::matrix::page::model::PageLoader;

use crate::arguments;

/// Label of the loaders that the destinations themselves name.
const OWN_LOADERS: &str = "that of the destination, if known";

/// Destinations for each loader, in one list: all for the first loader, then all for the next.
pub(super) struct Planes {
    pub(super) hosts: HostSet,
    pub(super) loaders: Vec<PageLoader>,
}

impl Planes {
    /// Returns the destinations with their own loaders only.
    pub(super) fn single(hosts: Vec<Host>) -> Self {
        Self {
            hosts: HostSet::new(hosts),
            loaders: Vec::new(),
        }
    }
}

/// Returns the destinations with the loader of the user; else with their own loaders, and with each
/// modelled loader.
pub(super) fn planes(arguments: &arguments::Matrix, hosts: Vec<Host>) -> Planes {
    let named = |name: &str| PageLoader {
        label: name.to_owned(),
        option: format!(" --loader {name}"),
    };
    if let Some(loader) = &arguments.loader.loader {
        return Planes {
            hosts: HostSet::new(hosts),
            loaders: vec![named(loader)],
        };
    }
    let own = PageLoader {
        label: OWN_LOADERS.to_owned(),
        option: String::new(),
    };
    let modelled = Loader::MODELLED.map(|loader| named(&loader.to_string()));
    let others: Vec<_> = Loader::MODELLED
        .iter()
        .flat_map(|loader| hosts.iter().map(|host| host.with_loader(Some(*loader))))
        .collect();
    Planes {
        hosts: HostSet::new(hosts.into_iter().chain(others).collect()),
        loaders: std::iter::once(own).chain(modelled).collect(),
    }
}
