//! `cpreg classes HOSTS`: hosts that are the same for every VM, and the classes that take their
//! VMs.

use std::collections::BTreeSet;

use cpreg::destination::Features;
use cpreg::plan::Consents;
use cpreg_fleet::{Host, HostClasses, PlanInputs};
use cpreg_report::classes::model::ClassesReport;
use cpreg_report::classes::text;

use crate::arguments::{self, Format};
use crate::failure::{Failure, Status};
use crate::fleet_hosts;
use crate::names::parse_features;
use crate::printer::{Printer, print_json};
use crate::tolerances;

pub(crate) fn run(
    arguments: &arguments::Classes,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let tolerances = tolerances::read(&arguments.tolerances, printer)?;
    let consents = Consents::default();
    let inputs = PlanInputs {
        tolerances: &tolerances,
        consents: &consents,
    };
    let fleet = fleet_hosts::open_all(&arguments.hosts, &arguments.loader, printer)?;
    let classes = feature_sets(arguments, &fleet.hosts)?.into_iter();
    let classes: Vec<_> = classes
        .map(|features| HostClasses::new(&fleet.hosts, features, inputs))
        .collect();
    let report = ClassesReport::new(&fleet.hosts, &classes);
    match arguments.format {
        Format::Text => text::print(printer, &report, arguments.verbose),
        Format::Json => print_json(printer, &report)?,
    }
    Ok(Status::of_many(false, !fleet.unusable.is_empty()))
}

/// Returns the named sets of features; without any, the default of each host.
fn feature_sets(
    arguments: &arguments::Classes,
    hosts: &[Host],
) -> Result<BTreeSet<Features>, Failure> {
    if arguments.features.is_empty() {
        return Ok(hosts.iter().map(Host::default_features).collect());
    }
    let named = arguments.features.iter();
    named.map(|names| parse_features(names)).collect()
}
