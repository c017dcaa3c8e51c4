//! Rehearsal of a VM of 8 GiB with a disk. The rehearsal must read no RAM and must not touch the
//! disk.
//!
//! The test overwrites the pages in the stream with garbage, so that a reader of pages fails. The
//! content, inode and times of the disk's file must not change.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use cpreg_qemu::process::QemuProcess;
use cpreg_qemu::qmp::WaitOptions;
use cpreg_stream::Stream;
use cpreg_stream::guest_memory::find_ramless_fixups;
use cpreg_stream::{CountingSource, ReadAt};
use serde_json::json;

use crate::Result;

/// Timeout for one step.
const STEP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(120));

/// Maximum number of bytes that a rehearsal may read. A stream of one vCPU without RAM
/// has about ten KiB, and a rehearsal may read it a few times.
const MAX_READ_LEN: u64 = 1 << 20;

/// Size of the disk, in bytes.
const DISK_LEN: usize = 8 << 20;

/// A VM with its stream and disk.
#[derive(Debug)]
pub struct LargeVm {
    /// Command line of QEMU.
    pub command: Vec<OsString>,
    /// Path of the saved VM, with overwritten pages.
    pub stream: PathBuf,
    disk: PathBuf,
    content: Vec<u8>,
    disk_metadata: Metadata,
}

impl LargeVm {
    /// Adds RAM and a disk to the command line of a small VM, saves the VM, and overwrites the
    /// pages in its stream.
    ///
    /// # Errors
    /// Returns an error with the step that failed.
    pub fn make(small: Vec<OsString>, folder: &Path) -> Result<Self> {
        let disk = folder.join("disk.raw");
        let content: Vec<u8> = (0..DISK_LEN)
            .map(|index| (index * 31).to_le_bytes()[1])
            .collect();
        fs::write(&disk, &content)?;
        let mut command = small;
        let memory = command.iter().position(|word| word == "-m");
        let memory = memory.ok_or("no -m in the command line")?;
        command[memory + 1] = "8G".into();
        let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
        command.extend(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"].map(Into::into));

        let stream = folder.join("large.stream");
        let mut qemu = QemuProcess::start(&command, &["-S".into()], &STEP_TIMEOUT)?;
        let unlimited = json!({"max-bandwidth": 1_u64 << 40});
        qemu.execute("migrate-set-parameters", unlimited, &STEP_TIMEOUT)?;
        let uri = format!("exec:cat > {}", stream.display());
        qemu.execute("migrate", json!({ "uri": uri }), &STEP_TIMEOUT)?;
        loop {
            let migration = qemu.execute("query-migrate", json!({}), &STEP_TIMEOUT)?;
            match migration["status"].as_str() {
                Some("completed") => break,
                Some("failed") => return Err(format!("cannot be saved: {migration}").into()),
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
        drop(qemu);
        overwrite_pages(&stream)?;
        Ok(Self {
            command,
            stream,
            disk_metadata: disk.metadata()?,
            disk,
            content,
        })
    }

    /// Returns the number of bytes of the stream that a rehearsal reads.
    ///
    /// # Errors
    /// Returns an error if the number exceeds `MAX_READ_LEN`.
    pub fn measure_read_bytes(&self) -> Result<u64> {
        let source = CountingSource::new(File::open(&self.stream)?);
        let stream = Stream::open(&source)?;
        let memory = find_ramless_fixups(&stream, &source)?;
        let edit = stream.without_ram(&memory.changes)?;
        let skeleton = edit.apply_to(&source);
        let mut bytes = vec![0; usize::try_from(edit.new_length())?];
        skeleton.read_exact_at(&mut bytes, 0)?;
        let read = source.bytes();
        if read > MAX_READ_LEN {
            return Err(format!("{read} bytes were read").into());
        }
        Ok(read)
    }

    /// Checks that the disk has not changed.
    ///
    /// # Errors
    /// Returns an error with the difference.
    pub fn check_disk_untouched(&self) -> Result<()> {
        let after = self.disk.metadata()?;
        let file_identity = |metadata: &Metadata| {
            (
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            )
        };
        if file_identity(&after) != file_identity(&self.disk_metadata) {
            return Err("the disk's file has changed".into());
        }
        if fs::read(&self.disk)? != self.content {
            return Err("the disk's content has changed".into());
        }
        Ok(())
    }
}

/// Overwrites the pages of RAM: the bytes between the list of blocks and the first device.
fn overwrite_pages(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let stream = Stream::open(&file)?;
    let last = stream.ram_blocks().last().ok_or("the stream has no RAM")?;
    let devices = stream
        .sections()
        .first()
        .ok_or("the stream has no devices")?;
    // The list of blocks is at the beginning. Its last entry has the block's name and length.
    let mut head = vec![0; 64 << 10];
    ReadAt::read_exact_at(&file, &mut head, 0)?;
    let entry = [last.name.as_bytes(), &last.length.to_be_bytes()].concat();
    let start = head.windows(entry.len()).position(|window| window == entry);
    let start = start.ok_or("the list of RAM blocks is not at the beginning")?;
    // Keep the end mark and footer of the section with the list, and the end of RAM in front of the
    // devices.
    let start = (start + entry.len()) as u64 + 64;
    let end = devices.range.start - 64;
    let garbage = vec![0xee; 1 << 20];
    let mut offset = start;
    while offset < end {
        let count = usize::try_from((end - offset).min(1 << 20))?;
        file.write_all_at(&garbage[..count], offset)?;
        offset += count as u64;
    }
    if Stream::verify(&file).is_ok() {
        return Err("a full scan of the stream succeeds: its pages are not overwritten".into());
    }
    Ok(())
}
