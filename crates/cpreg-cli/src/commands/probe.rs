//! `cpreg probe`: record a destination.

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

/// What a host gives to guests, and what the user knows better.
fn record_host(
    host: &impl Host,
    arguments: &ProbeKvm,
    printer: &Printer,
) -> Result<HostRecord, Failure> {
    let told = |event| {
        if let ProbeEvent::GuestFailed(error) = event {
            printer.note(format_args!("not recorded: {error}"));
        }
    };
    let mut record = cpreg_kvm::probe(host, told)
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
    let patience = interrupt::wait_options(arguments.timeout)?;
    let probed = probe(&arguments.command, &patience)
        .map_err(|error| Failure::new("cannot probe this QEMU").with_hinted_cause(error))?;
    for left_out in &probed.removed_options {
        let words: Vec<_> = left_out
            .before
            .iter()
            .map(|word| word.to_string_lossy())
            .collect();
        printer.note(format_args!(
            "left out {}: {}",
            words.join(" "),
            left_out.reason
        ));
    }
    let profile = profile(arguments, &probed)?;
    write_or_print(profile.to_json(), target.as_deref(), printer)
}

/// Writes what was recorded into the file, or as the answer.
fn write_or_print(
    json: Result<String, impl std::error::Error + Send + Sync + 'static>,
    target: Option<&Path>,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let json = json.map_err(|error| Failure::new("cannot record").with_cause(error))?;
    match target {
        Some(path) => write(path, &json)?,
        None => printer.json(&json),
    }
    Ok(Status::Success)
}

fn profile(arguments: &ProbeQemu, probed: &ProbeResult) -> Result<Profile, Failure> {
    let stream = Stream::open(&probed.stream).map_err(|error| {
        Failure::new("cannot read the stream that QEMU wrote").with_inline_cause(&error)
    })?;
    let version = probed.version.number();
    let name = arguments.name.clone().unwrap_or_else(|| {
        let cpu = probed.cpus.first().map_or("", String::as_str);
        format!(
            "QEMU {version}, {}, {}, {cpu}",
            probed.accelerator, probed.machine
        )
    });
    let mut destination = destination::from_stream(name, &stream)?;
    destination.accelerator = Accelerator::from_name(&probed.accelerator);
    let recorded = ProfileOrigin {
        program: "qemu".to_owned(),
        version,
        package: probed.version.package.clone(),
        accelerator: probed.accelerator.clone(),
        machine: probed.machine.clone(),
        cpu: probed.cpus.first().cloned().unwrap_or_default(),
        command: probed
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        kernel: String::new(),
    };
    Ok(Profile {
        origin: recorded,
        destination,
    })
}

/// Where the profile goes, links followed. A device is never replaced by a file.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return Err(Failure::new(format!("cannot write {}", path.display()))
            .with_cause(io::Error::other("it is no regular file"))
            .with_hint("give the name of a file; without -o the profile goes to standard output"));
    }
    Ok(target)
}

/// Writes a small file: it appears whole or not at all.
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
    fn what_the_user_says_of_a_host_is_recorded() {
        let history = HostIndex::built_in().expect("the checked-in history is one");
        let named = history.resolve("linux-6.12.107/neoverse-n1");
        let before = named.expect("a host").host.record();
        let host = RecordedHost::new(before.clone());
        let mut arguments = ProbeKvm {
            output: None,
            cpu: None,
            emulated: None,
        };
        let printer = Printer::default();
        let of = |arguments: &ProbeKvm| {
            let record = record_host(&host, arguments, &printer);
            record.unwrap_or_else(|_| panic!("a recorded host can be probed"))
        };
        let plain = of(&arguments);
        assert_eq!(plain.identity, before.identity);
        assert_eq!(
            plain.guests.keys().collect::<Vec<_>>(),
            before.guests.keys().collect::<Vec<_>>()
        );
        arguments.cpu = Some("ours".to_owned());
        arguments.emulated = Some(TrueFalse::False);
        let identity = of(&arguments).identity;
        assert_eq!((&*identity.cpu, identity.emulated), ("ours", false));
    }
}
