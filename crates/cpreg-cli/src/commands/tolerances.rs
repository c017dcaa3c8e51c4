//! `cpreg tolerances`: prints the table of tolerances. [`cpreg_report::export`] writes the table
//! for other programs.

use std::path::Path;

use cpreg::plan::Verdict;
use cpreg::register::{Naming, RegisterId};
use cpreg_report::command::{CommandKind, quote};
use cpreg_report::export::{Exporter, Firecracker, Json, Qemu, pair_script};
use cpreg_report::remedy::Vmm;
use cpreg_report::tolerance::{self, entries};

use super::check::{CheckInputs, Source, build_findings};
use crate::arguments::{self, ConsentArgs, Export, Format, FromArgs, LoaderArgs};
use crate::command_line;
use crate::destination;
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::Printer;
use crate::tolerances;
use cpreg_report::value::ValueFormat;

pub(crate) fn run(
    arguments: &arguments::Tolerances,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let tolerances = tolerances::read(&arguments.tolerances, printer)?;
    if let (Some(export), Some([source, destination])) =
        (arguments.export, arguments.pair.as_deref())
    {
        if export != Export::Firecracker {
            return Err(Failure::new("--for is an option of --export firecracker"));
        }
        return export_pair(source, destination, arguments, &tolerances, printer);
    }
    let registers: Vec<RegisterId> = arguments
        .registers
        .iter()
        .map(|text| names::parse_register(text, Naming::Kvm))
        .collect::<Result<_, _>>()?;
    let format = match (arguments.export, arguments.format) {
        (Some(export), _) => Some(export),
        (None, Format::Json) => Some(Export::Json),
        (None, Format::Text) => None,
    };
    match format {
        Some(format) => {
            let exported = exporter(format).export(&tolerances, &registers, printer);
            exported.map_err(|error| Failure::new("cannot export").with_cause(error))?;
        }
        None => tolerance::print(printer, &entries(&tolerances, &registers)),
    }
    Ok(Status::Success)
}

/// Prints the script that makes the changes of one VM for one destination.
fn export_pair(
    source_path: &Path,
    destination_path: &Path,
    arguments: &arguments::Tolerances,
    tolerances: &cpreg::tolerance::Tolerances,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let from = FromArgs::default();
    let loader = LoaderArgs { loader: None };
    let consents = ConsentArgs {
        tolerances: arguments.tolerances.clone(),
        ..ConsentArgs::default()
    };
    let source = Source::open(source_path, false, printer)?;
    let subject = source.subject(&from, printer)?;
    let spec = destination::find(destination_path, false, printer)?;
    let resolved = source.resolve(&spec, &loader)?;
    let command = command_line::typed(
        CommandKind::Check,
        [Some(source_path), Some(destination_path)],
        None,
        None,
        &consents,
    );
    let inputs = CheckInputs {
        tolerances,
        consents: &consents,
        value_format: ValueFormat::new(resolved.destination.accelerator, false),
        command: &command,
    };
    let findings = build_findings(&subject, &resolved, inputs, printer)?;
    let names = [source_path, destination_path].map(|path| quote(&path.display().to_string()));
    let [source_name, destination_name] = &names;
    if findings.vmm() != Vmm::Firecracker {
        return Err(
            Failure::new(format!("{source_name} is no state file of Firecracker"))
                .with_hint("`cpreg convert` changes the files of other programs"),
        );
    }
    match findings.verdict() {
        Verdict::Converts => {}
        Verdict::Loads => {
            return Err(Failure::new(format!(
                "{source_name} loads unchanged at {destination_name}: no register to remove"
            )));
        }
        verdict => {
            let message = format!("{}: {}", verdict.name(), findings.meaning());
            let hint = format!("`cpreg check {source_name} {destination_name}` has the reasons");
            return Err(Failure::new(message).with_hint(hint));
        }
    }
    let script = pair_script(&findings).ok_or_else(|| {
        Failure::new("snapshot-editor only removes registers, and the VM needs other values")
            .with_hint(format!(
                "`cpreg convert {source_name} {destination_name} -o OUTPUT` writes them"
            ))
    })?;
    for line in script.lines() {
        printer.line(line);
    }
    Ok(Status::Success)
}

/// Returns the exporter of a format.
fn exporter(format: Export) -> &'static dyn Exporter {
    match format {
        Export::Qemu => &Qemu,
        Export::Firecracker => &Firecracker,
        Export::Json => &Json,
    }
}
