//! Saved VMs in the files and folders of other programs.
//!
//! `FILE#NAME` names one of several VMs in a file. A folder is searched for files with saved VMs.

use std::fs::File;
use std::path::{Path, PathBuf};

use cpreg_report::command::quote;
use cpreg_report::names::FailureKind;
use cpreg_report::scalar::Hex;
use cpreg_report::show::model;
use cpreg_report::text::list_first;
use cpreg_snapshot::{
    Container, Description, Error, ErrorKind, Folder, Foreign, Format, Note, SavedVm,
};

use super::compression::read_start;
use super::recovery::recovery_hint;
use crate::failure::{ErrorWithHint, Failure};
use crate::printer::Printer;

impl ErrorWithHint for Error {
    fn hint(&self) -> Option<&str> {
        self.hint()
    }

    fn failure_kind(&self) -> FailureKind {
        match self.kind() {
            ErrorKind::Io => FailureKind::IO,
            ErrorKind::NoVm => FailureKind::INPUT,
            _ => FailureKind::STREAM,
        }
    }

    fn stream_offset(&self) -> Option<u64> {
        self.offset()
    }
}

/// File on which a path depends, and the name of a VM in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VmPath {
    /// Path of the file.
    pub(crate) file: PathBuf,
    /// Name of the VM, after `#`.
    pub(crate) vm: Option<String>,
}

impl VmPath {
    /// Splits `FILE#NAME`. An existing file of the whole name takes precedence.
    pub(crate) fn new(path: &Path) -> Self {
        let whole = Self {
            file: path.to_owned(),
            vm: None,
        };
        let Some(text) = path.to_str().filter(|_| path.symlink_metadata().is_err()) else {
            return whole;
        };
        // The name of the file may have the character too, as may the name of the VM.
        let mut splits = text.match_indices('#').map(|(at, _)| text.split_at(at));
        splits
            .find(|(file, _)| Path::new(file).exists())
            .map_or(whole, |(file, name)| Self {
                file: PathBuf::from(file),
                vm: Some(name[1..].to_owned()),
            })
    }
}

/// Chooses the file with a saved VM in a folder.
pub(super) fn find_in_folder(
    folder: &Path,
    vm: Option<&str>,
    printer: &Printer,
) -> Result<PathBuf, Failure> {
    /// Maximum number of files in a hint.
    const MAX_LISTED: usize = 5;
    if let Some(foreign) = Foreign::of_path(folder) {
        return Err(foreign_failure(folder, foreign));
    }
    let found = Folder::open(folder).map_err(|error| Failure::io("read", folder, error))?;
    let path = folder.display();
    let kind = found
        .kind
        .map_or_else(String::new, |kind| format!(", {kind},"));
    let has_vm = |names: &[String]| match vm {
        Some(vm) => names.is_empty() || names.iter().any(|name| name == vm),
        None => true,
    };
    let mut files = found.files.iter().filter(|file| has_vm(&file.names));
    match (files.next(), files.next()) {
        (Some(file), None) => {
            printer.note(format_args!(
                "{path}{kind} has one file with a saved VM: {}, {}",
                file.path.display(),
                file.format.description()
            ));
            Ok(file.path.clone())
        }
        (Some(_), Some(_)) => {
            let count = found.files.len();
            let names = found.files.iter();
            let names: Vec<_> = names.map(|file| file.path.display().to_string()).collect();
            Err(
                Failure::new(format!("{path}{kind} has {count} files with saved VMs"))
                    .with_path(folder)
                    .with_hint(format!(
                        "name one of them: {}",
                        list_first(&names, MAX_LISTED)
                    )),
            )
        }
        (None, _) => {
            let mut failure =
                Failure::new(format!("{path} is a directory{kind} without a saved VM"))
                    .with_path(folder);
            if found.disks_without_vm > 0 {
                failure = failure.with_hint(format!(
                    "disk images in it that hold no VM state: {}; the VM was not suspended",
                    found.disks_without_vm
                ));
            }
            Err(failure.with_hint(super::compression::describe_folder(folder)))
        }
    }
}

/// Rejects a file of another program that cpreg recognises and does not read.
pub(super) fn reject_foreign(file: &File, path: &Path) -> Result<(), Failure> {
    let mut start = [0; Foreign::START_LEN];
    let length = read_start(file, &mut start).map_err(|error| Failure::io("read", path, error))?;
    match Foreign::of_start(&start[..length]).or_else(|| Foreign::of_path(path)) {
        Some(foreign) => Err(foreign_failure(path, foreign)),
        None => Ok(()),
    }
}

fn foreign_failure(path: &Path, foreign: Foreign) -> Failure {
    Failure::new(format!("cannot read {}", path.display()))
        .with_path(path)
        .with_hinted_cause(foreign.error())
}

/// Opens the VM `vm` of a file with saved VMs, or its only VM.
pub(super) fn open_vm(
    file: File,
    path: &Path,
    format: Format,
    vm: Option<&str>,
) -> Result<SavedVm, Failure> {
    let container = Container::open(file, path, format);
    let opened = container.and_then(|container| container.open_vm(vm));
    opened.map_err(|error| saved_failure("read", path, error))
}

/// Returns the error for an action on a file with saved VMs.
pub(crate) fn saved_failure(action: &str, path: &Path, error: Error) -> Failure {
    let failure = Failure::new(format!("cannot {action} {}", path.display())).with_path(path);
    if error.kind() != ErrorKind::UnfinishedEdit {
        return failure.with_hinted_cause(error);
    }
    failure.with_cause(error).with_hint(recovery_hint(path))
}

/// Returns the facts that a file holds about its VM, as a report has them.
pub(super) fn describe(description: Description) -> model::Container {
    let mut container = model::Container::default();
    container.kind = description.container;
    container.vm = description.name;
    container.machine = description.machine;
    container.cpu = description.cpu;
    container.vcpus = description.vcpus;
    container.memory = description.memory.map(Hex);
    container.resumes = description.resumes;
    container.command = description.command;
    container.notes = description.notes.iter().map(note_text).collect();
    container
}

/// Returns a fact as a sentence.
fn note_text(note: &Note) -> String {
    let line = |words: &[String]| {
        let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
        words.join(" ")
    };
    match note {
        Note::LoadOptions(options) => format!(
            "QEMU loads the state with the options of the VM and `{}`.",
            line(options)
        ),
        Note::DiskWithoutState(command) => format!(
            "`{}` makes a copy of the disk that boots without the state, as after a power cut.",
            line(command)
        ),
        Note::Text(text) => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_vm_follows_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk#1.qcow2");
        std::fs::write(&file, "").unwrap();
        assert_eq!(VmPath::new(&file).vm, None);
        let named = VmPath::new(&folder.path().join("disk#1.qcow2#snap#2"));
        assert_eq!(named.file, file);
        assert_eq!(named.vm.as_deref(), Some("snap#2"));
        let absent = VmPath::new(&folder.path().join("none#1"));
        assert_eq!(absent.vm, None);
    }
}
