//! [`Container`]: a file that holds saved VMs; [`SavedVm`]: one of these VMs.
//!
//! Each format is a variant. A format whose VMs are QEMU streams gives a source of bytes, and takes
//! an [`Edit`]. A format of another VMM gives registers, and takes the planned [`Vm`].

use std::fs::File;
use std::path::Path;

use cpreg::vm::Vm;
use cpreg_stream::{Edit, ReadAt};

use crate::description::{Description, ListedVm, Progress, choose};
use crate::error::{Error, ErrorKind};
use crate::format::Format;
use crate::libvirt;
use crate::qcow2;
use crate::register_file::{RegisterFile, RegisterState};

/// File that holds saved VMs.
#[derive(Debug)]
pub enum Container {
    /// Save image of libvirt, which holds one VM.
    Libvirt(Box<libvirt::Image>),
    /// Disk image in qcow2 format, whose snapshots can hold VMs.
    Qcow2(Box<qcow2::Disk>),
    /// Snapshot of Firecracker or Cloud Hypervisor, which holds the registers of one VM.
    Registers(Box<RegisterFile>),
}

/// Opened VM of a [`Container`].
#[derive(Debug)]
pub enum SavedVm {
    /// VM in a save image of libvirt.
    Libvirt(Box<libvirt::Image>),
    /// VM in a snapshot of a qcow2 disk image.
    Qcow2(Box<qcow2::DiskVm>),
    /// VM in a snapshot of Firecracker or Cloud Hypervisor.
    Registers(Box<RegisterFile>),
}

/// State of a saved VM.
#[derive(Clone, Copy)]
pub enum State<'v> {
    /// QEMU's migration stream.
    Stream(&'v dyn ReadAt),
    /// Registers, in the format of another VMM.
    Registers(&'v RegisterState),
}

/// Change of a saved VM.
#[derive(Clone, Copy, Debug)]
pub enum Change<'c> {
    /// Edit of the VM's stream.
    Stream(&'c Edit),
    /// Planned state of a VM whose file holds registers.
    Registers(&'c Vm),
}

impl Container {
    /// Opens a file of this format. `path` is the file's name, for messages and for edits in place.
    ///
    /// # Errors
    /// If the file cannot be read, is unfinished, or has content that its program never writes.
    pub fn open(file: File, path: &Path, format: Format) -> Result<Self, Error> {
        match format {
            Format::LibvirtImage => {
                let image = libvirt::Image::open(file, path)?;
                Ok(Self::Libvirt(Box::new(image)))
            }
            Format::Qcow2 => Ok(Self::Qcow2(Box::new(qcow2::Disk::open(file, path)?))),
            Format::Firecracker | Format::CloudHypervisor => {
                let file = RegisterFile::open(file, path, format)?;
                Ok(Self::Registers(Box::new(file)))
            }
        }
    }

    /// Returns the VMs in the file, in the file's order.
    pub fn vms(&self) -> Vec<ListedVm> {
        match self {
            Self::Libvirt(image) => vec![ListedVm {
                name: image.domain().name.clone(),
                description: String::new(),
            }],
            Self::Qcow2(disk) => disk.vms(),
            Self::Registers(file) => vec![file.listed_vm()],
        }
    }

    /// Opens a VM of the file: that of this name, or the only one.
    ///
    /// # Errors
    /// - [`ErrorKind::NoVm`] if no VM has that name, or without a name if the file holds no VM or
    ///   several.
    /// - If the VM cannot be read.
    pub fn open_vm(self, name: Option<&str>) -> Result<SavedVm, Error> {
        let vms = self.vms();
        match self {
            // A snapshot has an id too.
            Self::Qcow2(disk) => Ok(SavedVm::Qcow2(Box::new(disk.open_vm(name)?))),
            Self::Libvirt(image) => {
                choose(&vms, name)?;
                Ok(SavedVm::Libvirt(image))
            }
            Self::Registers(file) => {
                choose(&vms, name)?;
                Ok(SavedVm::Registers(file))
            }
        }
    }
}

impl SavedVm {
    /// Returns the VM's state.
    pub fn state(&self) -> State<'_> {
        match self {
            Self::Libvirt(image) => State::Stream(image.stream()),
            Self::Qcow2(vm) => State::Stream(vm.stream()),
            Self::Registers(file) => State::Registers(file.state()),
        }
    }

    /// Returns the kind of the file: `save image of libvirt, compressed with gzip`.
    pub fn container(&self) -> String {
        match self {
            Self::Libvirt(image) => image.container(),
            Self::Qcow2(vm) => vm.container(),
            Self::Registers(file) => file.container(),
        }
    }

    /// Returns the properties that the file holds beside the state.
    pub fn description(&self) -> Description {
        match self {
            Self::Libvirt(image) => image.description(),
            Self::Qcow2(vm) => vm.description(),
            Self::Registers(file) => file.description(),
        }
    }

    /// Writes a file of the same kind with the changed VM. The file appears whole or not at all.
    ///
    /// Returns the length of the new file. `overwrite` permits to replace an existing file.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the file's format cannot hold the change.
    /// - If the target exists without `overwrite`, or is the file itself.
    /// - If reading or writing fails.
    pub fn write_new(
        &self,
        change: Change<'_>,
        target: &Path,
        overwrite: bool,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        match self {
            Self::Libvirt(image) => {
                image.write_new(stream_edit(change)?, target, overwrite, progress)
            }
            Self::Qcow2(vm) => vm.write_new(stream_edit(change)?, target, overwrite, progress),
            Self::Registers(file) => {
                file.write_new(planned_state(change)?, target, overwrite, progress)
            }
        }
    }

    /// Changes the VM in the file itself, completely or not at all. Returns the file's new length.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the file's format cannot hold the change.
    /// - [`ErrorKind::InUse`] if another program uses the file.
    /// - If reading or writing fails.
    pub fn write_in_place(&self, change: Change<'_>, progress: Progress<'_>) -> Result<u64, Error> {
        match self {
            Self::Libvirt(image) => image.write_in_place(stream_edit(change)?, progress),
            Self::Qcow2(vm) => vm.write_in_place(stream_edit(change)?),
            Self::Registers(file) => file.write_in_place(planned_state(change)?, progress),
        }
    }
}

/// Returns the edit of a VM whose file holds a stream.
fn stream_edit(change: Change<'_>) -> Result<&Edit, Error> {
    match change {
        Change::Stream(edit) => Ok(edit),
        Change::Registers(_) => Err(Error::new(
            ErrorKind::BadEdit,
            "the file holds a stream, which only an edit can change",
        )),
    }
}

/// Returns the planned state of a VM whose file holds registers.
fn planned_state(change: Change<'_>) -> Result<&Vm, Error> {
    match change {
        Change::Registers(planned) => Ok(planned),
        Change::Stream(_) => Err(Error::new(
            ErrorKind::BadEdit,
            "the file holds registers and no stream",
        )),
    }
}

impl std::fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(_) => f.write_str("Stream"),
            Self::Registers(registers) => f.debug_tuple("Registers").field(registers).finish(),
        }
    }
}
