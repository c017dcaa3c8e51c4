//! Search for the save images that libvirt has open.
//!
//! libvirt opens an image, reads its header and XML, and then calls the hook. The image is among
//! the open files of libvirt's process, an ancestor of this process. With `--bypass-cache` a helper
//! process of libvirt has the image open, and has already read a part of it. The search does not
//! find this image.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use cpreg_snapshot::libvirt::read_metadata;
use cpreg_snapshot::{ErrorKind, Format};
use rustix::process::getppid;

use super::restore::{ImageContent, OpenImage};

/// Maximum number of ancestors to search. Shells of hook scripts are between libvirt and cpreg.
const MAX_ANCESTORS: usize = 8;

/// Returns the open save images of the nearest ancestor that has any.
pub(super) fn find() -> Vec<OpenImage> {
    let mut next = getppid().map(|process| process.as_raw_nonzero().get().unsigned_abs());
    for _ in 0..MAX_ANCESTORS {
        let Some(process) = next else { break };
        let images = images_of(process);
        if !images.is_empty() {
            return images;
        }
        next = parent_of(process);
    }
    Vec::new()
}

/// Returns the parent of a process; `None` for the first process of the namespace.
fn parent_of(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| *parent != 0)
}

/// Returns the save images that a process has open, each once.
fn images_of(process: u32) -> Vec<OpenImage> {
    let folder = PathBuf::from(format!("/proc/{process}/fd"));
    let Ok(entries) = fs::read_dir(&folder) else {
        return Vec::new();
    };
    let mut images: Vec<OpenImage> = Vec::new();
    for entry in entries.flatten() {
        if let Some(image) = image_at(&entry.path())
            && images.iter().all(|known| known.path != image.path)
        {
            images.push(image);
        }
    }
    images.sort_by(|a, b| a.path.cmp(&b.path));
    images
}

/// Returns the save image behind an entry of `/proc/PROCESS/fd`; `None` for any other file.
fn image_at(entry: &Path) -> Option<OpenImage> {
    // Opening a pipe or a device could block.
    let metadata = fs::metadata(entry).ok().filter(fs::Metadata::is_file)?;
    let path = fs::read_link(entry).ok()?;
    let file = File::open(entry).ok()?;
    let is_image = matches!(Format::identify(&file), Ok(Some(Format::LibvirtImage)));
    is_image.then_some(())?;
    let is_same = |other: fs::Metadata| {
        (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()) && other.is_file()
    };
    Some(OpenImage {
        is_reachable: fs::symlink_metadata(&path).is_ok_and(is_same),
        path,
        content: match read_metadata(&file) {
            Ok((header, domain)) => Ok(ImageContent {
                name: domain.name,
                uuid: domain.uuid,
                format: header.format,
            }),
            // libvirt is writing this image for another VM.
            Err(error) if error.kind() == ErrorKind::Unfinished => return None,
            Err(error) => Err(error.to_string()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the start of a raw image of the domain `web`, without a stream.
    fn image(magic: &[u8]) -> Vec<u8> {
        let xml = b"<domain type='kvm'><name>web</name><uuid>1</uuid></domain>\0";
        let mut bytes = magic.to_vec();
        let length = u32::try_from(xml.len()).unwrap();
        for word in [2, length, 1, 0, 0] {
            bytes.extend(u32::to_le_bytes(word));
        }
        bytes.resize(92, 0);
        bytes.extend(xml);
        bytes.extend(b"QEVM");
        bytes
    }

    #[test]
    fn open_images_of_a_process_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            (File::open(&path).unwrap(), path)
        };
        let (_whole, path) = write("web.save", &image(b"LibvirtQemudSave"));
        let _again = File::open(&path).unwrap();
        let (_partial, _) = write("db.save", &image(b"LibvirtQemudPart"));
        let (_other, _) = write("text", b"LibvirtQemud");
        let (_removed, removed) = write("old.save", &image(b"LibvirtQemudSave"));
        fs::remove_file(&removed).unwrap();
        let found = images_of(std::process::id());
        let in_folder = found.iter().filter(|it| it.path.starts_with(folder.path()));
        let in_folder: Vec<_> = in_folder.collect();
        assert_eq!(in_folder.len(), 2, "{in_folder:?}");
        assert!(!in_folder[0].is_reachable && in_folder[0].path != removed);
        assert!(in_folder[1].is_reachable);
        assert_eq!(in_folder[1].path, path);
        let content = in_folder[1].content.as_ref().unwrap();
        assert_eq!(
            (&*content.name, content.uuid.as_deref()),
            ("web", Some("1"))
        );
    }

    #[test]
    fn ancestors_end_at_the_first_process() {
        assert_eq!(parent_of(1), None);
        let own = parent_of(std::process::id());
        let parent = getppid().map(|process| process.as_raw_nonzero().get().unsigned_abs());
        assert_eq!(own, parent);
    }
}
