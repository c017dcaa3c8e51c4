//! `cpreg key HOSTS`: a short key of everything about a host that decides.

use cpreg_fleet::KeyContent;
use cpreg_report::host_key::{KeyReport, NamedKey};

use crate::arguments::{self, Format, LoaderArgs};
use crate::failure::{Failure, Status};
use crate::fleet_hosts;
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Key, printer: &mut Printer) -> Result<Status, Failure> {
    let loader = LoaderArgs { loader: None };
    let fleet = fleet_hosts::open_all(&arguments.hosts, &loader, printer)?;
    let mut keys = Vec::new();
    for host in &fleet.hosts {
        let features = host.default_features();
        let content = KeyContent::new(host, features);
        let content = content.map_err(|error| {
            Failure::new(format!("{} has no key", host.name()))
                .with_cause(error)
                .with_hint("record the host: run `cpreg probe kvm -o host.json` on it")
        })?;
        let in_full = arguments.verbose;
        keys.push(NamedKey::new(host.name(), features, &content, in_full));
    }
    let report = KeyReport::new(keys);
    match arguments.format {
        Format::Text => report.print(printer),
        Format::Json => print_json(printer, &report)?,
    }
    Ok(if fleet.unusable.is_empty() {
        Status::Success
    } else {
        Status::Unknown
    })
}
