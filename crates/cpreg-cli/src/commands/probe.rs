//! `cpreg probe`: records the registers of a destination in a file.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cpreg::destination::Accelerator;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_hosts::{HostRecord, Profile};
use cpreg_kvm::Host;
use cpreg_kvm::probe::ProbeEvent;
use cpreg_qemu::probe::{ProbeResult, probe};
use cpreg_stream::Stream;

use crate::arguments::{self, ProbeKvm, ProbeQemu, ProbeTarget, TrueFalse};
use crate::destination::{self, kvm};
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::platform::kernel_release;
use crate::printer::Printer;

pub(crate) fn run(arguments: &arguments::Probe, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.target {
        ProbeTarget::Qemu(arguments) => probe_qemu(arguments, printer),
        ProbeTarget::Kvm(arguments) => {
            let target = arguments.output.as_deref().map(target).transpose()?;
            let host = kvm::open()?;
            let record = record_host(&host, arguments, printer)?;
            write_or_print(record.to_json(), target.as_deref(), printer)
        }
    }
}

/// Records the host. `--cpu` and `--emulated` replace what the probe recorded.
fn record_host(
    host: &impl Host,
    arguments: &ProbeKvm,
    printer: &Printer,
) -> Result<HostRecord, Failure> {
    let on_event = |event| {
        if let ProbeEvent::GuestProbeFailed(error) = event {
            printer.note(format_args!("not recorded: {error}"));
        }
    };
    let mut record = cpreg_kvm::probe(host, on_event)
        .map_err(|error| Failure::new("cannot probe this machine's KVM").with_cause(error))?;
    if let Some(cpu) = &arguments.cpu {
        record.identity.cpu.clone_from(cpu);
    }
    if let Some(emulated) = arguments.emulated {
        record.identity.emulated = emulated == TrueFalse::True;
    }
    Ok(record)
}

fn probe_qemu(arguments: &ProbeQemu, printer: &mut Printer) -> Result<Status, Failure> {
    let target = arguments.output.as_deref().map(target).transpose()?;
    let options = interrupt::wait_options(arguments.timeout)?;
    let result = probe(&arguments.command, &options)
        .map_err(|error| Failure::new("cannot probe this QEMU").with_hinted_cause(error))?;
    for removed in &result.removed_options {
        let words: Vec<_> = removed
            .before
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        printer.note(format_args!(
            "removed {}: {}",
            words.join(" "),
            removed.reason
        ));
    }
    let profile = profile(arguments, &result)?;
    write_or_print(profile.to_json(), target.as_deref(), printer)
}

/// Writes the record to `target`, or to standard output if `target` is `None`.
fn write_or_print(
    json: Result<String, impl std::error::Error + Send + Sync + 'static>,
    target: Option<&Path>,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let json = json.map_err(|error| Failure::new("cannot write the record").with_cause(error))?;
    match target {
        Some(path) => write(path, &json)?,
        None => printer.json(&json),
    }
    Ok(Status::Success)
}

fn profile(arguments: &ProbeQemu, result: &ProbeResult) -> Result<Profile, Failure> {
    let stream = Stream::open(&result.stream).map_err(|error| {
        Failure::new("cannot read the stream that QEMU wrote").with_inline_cause(&error)
    })?;
    let version = result.version.number();
    let name = arguments.name.clone().unwrap_or_else(|| {
        let cpu = result.cpus.first().map_or("", String::as_str);
        format!(
            "QEMU {version}, {}, {}, {cpu}",
            result.accelerator, result.machine
        )
    });
    let mut destination = destination::from_stream(name, &stream)?;
    destination.accelerator = Accelerator::from_name(&result.accelerator);
    let origin = ProfileOrigin {
        program: "qemu".to_owned(),
        version,
        package: result.version.package.clone(),
        accelerator: result.accelerator.clone(),
        machine: result.machine.clone(),
        cpu: result.cpus.first().cloned().unwrap_or_default(),
        command: result
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        kernel: match &*result.accelerator {
            // QEMU ran on this machine's kernel.
            "kvm" => kernel_release().unwrap_or_default(),
            _ => String::new(),
        },
    };
    Ok(Profile {
        origin,
        destination,
    })
}

/// Returns the path to write, with links resolved. Refuses a path of a device or folder.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return Err(Failure::new(format!("cannot write {}", path.display()))
            .with_cause(io::Error::other("it is not a regular file"))
            .with_hint("name a file; without -o the profile goes to standard output"));
    }
    Ok(target)
}

/// Writes a small file atomically.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let failure = |error| Failure::io("write", path, error);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failure)?;
    file.write_all(text.as_bytes()).map_err(failure)?;
    file.as_file().sync_all().map_err(failure)?;
    file.persist(path).map_err(|error| failure(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::HostIndex;
    use cpreg_kvm::RecordedHost;

    use super::*;

    #[test]
    fn cpu_name_and_emulation_are_taken_from_the_arguments() {
        let history = HostIndex::built_in().expect("the checked-in history is valid");
        let named = history.resolve("linux-6.12.107/neoverse-n1");
        let before = named.expect("a host").host.record();
        let host = RecordedHost::new(before.clone());
        let mut arguments = ProbeKvm {
            output: None,
            cpu: None,
            emulated: None,
        };
        let printer = Printer::default();
        let record = |arguments: &ProbeKvm| {
            let record = record_host(&host, arguments, &printer);
            record.unwrap_or_else(|_| panic!("a recorded host can be probed"))
        };
        let plain = record(&arguments);
        assert_eq!(plain.identity, before.identity);
        assert_eq!(
            plain.guests.keys().collect::<Vec<_>>(),
            before.guests.keys().collect::<Vec<_>>()
        );
        arguments.cpu = Some("custom".to_owned());
        arguments.emulated = Some(TrueFalse::False);
        let identity = record(&arguments).identity;
        assert_eq!((&*identity.cpu, identity.emulated), ("custom", false));
    }
}
