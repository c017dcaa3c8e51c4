//! [`Disk`]: a disk image as a file with saved VMs; [`DiskVm`]: one of them.

use std::fs::File;
use std::path::{Path, PathBuf};

use cpreg_stream::{Edit, ReadAt, Stream, WriteOptions};

use super::commands::Commands;
use super::edit::plan_change;
use super::image::Image;
use super::lock::ImageLock;
use super::snapshot::Snapshot;
use super::state::SnapshotState;
use crate::description::{Description, ListedVm, Note, Progress, several_vms};
use crate::error::{Error, ErrorKind};

/// Disk image whose snapshots can hold VMs. Other programs cannot change it meanwhile.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    image: Image<File>,
    lock: ImageLock,
}

/// VM in a snapshot of a [`Disk`].
#[derive(Debug)]
pub struct DiskVm {
    file: File,
    path: PathBuf,
    state: SnapshotState<File>,
    _lock: ImageLock,
}

impl Disk {
    /// Opens a disk image. `path` is the file's name.
    ///
    /// # Errors
    /// - [`ErrorKind::InUse`] if another program can change the image.
    /// - Those of [`Image::open`].
    pub fn open(file: File, path: &Path) -> Result<Self, Error> {
        let lock = ImageLock::for_reading(&file)?;
        let clone = file
            .try_clone()
            .map_err(|error| Error::io("cannot read the file", error))?;
        Ok(Self {
            image: Image::open(clone)?,
            file,
            path: path.to_owned(),
            lock,
        })
    }

    /// Returns the snapshots that hold a VM.
    pub fn vms(&self) -> Vec<ListedVm> {
        let listed = self.image.saved_vms().map(|snapshot| ListedVm {
            name: snapshot.name().to_owned(),
            description: format!(
                "snapshot {}, {} bytes of VM state, after {} s of run time",
                snapshot.id(),
                snapshot.state_len(),
                snapshot.vm_clock_ns() / 1_000_000_000
            ),
        });
        listed.collect()
    }

    /// Opens the VM of the snapshot with this name or id, or the only VM.
    ///
    /// # Errors
    /// [`ErrorKind::NoVm`] if no snapshot with a VM has this name, or without a name if not exactly
    /// one snapshot holds a VM.
    pub fn open_vm(self, name: Option<&str>) -> Result<DiskVm, Error> {
        let snapshot = match name {
            Some(name) => self.image.find(name)?.clone(),
            None => self.only_vm()?.clone(),
        };
        Ok(DiskVm {
            state: self.image.into_state(&snapshot)?,
            file: self.file,
            path: self.path,
            _lock: self.lock,
        })
    }

    fn only_vm(&self) -> Result<&Snapshot, Error> {
        let mut vms = self.image.saved_vms();
        match (vms.next(), vms.next()) {
            (Some(snapshot), None) => Ok(snapshot),
            (None, _) => Err(Error::new(
                ErrorKind::NoVm,
                "no snapshot of the disk image holds a VM",
            )
            .with_hint("save a VM in the image with `savevm NAME` in QEMU's monitor")),
            (Some(_), Some(_)) => Err(several_vms(&self.vms())),
        }
    }
}

impl DiskVm {
    /// Returns QEMU's stream.
    pub fn stream(&self) -> &dyn ReadAt {
        &self.state
    }

    /// Returns the snapshot that holds the VM.
    pub fn snapshot(&self) -> &Snapshot {
        self.state.snapshot()
    }

    /// Returns the kind of the file, and the snapshot in it.
    pub(crate) fn container(&self) -> String {
        format!("snapshot {} of a qcow2 disk image", self.snapshot().id())
    }

    /// Returns the properties that the image holds beside the stream.
    ///
    /// The machine type is that of the stream, which the function opens without RAM.
    pub fn description(&self) -> Description {
        let (image, snapshot) = (self.state.image(), self.state.snapshot());
        let stream = Stream::open_by_description(&self.state).ok();
        let machine = stream.as_ref().and_then(Stream::machine);
        let file = self.path.display().to_string();
        let commands = Commands::new(snapshot, &file, "COPY.qcow2", machine);
        let mut notes = vec![
            Note::LoadOptions(commands.load_options),
            Note::DiskWithoutState(commands.disk_without_state),
        ];
        let others = image.saved_vms().filter(|it| *it != snapshot).count();
        if others > 0 {
            let text = format!("The image holds {others} other saved VMs.");
            notes.push(Note::Text(text));
        }
        Description {
            container: self.container(),
            name: Some(snapshot.name().to_owned()),
            machine: machine.map(str::to_owned),
            vcpus: stream.and_then(|stream| u32::try_from(stream.cpus().len()).ok()),
            notes,
            ..Description::default()
        }
    }

    /// Writes a copy of the image with the edited VM. Returns the length of the new file.
    ///
    /// # Errors
    /// - Those of [`plan_change`].
    /// - If the target exists without `overwrite`, or is the image itself.
    pub fn write_new(
        &self,
        edit: &Edit,
        target: &Path,
        overwrite: bool,
        progress: Progress<'_>,
    ) -> Result<u64, Error> {
        let change = plan_change(&self.state, edit)?;
        let options = WriteOptions {
            overwrite,
            progress: Some(progress),
        };
        change.write_new(&self.file, target, options)?;
        Ok(change.new_length())
    }

    /// Changes the VM in the image itself. Returns the image's new length.
    ///
    /// # Errors
    /// - [`ErrorKind::InUse`] if another program has the image open.
    /// - Those of [`plan_change`].
    /// - Those of [`Change::write_in_place`](super::Change::write_in_place).
    pub fn write_in_place(&self, edit: &Edit) -> Result<u64, Error> {
        // The locks belong to the file that was opened to read; so they hold since then.
        let _lock = ImageLock::for_writing(&self.file)?;
        let change = plan_change(&self.state, edit)?;
        let unwritable = |error| Error::io(format!("cannot write {}", self.path.display()), error);
        let file = File::options()
            .read(true)
            .write(true)
            .open(&self.path)
            .map_err(unwritable)?;
        if !is_same_file(&self.file, &file) {
            return Err(Error::new(
                ErrorKind::BadEdit,
                format!("{} is another file meanwhile", self.path.display()),
            ));
        }
        change.write_in_place(&file)?;
        Ok(change.new_length())
    }
}

#[cfg(unix)]
fn is_same_file(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    let (one, other) = (one.metadata(), other.metadata());
    let (Ok(one), Ok(other)) = (one, other) else {
        return false;
    };
    one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Returns `true`: files have no identity here, and [`super::Change`] checks the content.
#[cfg(not(unix))]
fn is_same_file(_one: &File, _other: &File) -> bool {
    true
}
