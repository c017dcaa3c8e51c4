//! `cpreg fleet labels`: what each node takes, for the platform's scheduler.

use std::path::Path;

use cpreg::plan::Consents;
use cpreg_fleet::PlanInputs;
use cpreg_fleet::labels::FleetLabels as Labels;
use cpreg_report::fleet::FaultReport;
use cpreg_report::fleet::formats::LabelFormat;
use cpreg_report::fleet::labels::FleetLabelsReport;
use cpreg_report::json;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::inventory;
use crate::arguments::{FleetLabels, LabelSystem};
use crate::failure::{Failure, Status};
use crate::names::parse_features;
use crate::printer::{self, Printer, print_json};
use crate::small_file;
use crate::tolerances;

/// Access to a file of labels: the platform's programs run as other users.
const MODE: u32 = 0o644;

pub(super) fn run(arguments: &FleetLabels, printer: &mut Printer) -> Result<Status, Failure> {
    let tolerances = tolerances::read(&arguments.tolerances, printer)?;
    let inputs = PlanInputs {
        tolerances: &tolerances,
        consents: &Consents::default(),
    };
    let features = arguments.features.iter();
    let features = features.map(|names| parse_features(names));
    let features: Vec<_> = features.collect::<Result<_, _>>()?;
    let expires = arguments.valid_days.map(expiry).transpose()?;
    let fleet = inventory::open(&arguments.nodes, &[], printer)?;
    let only = arguments.node.as_deref();
    if let Some(name) = only {
        inventory::find_node(&fleet.inventory, name)?;
    }
    let labels = Labels::new(&fleet.inventory, &features, inputs);
    let mut report = FleetLabelsReport::new(&fleet.inventory, &labels, only, expires);
    let output = arguments.output.as_deref();
    // A fault of another node does not concern the only one.
    let concerns = |fault: &FaultReport| only.is_none_or(|only| only == fault.subject);
    match arguments.system.map(label_format) {
        None => {
            reject_output(output)?;
            report.print(printer);
        }
        Some(None) => match output {
            None => print_json(printer, &report)?,
            Some(path) => {
                let text = json::document(&report)
                    .map_err(|error| Failure::new("cannot print the report").with_cause(error))?;
                write(path, &text)?;
            }
        },
        Some(Some(format)) => {
            report.reject_nodes(|name| format.reject(name));
            report.faults.retain(concerns);
            print_faults(&report, printer);
            let fleet_file = format.fleet_file(&report, &fleet.inventory, &labels);
            match fleet_file.map_err(Failure::new)? {
                Some(text) => emit(&text, output, printer)?,
                None => write_node_files(format, &report, output, printer)?,
            }
        }
    }
    let is_incomplete = report.faults.iter().any(concerns);
    Ok(Status::of_many(false, is_incomplete))
}

/// Returns the format of a system; `None` for the JSON document of all labels.
const fn label_format(system: LabelSystem) -> Option<LabelFormat> {
    Some(match system {
        LabelSystem::Nfd => LabelFormat::Nfd,
        LabelSystem::NodeFeature => LabelFormat::NodeFeature,
        LabelSystem::NodeFeatureRule => LabelFormat::NodeFeatureRule,
        LabelSystem::ConfigMap => LabelFormat::ConfigMap,
        LabelSystem::Prometheus => LabelFormat::Prometheus,
        LabelSystem::Placement => LabelFormat::Placement,
        LabelSystem::Ganeti => LabelFormat::Ganeti,
        LabelSystem::Ansible => LabelFormat::Ansible,
        LabelSystem::Json => return None,
    })
}

/// Returns the time after this number of days, in RFC 3339 and whole seconds.
fn expiry(days: u32) -> Result<String, Failure> {
    let time = OffsetDateTime::now_utc() + Duration::days(i64::from(days));
    let text = time.truncate_to_second().format(&Rfc3339);
    text.map_err(|error| Failure::new("the time of expiry cannot be written").with_cause(error))
}

/// Rejects `-o` for text, which no system reads.
fn reject_output(output: Option<&Path>) -> Result<(), Failure> {
    match output {
        None => Ok(()),
        Some(_) => Err(Failure::new("-o needs --for SYSTEM")
            .with_hint("--for json writes everything in one document")),
    }
}

/// Prints the nodes without labels to standard error, because standard output is for a program.
fn print_faults(report: &FleetLabelsReport, printer: &Printer) {
    for fault in &report.faults {
        let hint = fault.hint.as_deref();
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        printer.note(format_args!(
            "{} is left out: {}{hint}",
            fault.subject, fault.message
        ));
    }
}

/// Writes the labels of a node to standard output or a file, or a file of each node in a directory.
fn write_node_files(
    format: LabelFormat,
    report: &FleetLabelsReport,
    output: Option<&Path>,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let file = |node| {
        let file = format.node_file(report, node);
        file.map_err(|reason| Failure::new(format!("{}: {reason}", node.node)))
    };
    match output {
        Some(folder) if folder.is_dir() => {
            for node in &report.nodes {
                let path = folder.join(format!("{}{}", node.node, format.suffix()));
                write(&path, &file(node)?)?;
            }
            Ok(())
        }
        _ => {
            let [node] = &report.nodes[..] else {
                let count = report.nodes.len();
                return Err(Failure::new(format!(
                    "the system needs one file for each node, and the fleet has {count}"
                ))
                .with_hint("name a node with --node, or an existing directory with -o"));
            };
            emit(&file(node)?, output, printer)
        }
    }
}

/// Writes a text to a file, or to standard output.
fn emit(text: &str, output: Option<&Path>, printer: &mut Printer) -> Result<(), Failure> {
    if let Some(path) = output {
        return write(path, text);
    }
    text.lines().for_each(|line| printer.line(line));
    Ok(())
}

/// Writes a file that other users can read, whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Err(Failure::new("-o - is no file").with_hint("omit -o for standard output"));
    }
    small_file::replace(path, text.as_bytes(), Some(MODE)).map_err(|error| {
        printer::output_failure(&path.display().to_string(), error).with_path(path)
    })
}
