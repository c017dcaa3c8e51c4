//! [`RegisterFile`]: a file with registers of a VM, of Firecracker or Cloud Hypervisor.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cpreg::destination::{Features, Loader};
use cpreg::shape::MachineShape;
use cpreg::vm::Vm;
use cpreg_stream::{ExistingFile, write_file_with};

use crate::cloud_hypervisor;
use crate::description::{Description, ListedVm, Note, Progress};
use crate::error::Error;
use crate::firecracker;
use crate::format::Format;

/// State of a VM whose file holds registers and no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisterState {
    /// Registers of all vCPUs.
    pub vm: Vm,
    /// Parts of the VM that a loader compares, as far as the file holds them.
    pub shape: MachineShape,
    /// Features of the vCPUs.
    pub features: Features,
    /// Program that loads the file; `None` if no known release does. If several releases do, the
    /// latest: they differ in their messages only.
    pub loader: Option<Loader>,
}

/// File with the registers of one VM.
#[derive(Debug)]
pub struct RegisterFile {
    file: File,
    path: PathBuf,
    state: RegisterState,
    snapshot: Snapshot,
}

#[derive(Debug)]
enum Snapshot {
    Firecracker(firecracker::Snapshot),
    CloudHypervisor(cloud_hypervisor::Snapshot),
}

impl RegisterFile {
    /// Opens a file of this format. `path` is the file's name.
    ///
    /// # Errors
    /// If the file cannot be read, or its state is not in a known layout.
    pub fn open(file: File, path: &Path, format: Format) -> Result<Self, Error> {
        let (snapshot, vm, features, loader) = if format == Format::CloudHypervisor {
            let snapshot = cloud_hypervisor::Snapshot::open(&file)?;
            let vm = snapshot.vm()?;
            let features = snapshot.features();
            let loader = Some(Loader::cloud_hypervisor(53));
            (Snapshot::CloudHypervisor(snapshot), vm, features, loader)
        } else {
            let snapshot = firecracker::Snapshot::open(&file)?;
            let vm = snapshot.vm()?;
            let release = snapshot.version().releases().last();
            let loader = release.map(|release| Loader::firecracker(release.major, release.minor));
            let features = snapshot.features();
            (Snapshot::Firecracker(snapshot), vm, features, loader)
        };
        let vcpu_count = vm.vcpus.len();
        Ok(Self {
            file,
            path: path.to_owned(),
            state: RegisterState {
                vm,
                shape: MachineShape {
                    vcpu_count,
                    ..MachineShape::default()
                },
                features,
                loader,
            },
            snapshot,
        })
    }

    /// Returns the VM in the list of the file.
    pub fn listed_vm(&self) -> ListedVm {
        ListedVm {
            name: match self.snapshot {
                Snapshot::Firecracker(_) => "microvm".to_owned(),
                Snapshot::CloudHypervisor(_) => "vm".to_owned(),
            },
            description: String::new(),
        }
    }

    /// Returns the registers.
    pub fn state(&self) -> &RegisterState {
        &self.state
    }

    /// Returns the kind of the file.
    pub(crate) fn container(&self) -> String {
        match &self.snapshot {
            Snapshot::Firecracker(snapshot) => {
                format!("snapshot of Firecracker, version {}", snapshot.version())
            }
            Snapshot::CloudHypervisor(_) => "snapshot of Cloud Hypervisor".to_owned(),
        }
    }

    /// Returns the properties that the file holds beside the registers.
    pub fn description(&self) -> Description {
        let texts = match &self.snapshot {
            Snapshot::Firecracker(snapshot) => firecracker_notes(snapshot),
            Snapshot::CloudHypervisor(snapshot) => {
                let warnings = snapshot.warnings().iter();
                warnings.map(ToString::to_string).collect()
            }
        };
        Description {
            container: self.container(),
            vcpus: u32::try_from(self.state.vm.vcpus.len()).ok(),
            notes: texts.into_iter().map(Note::Text).collect(),
            ..Description::default()
        }
    }

    /// Writes a file of the same version with the planned registers.
    pub(crate) fn write_new(
        &self,
        planned: &Vm,
        target: &Path,
        overwrite: bool,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let existing = ExistingFile::from_overwrite(overwrite);
        self.write(planned, target, existing, progress)
    }

    /// Replaces the file by one with the planned registers.
    pub(crate) fn write_in_place(
        &self,
        planned: &Vm,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        self.write(planned, &self.path, ExistingFile::ReplaceSource, progress)
    }

    fn write(
        &self,
        planned: &Vm,
        target: &Path,
        existing: ExistingFile,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let bytes = match &self.snapshot {
            Snapshot::Firecracker(snapshot) => snapshot.convert(planned)?,
            Snapshot::CloudHypervisor(snapshot) => snapshot.convert(planned)?,
        };
        let length = bytes.len() as u64;
        write_file_with(Some(&self.file), target, existing, |mut new| {
            let unwritable = |error| Error::io(format!("cannot write {}", target.display()), error);
            new.write_all(&bytes).map_err(unwritable)
        })?;
        progress(length, length);
        Ok(length)
    }
}

fn firecracker_notes(snapshot: &firecracker::Snapshot) -> Vec<String> {
    let releases = snapshot.version().releases();
    let releases: Vec<_> = releases.map(|it| it.to_string()).collect();
    let mut notes = Vec::new();
    if !releases.is_empty() {
        notes.push(format!(
            "Releases of Firecracker that load this snapshot version: {}.",
            releases.join(", ")
        ));
    }
    if !snapshot.is_tested() {
        notes.push(
            "This snapshot version was not tested with files of a real Firecracker.".to_owned(),
        );
    }
    notes
}
