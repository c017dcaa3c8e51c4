//! `cpreg fleet`: many nodes and VMs, for the engine that runs them.
//!
//! | file | content |
//! |---|---|
//! | `inventory.rs` | nodes of the arguments |
//! | `vms.rs` | VMs of the arguments, planned one at a time |
//! | `check.rs`, `drain.rs`, `plan.rs`, `page.rs`, `labels.rs` | commands |

mod check;
mod drain;
mod inventory;
mod labels;
mod page;
mod plan;
mod vms;

use crate::arguments::{Fleet, FleetCommand};
use crate::failure::{Failure, Status};
use crate::printer::Printer;

pub(crate) fn run(arguments: &Fleet, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.command {
        FleetCommand::Check(arguments) => check::run(arguments, printer),
        FleetCommand::Drain(arguments) => drain::run(arguments, printer),
        FleetCommand::Plan(arguments) => plan::run(arguments, printer),
        FleetCommand::Page(arguments) => page::run(arguments, printer),
        FleetCommand::Labels(arguments) => labels::run(arguments, printer),
    }
}
