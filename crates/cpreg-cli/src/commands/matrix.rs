//! `cpreg matrix SOURCES --to DESTINATIONS`: the verdicts of `cpreg check` on many VMs at many
//! destinations.
//!
//! | file | content |
//! |---|---|
//! | [`items`] | the sources of the arguments, without duplicates |
//! | [`source`] | a source as a VM to plan |
//! | [`output`] | the rows in the chosen format |
//! | [`page`] | the loaders of an HTML page |

mod items;
mod output;
mod page;
pub(crate) mod source;

use cpreg::plan::Verdict;
use cpreg::severity::Severity;
use cpreg_fleet::{Cell, CellPlanner, plan_row};
use cpreg_report::matrix::model::{MatrixHeader, MatrixRow, MatrixSummary};
use cpreg_report::matrix::page::details::CellDetails;

use crate::arguments::{self, FailOn, MatrixFormat};
use crate::commands::matrix::items::Item;
use crate::commands::matrix::page::Planes;
use crate::failure::{Failure, Status};
use crate::fleet_hosts::{self, FleetHosts, left_out};
use crate::plan_settings::PlanSettings;
use crate::printer::{self, Printer};
use crate::source_host::SourceHost;

/// Sources that are planned before their rows are written. It bounds the memory.
const BATCH: usize = 64;
/// The same for a page, of which a cell takes some kilobytes until it is merged with equal ones.
const PAGE_BATCH: usize = 8;

pub(crate) fn run(arguments: &arguments::Matrix, printer: &mut Printer) -> Result<Status, Failure> {
    let settings = PlanSettings::read(&arguments.consents, printer)?;
    let from = SourceHost::open(&arguments.from, printer)?;
    let FleetHosts { hosts, unusable } =
        fleet_hosts::open_all(&arguments.to, &arguments.loader, printer)?;
    let items = items::expand(arguments, printer)?;
    let names: Vec<_> = hosts.iter().map(|host| host.name().to_owned()).collect();
    let header = MatrixHeader {
        cpreg_version: env!("CARGO_PKG_VERSION").to_owned(),
        loader: arguments.loader.loader.clone(),
        destinations: names.clone(),
        left_out: unusable,
    };
    let mut progress = Progress::new(arguments, &header);
    let planes = match arguments.format {
        MatrixFormat::Html => page::planes(arguments, hosts),
        MatrixFormat::Text | MatrixFormat::Csv | MatrixFormat::Json => Planes::single(hosts),
    };
    let mut output = output::Output::new(arguments, printer, header, &planes)?;
    output.flush(printer)?;
    let is_page = arguments.format == MatrixFormat::Html;
    let cells = CellPlanner::new(&planes.hosts, settings.inputs());
    for batch in items.chunks(if is_page { PAGE_BATCH } else { BATCH }) {
        let rows = cpreg_fleet::plan_rows(
            batch,
            |item| {
                let subject = match item {
                    Item::NewVm(host) => source::new_vm(host),
                    Item::File(path) => source::open_file(path, from.as_ref(), printer),
                    Item::Unusable(_, failure) => {
                        return Err(Box::new(left_out(item.name(), failure)));
                    }
                };
                subject.map_err(|failure| Box::new(left_out(item.name(), &failure)))
            },
            |subject| {
                if !is_page {
                    return cells.plan_row(subject).map(output::PrintedCell::plain);
                }
                let inputs = settings.inputs();
                plan_row(subject, &planes.hosts, inputs, |subject, host, planned| {
                    let details = CellDetails::new(subject, host, &planned, &settings.tolerances);
                    output::PrintedCell {
                        details: Some(details),
                        cell: planned.cell,
                    }
                })
            },
        );
        for row in rows {
            match row {
                Ok(row) => {
                    let own = row.cells.iter().take(names.len());
                    let cells: Vec<_> = own.map(|printed| &printed.cell).collect();
                    progress.add(&cells);
                    let report = MatrixRow::new(row.name.clone(), row.vcpus, &names, &cells);
                    progress.summary.add(&report);
                    output.add_row(printer, report, row)?;
                }
                Err(source) => {
                    printer::print_left_out(&source);
                    progress.add_left_out();
                    output.add_left_out(printer, *source)?;
                }
            }
        }
        output.flush(printer)?;
    }
    let status = progress.status();
    progress.summary.exit_status = status.code();
    output.finish(printer, &progress.summary)?;
    Ok(status)
}

/// Counts of the rows so far, and the conditions of the exit status.
struct Progress<'a> {
    fail_on: &'a [FailOn],
    summary: MatrixSummary,
    has_failed: bool,
    is_incomplete: bool,
}

impl<'a> Progress<'a> {
    fn new(arguments: &'a arguments::Matrix, header: &MatrixHeader) -> Self {
        let mut progress = Self {
            fail_on: &arguments.fail_on,
            summary: MatrixSummary::default(),
            has_failed: false,
            is_incomplete: false,
        };
        for _ in &header.left_out {
            progress.add_left_out();
        }
        progress
    }

    fn add_left_out(&mut self) {
        self.summary.left_out += 1;
        self.is_incomplete = true;
        self.has_failed |= self.fail_on.contains(&FailOn::Unknown);
    }

    fn add(&mut self, cells: &[&Cell]) {
        for cell in cells {
            self.is_incomplete |= cell.verdict == Verdict::Unknown;
            self.has_failed |= self.fail_on.iter().any(|condition| condition.holds(cell));
        }
    }

    /// Returns the exit status: a condition of `--fail-on` precedes what is not known.
    const fn status(&self) -> Status {
        Status::of_many(self.has_failed, self.is_incomplete)
    }
}

impl FailOn {
    /// Returns `true` if a cell meets the condition.
    fn holds(self, cell: &Cell) -> bool {
        let is_bad = |severity| cell.verdict == Verdict::Refused || cell.severity >= Some(severity);
        match self {
            Self::Low => is_bad(Severity::Low),
            Self::Medium => is_bad(Severity::Medium),
            Self::High => is_bad(Severity::High),
            Self::Fatal => is_bad(Severity::Fatal),
            Self::Unknown => cell.verdict == Verdict::Unknown,
        }
    }
}
