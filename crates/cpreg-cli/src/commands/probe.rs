//! `cpreg probe`: record a destination.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use cpreg::destination::Accelerator;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::Recorded;
use cpreg_qemu::Stream;
use cpreg_qemu::probe::{Probed, probe};

use crate::arguments::{self, ProbeQemu, ProbeWhat};
use crate::destination;
use crate::failure::{Failure, Status};
use crate::interrupt;
use crate::printer::Printer;

pub(crate) fn run(arguments: &arguments::Probe, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.what {
        ProbeWhat::Qemu(arguments) => qemu(arguments, printer),
    }
}

fn qemu(arguments: &ProbeQemu, printer: &mut Printer) -> Result<Status, Failure> {
    let target = arguments.output.as_deref().map(target).transpose()?;
    let patience = interrupt::patience(arguments.timeout)?;
    let probed = probe(&arguments.command, &patience).map_err(|error| {
        let hint = error.hint();
        let failure = Failure::new("cannot probe this QEMU").because(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    for left_out in &probed.left_out {
        let words: Vec<_> = left_out
            .was
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
    let json = profile
        .to_json()
        .map_err(|error| Failure::new("cannot record").because(error))?;
    match &target {
        Some(path) => write(path, &json)?,
        None => printer.json(&json),
    }
    Ok(Status::Done)
}

fn profile(arguments: &ProbeQemu, probed: &Probed) -> Result<Profile, Failure> {
    let stream = Stream::open(&probed.stream)
        .map_err(|error| Failure::new("cannot read the stream that QEMU wrote").because(error))?;
    let version = probed.version.number();
    let name = arguments.name.clone().unwrap_or_else(|| {
        let cpu = probed.cpus.first().map_or("", String::as_str);
        format!(
            "QEMU {version}, {}, {}, {cpu}",
            probed.accelerator, probed.machine
        )
    });
    let mut destination = destination::of_stream(name, &stream)?;
    destination.accelerator = Accelerator::from_name(&probed.accelerator);
    let recorded = Recorded {
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
    Ok(Profile::new(recorded, &destination))
}

/// Where the profile goes, links followed. A device is never replaced by a file.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return Err(Failure::new(format!("cannot write {}", path.display()))
            .because(io::Error::other("it is no regular file"))
            .hint("give the name of a file; without -o the profile goes to standard output"));
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
