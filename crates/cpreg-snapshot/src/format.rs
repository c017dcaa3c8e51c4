//! [`Format`]: the kind of a file with saved VMs, recognised by its content and never by a suffix.

use std::io;

use cpreg_stream::ReadAt;

use crate::firecracker;

/// Kind of a file that holds saved VMs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Save image of libvirt (`virsh save`, managed save): a header, XML, and QEMU's stream.
    LibvirtImage,
    /// Disk image in qcow2 format, which can hold internal snapshots with QEMU's state.
    Qcow2,
    /// State file of Firecracker (`vmstate`).
    Firecracker,
    /// State of Cloud Hypervisor (`state.json`).
    CloudHypervisor,
}

impl Format {
    /// Returns the format as a phrase: `a save image of libvirt`.
    pub const fn description(self) -> &'static str {
        match self {
            Self::LibvirtImage => "a save image of libvirt",
            Self::Qcow2 => "a qcow2 disk image",
            Self::Firecracker => "a state file of Firecracker",
            Self::CloudHypervisor => "a state.json of Cloud Hypervisor",
        }
    }

    /// Number of bytes that tell the format.
    const START_LEN: usize = 16;

    /// Recognises the format of a file. Returns `None` for other files.
    ///
    /// # Errors
    /// If the file cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use cpreg_snapshot::Format;
    ///
    /// let start = b"QFI\xfb\0\0\0\x03".as_slice();
    /// assert_eq!(Format::identify(&start)?, Some(Format::Qcow2));
    /// assert_eq!(Format::identify(&b"text".as_slice())?, None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn identify(source: &dyn ReadAt) -> io::Result<Option<Self>> {
        let length = source.length()?;
        let mut start = [0; Self::START_LEN];
        let count = length.min(Self::START_LEN as u64);
        // The count is at most START_LEN.
        let start = &mut start[..usize::try_from(count).unwrap_or(Self::START_LEN)];
        source.read_exact_at(start, 0)?;
        Ok(Self::from_start(start))
    }

    /// Recognises the format by the first bytes of a file.
    fn from_start(start: &[u8]) -> Option<Self> {
        let begins_with = |magic: &[u8]| start.starts_with(magic);
        if begins_with(b"LibvirtQemudSave") || begins_with(b"LibvirtQemudPart") {
            Some(Self::LibvirtImage)
        } else if begins_with(b"QFI\xfb") {
            Some(Self::Qcow2)
        } else if firecracker::frame::is_snapshot(start) {
            Some(Self::Firecracker)
        } else if begins_with(br#"{"snapshots":{"#) {
            Some(Self::CloudHypervisor)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_format() {
        let identify = |bytes: &[u8]| Format::identify(&bytes).unwrap();
        assert_eq!(identify(b"QFI\xfb\0\0\0\x03"), Some(Format::Qcow2));
        assert_eq!(
            identify(b"LibvirtQemudSave\x02"),
            Some(Format::LibvirtImage)
        );
        assert_eq!(
            identify(b"LibvirtQemudPart\x02"),
            Some(Format::LibvirtImage)
        );
        assert_eq!(
            identify(b"\0\0\xaa\xaa\x84\x19\x10\x07"),
            Some(Format::Firecracker)
        );
        assert_eq!(
            identify(br#"{"snapshots":{"cpu-manager":"#),
            Some(Format::CloudHypervisor)
        );
        assert_eq!(identify(br#"{"snapshots":1}"#), None);
        assert_eq!(identify(b"QEVM\0\0\0\x03"), None);
        assert_eq!(identify(b"QF"), None);
        assert_eq!(identify(b""), None);
    }
}
