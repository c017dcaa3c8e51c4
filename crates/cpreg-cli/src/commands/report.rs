//! `cpreg report SOURCE`: the VM without RAM and secrets, as a small file for who shall help, and as text for an issue.
//!
//! What is taken out is [`cpreg_stream::Scrub`]'s; what the file is like is [`cpreg_report::shared`]'s.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use cpreg::destination::{Accelerator, writer};
use cpreg::plan::Verdict;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::Recorded;
use cpreg_report::check::model;
use cpreg_report::markdown::{self, Cpus};
use cpreg_report::shared::{
    About, Blanked, BlankedDevice, BlankedRegister, Device, Going, Host, Ram, Report, Versions,
};
use cpreg_report::value::{Printing, id_digits};
use cpreg_stream::{self as stream, Cpu, Edit, Scrub, WriteOptions, write_new};

use super::check;
use super::convert::{can_be_written, failed, is_there};
use crate::arguments::{self, Consenting, Format};
use crate::destination::{self, Named};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::Printer;

/// What the VM is called in a report: the file's name may be a customer's.
const VM: &str = "VM";

pub(crate) fn run(arguments: &arguments::Report, printer: &mut Printer) -> Result<Status, Failure> {
    if let Some(target) = &arguments.output {
        if target == Path::new("-") {
            return Err(
                Failure::new("a report is not written to standard output with -o")
                    .hint("--format json prints it; a file that is called `-` is ./-"),
            );
        }
        can_be_written(target, &arguments.source, arguments.force)?;
    }
    let source = Input::open(&arguments.source, arguments.verify, printer)?;
    if source.report().is_some() {
        return Err(
            Failure::new(format!("{} is a report already", source.path.display()))
                .hint("attach it as it is; `cpreg show` and `cpreg check` read it"),
        );
    }
    let destination = match &arguments.to {
        Some(to) => Some(Goal::resolve(to, &source, arguments, printer)?),
        None => None,
    };
    let mut report = blanked_stream(&source, arguments)?;
    if arguments.host {
        report.host = Some(this_host());
    }
    let tolerances = Tolerances::default();
    // What is checked is what the reader of the report will check.
    let read = Input::of_report(Path::new(VM), report.clone(), None, false)?;
    let answer = match &destination {
        Some(goal) => {
            let options = Consenting::default();
            let answer = |input, named, printing| {
                check::answer(input, named, &tolerances, &options, printing, printer)
            };
            let printing = Printing::new(goal.told.destination.accelerator, false);
            let before = answer(&source, &goal.named, printing)?.verdict();
            let answer = answer(&read, &goal.told, printing)?;
            say_if_changed(before, answer.verdict(), printer);
            let check = serde_json::to_value(model::Report::from(&answer));
            report.check = Some(check.map_err(cannot_report)?);
            report.destination = Some(goal.going.clone());
            Some(answer)
        }
        None => None,
    };
    let document = report.to_json().map_err(cannot_report)?;
    match arguments.format {
        Format::Text => {
            let name = arguments.output.as_ref().and_then(|path| path.file_name());
            let name = name.map(OsStr::to_string_lossy);
            let cpus = cpus(&read)?;
            markdown::print(printer, &report, &cpus, answer.as_ref(), name.as_deref());
        }
        Format::Json => printer.json(&document),
    }
    if let Some(target) = &arguments.output {
        write(target, &document, arguments.force)?;
        printer.note(format_args!(
            "written: {}, {} bytes",
            target.display(),
            document.len()
        ));
    }
    Ok(Status::Done)
}

fn cannot_report(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new("cannot report").because(error)
}

/// Where the VM is to go.
struct Goal {
    /// As it is known here.
    named: Named,
    /// As the report tells of it.
    told: Named,
    going: Going,
}

impl Goal {
    fn resolve(
        path: &Path,
        source: &Input,
        arguments: &arguments::Report,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let (to, verify) = (&arguments.going, arguments.verify);
        let named = destination::resolve(path, source, to, verify, printer)?;
        let recorded = (*named.recorded).clone();
        let recorded = match named.destination.loader {
            // What was recorded, in all its detail, unless the user knows better.
            Some(loader) if arguments.going.vmm.is_some() => Recorded {
                program: loader.program.name().to_owned(),
                version: loader.version.to_string(),
                ..recorded
            },
            _ => recorded,
        };
        let keep = arguments.general_registers;
        let going = Going::new(&named.evidence, recorded, &named.destination, keep);
        let told = Profile::try_from(&going.profile).map_err(cannot_report)?;
        let told = Named {
            destination: told.destination,
            evidence: named.evidence.clone(),
            recorded: Box::new(told.recorded),
        };
        Ok(Self { named, told, going })
    }
}

/// What a stream tells of its vCPUs.
fn cpus(read: &Input) -> Result<Cpus, Failure> {
    let cpus = read.stream()?.cpus();
    let midr = |cpu: &Cpu| {
        let mut registers = cpu.registers();
        registers.find(|(id, _)| *id == RegisterId::MIDR_EL1)
    };
    Ok(Cpus {
        midr: cpus.first().and_then(midr).map(|(_, value)| value),
        register_counts: cpus.iter().map(Cpu::register_count).collect(),
    })
}

/// A report with the stream in it, and what the stream says.
fn blanked_stream(source: &Input, arguments: &arguments::Report) -> Result<Report, Failure> {
    let stream = source.stream()?;
    let scrub = Scrub {
        keep_general: arguments.general_registers,
    };
    let unusable = |error| {
        Failure::new(format!("cannot make a report of {}", source.path.display())).because_of(error)
    };
    let scrubbed = stream.scrubbed(source.file()?, scrub).map_err(unusable)?;
    let vm = stream.vm().map_err(unusable)?;
    let shape = stream.shape();
    let written_by = writer::written_by(shape.machine.as_deref(), &vm);
    let version = |version: Option<cpreg::destination::Version>| version.map(|it| it.to_string());
    let accelerator = stream.accelerator();
    let about = About {
        machine: shape.machine,
        vcpus: shape.vcpus,
        accelerator: accelerator.map(|it| it.name().to_owned()),
        run_state: stream.run_state().map(str::to_owned),
        opened: stream.opened().to_string(),
        length: format!("{:#x}", stream.length()),
        written_by: Versions {
            from: version(written_by.since),
            until: version(written_by.until),
        },
        ram: shape
            .ram
            .into_iter()
            .map(|block| Ram {
                name: block.name,
                length: format!("{:#x}", block.length),
            })
            .collect(),
        devices: stream
            .sections()
            .iter()
            .map(|section| Device {
                name: section.name.clone(),
                instance: section.instance,
                version: section.version,
                length: format!("{:#x}", section.payload.end - section.payload.start),
            })
            .collect(),
    };
    let blanked = blanked(scrubbed.blanked, accelerator);
    Report::new(env!("CARGO_PKG_VERSION"), about, blanked, &scrubbed.bytes).map_err(cannot_report)
}

fn blanked(blanked: stream::Blanked, accelerator: Option<Accelerator>) -> Blanked {
    let naming: Naming = Printing::new(accelerator, false).naming;
    let register = |id: RegisterId| BlankedRegister {
        id: id_digits(id),
        name: id.display_in(naming).to_string(),
    };
    let device = |device: stream::BlankedDevice| BlankedDevice {
        name: device.name,
        instance: device.instance,
        bytes: device.bytes,
    };
    Blanked {
        registers: blanked.registers.into_iter().map(register).collect(),
        parts: blanked.parts,
        devices: blanked.devices.into_iter().map(device).collect(),
        uuid: blanked.uuid,
    }
}

/// The machine that this runs on, without its name.
fn this_host() -> Host {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    Host {
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: release.map(|release| release.trim().to_owned()),
    }
}

fn say_if_changed(before: Verdict, after: Verdict, printer: &Printer) {
    if before != after {
        printer.note(format_args!(
            "the VM itself is judged otherwise: {}, and what was blanked makes it {}; \
             --general-registers blanks less",
            before.name(),
            after.name()
        ));
    }
}

/// Writes the file: it appears whole or not at all.
fn write(target: &Path, document: &str, force: bool) -> Result<(), Failure> {
    let bytes = document.as_bytes().to_vec();
    let options = WriteOptions {
        overwrite: force,
        ..WriteOptions::default()
    };
    let edit = Edit::unchanged(bytes.len() as u64);
    write_new(&bytes, &edit, target, options).map_err(|error| {
        if !force && target.is_file() {
            return is_there(target);
        }
        failed("write", target, error)
    })
}
