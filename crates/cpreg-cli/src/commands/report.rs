//! `cpreg report SOURCE`: writes the VM without RAM and secrets, as a small file and as text for an
//! issue.
//!
//! [`cpreg_stream::RedactionOptions`] decides the redactions. [`cpreg_report::vm_report`] defines
//! the format of the file.

use std::ffi::OsStr;
use std::path::Path;

use cpreg::destination::{Accelerator, writer};
use cpreg::plan::Verdict;
use cpreg::register::{Naming, RegisterId};
use cpreg::tolerance::Tolerances;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_report::check::model;
use cpreg_report::command::TypedCommand;
use cpreg_report::markdown::{self, CpuSummary};
use cpreg_report::value::{ValueFormat, id_digits};
use cpreg_report::vm_report::{
    Device, HostPlatform, RamBlock, RedactedDevice, RedactedRegister, Redactions,
    ReportDestination, StreamSummary, VersionRange, VmReport,
};
use cpreg_snapshot::SavedVm;
use cpreg_stream::{self as stream, Cpu, Edit, RedactionOptions, WriteOptions, write_new};

use super::check;
use super::convert::{already_exists, check_output, stream_failure};
use crate::arguments::{self, ConsentArgs, Format};
use crate::destination::{self, ResolvedDestination, hosts};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::platform::kernel_release;
use crate::printer::Printer;
use crate::source_host::SourceHost;

/// Name of the VM in a report, because the name of the file may identify a customer.
const VM_NAME: &str = "VM";

pub(crate) fn run(arguments: &arguments::Report, printer: &mut Printer) -> Result<Status, Failure> {
    if let Some(target) = &arguments.output {
        if target == Path::new("-") {
            return Err(Failure::new("-o cannot write a report to standard output")
                .with_hint("--format json prints it; write ./- for a file named `-`"));
        }
        check_output(target, &arguments.source, arguments.force)?;
    }
    let source = hosts::open_vm(&arguments.source, arguments.verify, printer)?;
    if source.report().is_some() {
        return Err(
            Failure::new(format!("{} is already a report", source.path.display()))
                .with_hint("attach it unchanged; `cpreg show` and `cpreg check` read it"),
        );
    }
    let from = SourceHost::open(&arguments.from, printer)?;
    let subject = check::Subject::from_stream(&source, from.as_ref())?;
    let destination = match &arguments.destination {
        Some(path) => Some(ReportTarget::resolve(path, &source, arguments, printer)?),
        None => None,
    };
    let mut report = build_redacted_report(&source, arguments)?;
    report.set_source_hardware(subject.source_hardware());
    if arguments.host {
        report.host = Some(this_host());
    }
    let tolerances = Tolerances::default();
    // Check the redacted VM, because the reader of the report checks that VM too.
    let redacted = Input::from_report(Path::new(VM_NAME), report.clone(), None, false)?;
    let findings = match &destination {
        Some(target) => {
            let consents = ConsentArgs::default();
            let command = target.check_command();
            let build_findings = |subject, resolved, value_format| {
                check::build_findings(
                    subject,
                    resolved,
                    check::CheckInputs {
                        tolerances: &tolerances,
                        consents: &consents,
                        value_format,
                        command: &command,
                    },
                    printer,
                )
            };
            let value_format = ValueFormat::new(target.redacted.destination.accelerator, false);
            let before = build_findings(&subject, &target.resolved, value_format)?.verdict();
            let subject = check::Subject::from_stream(&redacted, None)?;
            let findings = build_findings(&subject, &target.redacted, value_format)?;
            note_verdict_change(before, findings.verdict(), printer);
            let check = serde_json::to_value(model::CheckReport::from(&findings));
            report.check = Some(check.map_err(report_failure)?);
            report.destination.clone_from(&target.destination);
            Some(findings)
        }
        None => None,
    };
    let document = report.to_json().map_err(report_failure)?;
    match arguments.format {
        Format::Text => {
            let name = arguments.output.as_ref().and_then(|path| path.file_name());
            let name = name.map(OsStr::to_string_lossy);
            let cpus = summarize_cpus(&redacted)?;
            markdown::print(printer, &report, &cpus, findings.as_ref(), name.as_deref());
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
    Failure::new("cannot write the report").with_cause(error)
}

/// Destination of the VM, unredacted and redacted.
struct ReportTarget {
    /// Destination as known on this machine.
    resolved: ResolvedDestination,
    /// Destination as the report describes it.
    redacted: ResolvedDestination,
    /// Description of the destination; `None` if none of its registers is known.
    destination: Option<ReportDestination>,
}

impl ReportTarget {
    /// Returns the check that the reader of the report can type, without the user's file names.
    fn check_command(&self) -> TypedCommand {
        let command = TypedCommand::default();
        let Some(assumption) = &self.redacted.assumption else {
            return command;
        };
        let destination = assumption.base.display().to_string();
        TypedCommand {
            words: vec![
                "check".to_owned(),
                command.source.clone(),
                destination.clone(),
            ],
            destination,
            ..command
        }
    }

    fn resolve(
        path: &Path,
        source: &Input,
        arguments: &arguments::Report,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let (loader, verify) = (&arguments.loader, arguments.verify);
        let resolved = destination::resolve(path, source, loader, verify, printer)?;
        let (destination, mut redacted) = redact(&resolved, arguments)?;
        for alternative in &resolved.alternatives {
            redacted
                .alternatives
                .push(redact(alternative, arguments)?.1);
        }
        Ok(Self {
            resolved,
            redacted,
            destination,
        })
    }
}

/// Returns the destination as the report describes it, and as a check of the report sees it.
fn redact(
    resolved: &ResolvedDestination,
    arguments: &arguments::Report,
) -> Result<(Option<ReportDestination>, ResolvedDestination), Failure> {
    if resolved.lacks_registers() {
        return Ok((None, resolved.clone()));
    }
    let origin = (*resolved.origin).clone();
    let origin = match resolved.destination.loader {
        // `--loader` replaces the program and version in the recording.
        Some(loader) if arguments.loader.loader.is_some() => ProfileOrigin {
            program: loader.program.name().to_owned(),
            version: loader.version.to_string(),
            ..origin
        },
        _ => origin,
    };
    let destination = ReportDestination::new(
        &resolved.provenance,
        origin,
        &resolved.destination,
        arguments.general_registers,
    );
    let profile = Profile::try_from(&destination.profile).map_err(report_failure)?;
    let redacted = ResolvedDestination {
        destination: profile.destination,
        provenance: resolved.provenance.clone(),
        origin: Box::new(profile.origin),
        assumption: resolved.assumption.clone(),
        unrecorded_kernel: resolved.unrecorded_kernel.clone(),
        alternatives: Vec::new(),
    };
    Ok((Some(destination), redacted))
}

/// Summarizes the vCPUs of a stream.
fn summarize_cpus(source: &Input) -> Result<CpuSummary, Failure> {
    let cpus = source.stream()?.cpus();
    let midr = |cpu: &Cpu| {
        let mut registers = cpu.registers();
        registers.find(|(id, _)| *id == RegisterId::MIDR_EL1)
    };
    Ok(CpuSummary {
        midr: cpus.first().and_then(midr).map(|(_, value)| value),
        register_counts: cpus.iter().map(Cpu::register_count).collect(),
    })
}

/// Returns a report with the redacted stream and its summary.
fn build_redacted_report(
    source: &Input,
    arguments: &arguments::Report,
) -> Result<VmReport, Failure> {
    let stream = source.stream()?;
    let options = RedactionOptions {
        keep_registers_and_addresses: arguments.general_registers,
    };
    let failure = |error| {
        Failure::new(format!("cannot report {}", source.path.display())).with_hinted_cause(error)
    };
    let redacted = stream.redact(source.bytes()?, options).map_err(failure)?;
    let vm = stream.vm().map_err(failure)?;
    let shape = stream.shape();
    let written_by = writer::writer_versions(shape.machine.as_deref(), &vm);
    let version =
        |version: Option<cpreg::destination::Version>| version.map(|version| version.to_string());
    let accelerator = stream.accelerator();
    let summary = StreamSummary {
        machine: shape.machine,
        vcpus: shape.vcpu_count,
        accelerator: accelerator.map(|accelerator| accelerator.name().to_owned()),
        run_state: stream.run_state().map(str::to_owned),
        open_method: stream.open_method().to_string(),
        length: format!("{:#x}", stream.length()),
        container: source.saved_vm().map(SavedVm::container),
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
    let redactions = to_redactions(redacted.redactions, accelerator);
    VmReport::new(
        env!("CARGO_PKG_VERSION"),
        summary,
        redactions,
        &redacted.bytes,
    )
    .map_err(report_failure)
}

fn to_redactions(redactions: stream::Redactions, accelerator: Option<Accelerator>) -> Redactions {
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
        registers: redactions.registers.into_iter().map(register).collect(),
        parts: redactions.parts,
        devices: redactions.devices.into_iter().map(device).collect(),
        uuid: redactions.uuid,
    }
}

/// Returns the platform of this machine, without its name.
fn this_host() -> HostPlatform {
    HostPlatform {
        system: std::env::consts::OS.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        kernel: kernel_release(),
    }
}

fn note_verdict_change(before: Verdict, after: Verdict, printer: &Printer) {
    if before != after {
        printer.note(format_args!(
            "the redactions change the verdict: the VM {}, the report {}; --general-registers \
             redacts less",
            before.name(),
            after.name()
        ));
    }
}

/// Writes the file atomically.
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
