//! `cpreg report SOURCE`: the VM without RAM and secrets, as a small file for who shall help, and as text for an issue.
//!
//! What is taken out is [`cpreg_stream::RedactionOptions`]'s; what the file is like is [`cpreg_report::shared`]'s.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use cpreg::destination::{Accelerator, writer};
use cpreg::plan::Verdict;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_report::check::model;
use cpreg_report::markdown::{self, CpuSummary};
use cpreg_report::value::{ValueFormat, id_digits};
use cpreg_report::vm_report::{
    Device, HostPlatform, RamBlock, RedactedDevice, RedactedRegister, Redactions,
    ReportDestination, StreamSummary, VersionRange, VmReport,
};
use cpreg_stream::{self as stream, Cpu, Edit, RedactionOptions, WriteOptions, write_new};

use super::check;
use super::convert::{already_exists, check_output, stream_failure};
use crate::arguments::{self, ConsentArgs, Format};
use crate::destination::{self, ResolvedDestination};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::Printer;

/// What the VM is called in a report: the file's name may be a customer's.
const VM_NAME: &str = "VM";

pub(crate) fn run(arguments: &arguments::Report, printer: &mut Printer) -> Result<Status, Failure> {
    if let Some(target) = &arguments.output {
        if target == Path::new("-") {
            return Err(
                Failure::new("a report is not written to standard output with -o")
                    .with_hint("--format json prints it; a file that is called `-` is ./-"),
            );
        }
        check_output(target, &arguments.source, arguments.force)?;
    }
    let source = Input::open(&arguments.source, arguments.verify, printer)?;
    if source.report().is_some() {
        return Err(
            Failure::new(format!("{} is a report already", source.path.display()))
                .with_hint("attach it as it is; `cpreg show` and `cpreg check` read it"),
        );
    }
    let destination = match &arguments.to {
        Some(to) => Some(ReportTarget::resolve(to, &source, arguments, printer)?),
        None => None,
    };
    let mut report = build_redacted_report(&source, arguments)?;
    if arguments.host {
        report.host = Some(this_host());
    }
    let tolerances = Tolerances::default();
    // What is checked is what the reader of the report will check.
    let read = Input::from_report(Path::new(VM_NAME), report.clone(), None, false)?;
    let answer = match &destination {
        Some(goal) => {
            let options = ConsentArgs::default();
            let answer = |input, named, printing| {
                check::build_findings(input, named, &tolerances, &options, printing, printer)
            };
            let printing = ValueFormat::new(goal.redacted.destination.accelerator, false);
            let before = answer(&source, &goal.resolved, printing)?.verdict();
            let answer = answer(&read, &goal.redacted, printing)?;
            note_verdict_change(before, answer.verdict(), printer);
            let check = serde_json::to_value(model::CheckReport::from(&answer));
            report.check = Some(check.map_err(report_failure)?);
            report.destination = Some(goal.destination.clone());
            Some(answer)
        }
        None => None,
    };
    let document = report.to_json().map_err(report_failure)?;
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
    Ok(Status::Success)
}

fn report_failure(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new("cannot report").with_cause(error)
}

/// Where the VM is to go.
struct ReportTarget {
    /// As it is known here.
    resolved: ResolvedDestination,
    /// As the report tells of it.
    redacted: ResolvedDestination,
    destination: ReportDestination,
}

impl ReportTarget {
    fn resolve(
        path: &Path,
        source: &Input,
        arguments: &arguments::Report,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let (to, verify) = (&arguments.loader, arguments.verify);
        let named = destination::resolve(path, source, to, verify, printer)?;
        let recorded = (*named.origin).clone();
        let recorded = match named.destination.loader {
            // What was recorded, in all its detail, unless the user knows better.
            Some(loader) if arguments.loader.loader.is_some() => ProfileOrigin {
                program: loader.program.name().to_owned(),
                version: loader.version.to_string(),
                ..recorded
            },
            _ => recorded,
        };
        let keep = arguments.general_registers;
        let going = ReportDestination::new(&named.provenance, recorded, &named.destination, keep);
        let told = Profile::try_from(&going.profile).map_err(report_failure)?;
        let told = ResolvedDestination {
            destination: told.destination,
            provenance: named.provenance.clone(),
            origin: Box::new(told.origin),
        };
        Ok(Self {
            resolved: named,
            redacted: told,
            destination: going,
        })
    }
}

/// What a stream tells of its vCPUs.
fn cpus(read: &Input) -> Result<CpuSummary, Failure> {
    let cpus = read.stream()?.cpus();
    let midr = |cpu: &Cpu| {
        let mut registers = cpu.registers();
        registers.find(|(id, _)| *id == RegisterId::MIDR_EL1)
    };
    Ok(CpuSummary {
        midr: cpus.first().and_then(midr).map(|(_, value)| value),
        register_counts: cpus.iter().map(Cpu::register_count).collect(),
    })
}

/// A report with the stream in it, and what the stream says.
fn build_redacted_report(
    source: &Input,
    arguments: &arguments::Report,
) -> Result<VmReport, Failure> {
    let stream = source.stream()?;
    let scrub = RedactionOptions {
        keep_general_registers: arguments.general_registers,
    };
    let unusable = |error| {
        Failure::new(format!("cannot make a report of {}", source.path.display()))
            .with_hinted_cause(error)
    };
    let scrubbed = stream.redact(source.file()?, scrub).map_err(unusable)?;
    let vm = stream.vm().map_err(unusable)?;
    let shape = stream.shape();
    let written_by = writer::writer_versions(shape.machine.as_deref(), &vm);
    let version = |version: Option<cpreg::destination::Version>| version.map(|it| it.to_string());
    let accelerator = stream.accelerator();
    let about = StreamSummary {
        machine: shape.machine,
        vcpus: shape.vcpu_count,
        accelerator: accelerator.map(|it| it.name().to_owned()),
        run_state: stream.run_state().map(str::to_owned),
        open_method: stream.open_method().to_string(),
        length: format!("{:#x}", stream.length()),
        written_by: VersionRange {
            since: version(written_by.first),
            until: version(written_by.last),
        },
        ram: shape
            .ram
            .into_iter()
            .map(|block| RamBlock {
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
    let blanked = to_redactions(scrubbed.redactions, accelerator);
    VmReport::new(env!("CARGO_PKG_VERSION"), about, blanked, &scrubbed.bytes)
        .map_err(report_failure)
}

fn to_redactions(blanked: stream::Redactions, accelerator: Option<Accelerator>) -> Redactions {
    let naming: Naming = ValueFormat::new(accelerator, false).naming;
    let register = |id: RegisterId| RedactedRegister {
        id: id_digits(id),
        name: id.display_in(naming).to_string(),
    };
    let device = |device: stream::RedactedDevice| RedactedDevice {
        name: device.name,
        instance: device.instance,
        bytes: device.bytes,
    };
    Redactions {
        registers: blanked.registers.into_iter().map(register).collect(),
        parts: blanked.parts,
        devices: blanked.devices.into_iter().map(device).collect(),
        uuid: blanked.uuid,
    }
}

/// The machine that this runs on, without its name.
fn this_host() -> HostPlatform {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok();
    HostPlatform {
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: release.map(|release| release.trim().to_owned()),
    }
}

fn note_verdict_change(before: Verdict, after: Verdict, printer: &Printer) {
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
    let edit = Edit::identity(bytes.len() as u64);
    write_new(&bytes, &edit, target, options).map_err(|error| {
        if !force && target.is_file() {
            return already_exists(target);
        }
        stream_failure("write", target, error)
    })
}
