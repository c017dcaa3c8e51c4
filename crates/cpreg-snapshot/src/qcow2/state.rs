//! [`SnapshotState`]: the VM's state of a snapshot, as the bytes of a stream.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use cpreg_stream::ReadAt;

use super::compressed::decompress;
use super::entry::Place;
use super::image::Image;
use super::snapshot::Snapshot;
use crate::error::{Error, ErrorKind};

/// State of a snapshot. A read touches only the clusters that hold its bytes.
pub struct SnapshotState<S> {
    image: Image<S>,
    snapshot: Snapshot,
    /// Number of the guest cluster where the state begins.
    first_cluster: u64,
    /// Compressed cluster that was read last: its offset in the file and its content.
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl<S> fmt::Debug for SnapshotState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotState")
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

impl<S: ReadAt> Image<S> {
    /// Makes the state of a snapshot readable. The snapshot must be one of this image.
    ///
    /// # Errors
    /// - [`ErrorKind::NoVm`] if the snapshot holds no VM's state.
    /// - [`ErrorKind::Unsupported`] if the image has an external data file. QEMU makes no snapshots
    ///   of such images.
    pub fn into_state(self, snapshot: &Snapshot) -> Result<SnapshotState<S>, Error> {
        if snapshot.state_len == 0 {
            return Err(Error::new(
                ErrorKind::NoVm,
                format!("snapshot {:?} holds the disk only", snapshot.name),
            ));
        }
        if self.has_data_file() {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the image has an external data file, and QEMU loads no snapshots of such images",
            ));
        }
        let first_cluster = first_cluster(&self, snapshot);
        Ok(SnapshotState {
            snapshot: snapshot.clone(),
            first_cluster,
            image: self,
            last: Mutex::default(),
        })
    }
}

/// Returns the number of the guest cluster where the state of a snapshot begins.
pub(super) fn first_cluster<S: ReadAt>(image: &Image<S>, snapshot: &Snapshot) -> u64 {
    image.header.state_l1_index(snapshot.disk_size) << image.header.l2_bits()
}

impl<S: ReadAt> SnapshotState<S> {
    /// Returns the image.
    pub fn image(&self) -> &Image<S> {
        &self.image
    }

    /// Returns the snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Reads bytes that lie in one part of a cluster; returns their number.
    fn read_part(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let header = &self.image.header;
        let cluster = self.first_cluster + (offset >> header.cluster_bits);
        let inside = offset & (header.cluster_size() - 1);
        let entry = self.image.l2_entry(self.snapshot.l1, cluster)?;
        let (place, end) = entry.place(inside, header);
        let count = usize::try_from(end - inside)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let part = &mut buffer[..count];
        match place {
            Place::Zero => part.fill(0),
            Place::Unallocated if self.image.backing_file().is_none() => part.fill(0),
            Place::Unallocated => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "byte {offset:#x} of the state of snapshot {:?} is in the backing file",
                        self.snapshot.name
                    ),
                ));
            }
            Place::Data(at) => self.image.read(part, at)?,
            Place::Compressed { offset, length } => {
                self.read_compressed(part, inside, offset, length)?;
            }
        }
        Ok(count)
    }

    fn read_compressed(
        &self,
        part: &mut [u8],
        inside: u64,
        offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(at, _)| *at != offset) {
            // The length counts sectors, and the file can end in the last one.
            let left = self.image.length().saturating_sub(offset).max(1);
            let bytes = self.image.read_range(offset, length.min(left))?;
            let size = usize::try_from(self.image.cluster_size()).unwrap_or(usize::MAX);
            let cluster = decompress(self.image.header.compression, &bytes, size)
                .ok_or_else(|| Error::malformed(offset, "a compressed cluster is damaged"))?;
            *last = Some((offset, cluster));
        }
        let cluster = last.as_ref().map_or(&[][..], |(_, cluster)| cluster);
        cluster
            .read_exact_at(part, inside)
            .map_err(|error| Error::io("cannot read", error).at_offset(offset))
    }
}

impl<S: ReadAt> ReadAt for SnapshotState<S> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.snapshot.state_len)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.snapshot.state_len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < buffer.len() {
            done += self
                .read_part(&mut buffer[done..], offset + done as u64)
                .map_err(io::Error::other)?;
        }
        Ok(())
    }
}
