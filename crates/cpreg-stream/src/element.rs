//! The elements of a stream: header, configuration, section headers and footers, commands.
//!
//! All integers are big-endian, nothing is aligned. Read from QEMU's `migration/savevm.c`, v5.2 to
//! 11.x, and checked with streams of 5.2, 7.2, 10.0 and 11.1.
//!
//! | element | bytes |
//! |---|---|
//! | header | `QEVM`, u32 version (3) |
//! | CONFIGURATION | u8 7, u32 n, n bytes machine type, subsections |
//! | START, FULL | u8 1 or 4, u32 id, u8 n, n bytes name, u32 instance, u32 version, payload |
//! | PART, END | u8 2 or 3, u32 id, payload |
//! | footer of these four | u8 0x7e, u32 id |
//! | COMMAND | u8 8, u16 command, u16 n, n bytes |
//! | EOF | u8 0 |
//! | VMDESCRIPTION | u8 6, u32 n, n bytes JSON; after EOF |
//! | subsection of a payload | u8 5, u8 n, n bytes name, u32 version, payload |
//!
//! Payloads have no length field. Their lengths are found in [`crate::ram`],
//! [`crate::live_sections`], [`crate::cpu`], [`crate::vmdescription`] and
//! [`crate::section_search`].

use std::ops::Range;

use crate::cursor::Cursor;
use crate::error::{Error, ErrorKind, PrependPath};
use crate::source::ReadAt;

pub(crate) const EOF: u8 = 0x00;
pub(crate) const START: u8 = 0x01;
pub(crate) const PART: u8 = 0x02;
pub(crate) const END: u8 = 0x03;
pub(crate) const FULL: u8 = 0x04;
pub(crate) const SUBSECTION: u8 = 0x05;
/// Id string of a vCPU's section.
pub(crate) const CPU: &str = "cpu";

/// First byte of the description, which follows EOF.
pub const VMDESCRIPTION: u8 = 0x06;
pub(crate) const CONFIGURATION: u8 = 0x07;
pub(crate) const COMMAND: u8 = 0x08;
pub(crate) const FOOTER: u8 = 0x7e;

/// Bytes of a footer: the marker and the section's id.
pub(crate) const FOOTER_LEN: u64 = 5;
/// Bytes of an element's type, a section's id, name length, instance and version.
pub(crate) const SECTION_HEADER_LEN: u64 = 1 + 4 + 1 + 4 + 4;

/// Replacement of the header's magic during an edit in place.
pub(crate) const UNFINISHED_MAGIC: [u8; 4] = *b"cpRG";
pub(crate) const MAGIC: [u8; 4] = *b"QEVM";

/// Configuration of the machine, which follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Machine type (`virt-10.0`).
    pub machine: String,
    /// Binary logarithm of the target page size in bytes. `None` means the target's default size.
    pub target_page_bits: Option<u32>,
    /// Migration capabilities that the destination must have too (`x-ignore-shared`, `mapped-ram`).
    pub capabilities: Vec<String>,
    /// UUID of the VM, present with `x-validate-uuid`.
    pub uuid: Option<[u8; 16]>,
}

impl Configuration {
    /// Returns `true` if the stream records this capability.
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities
            .iter()
            .any(|capability| capability == name)
    }
}

/// Kind of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SectionKind {
    /// First part of a live section (RAM).
    Start,
    /// Further part of a live section.
    Part,
    /// Last part of a live section.
    End,
    /// Whole state of a device.
    Full,
}

/// Section and its place in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// Kind of the section.
    pub kind: SectionKind,
    /// Number that the source assigned to the section, unique in the stream.
    pub id: u32,
    /// QEMU's id string (`cpu`, `0000:00:01.0/virtio-net`).
    pub name: String,
    /// Instance number of the section among sections of the same name.
    pub instance: u32,
    /// Version of the section's format.
    pub version: u32,
    /// File range of the section, from the first byte of its header to the last of its footer.
    pub range: Range<u64>,
    /// File range of the section's payload, between header and footer.
    pub payload: Range<u64>,
}

/// Command to the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Number of the command.
    pub(crate) code: CommandCode,
    /// Range of the command's arguments, which follow the header of five bytes.
    pub(crate) payload: Range<u64>,
}

/// Number of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandCode(pub(crate) u16);

impl CommandCode {
    /// Opens the return path.
    pub(crate) const OPEN_RETURN_PATH: Self = Self(1);
    /// Requests an answer with the given number.
    pub(crate) const PING: Self = Self(2);
    /// Announces that postcopy may follow. The payload holds page sizes, or nothing if only dirty
    /// bitmaps are sent in postcopy.
    pub(crate) const POSTCOPY_ADVISE: Self = Self(3);
    /// Makes the destination request pages on the return path from now on.
    pub(crate) const POSTCOPY_LISTEN: Self = Self(4);
    /// Starts the guest at the destination.
    pub(crate) const POSTCOPY_RUN: Self = Self(5);
    /// Discards pages that the source has changed since it sent them.
    pub(crate) const POSTCOPY_RAM_DISCARD: Self = Self(6);
    /// Announces the package of a postcopy migration: device state of the given length.
    pub(crate) const PACKAGED: Self = Self(7);
    /// Enables COLO; until 10.1.
    pub(crate) const ENABLE_COLO: Self = Self(8);
    /// Resumes an interrupted postcopy migration.
    pub(crate) const POSTCOPY_RESUME: Self = Self(9);
    /// Requests the loader's bitmap of received pages.
    pub(crate) const RECV_BITMAP: Self = Self(10);
    /// Announces that the guest has been stopped; 10.0 and later.
    pub(crate) const SWITCHOVER_START: Self = Self(11);

    /// Returns `true` if QEMU accepts `length` bytes for this command.
    pub(crate) fn accepts_length(self, length: u16) -> bool {
        match self {
            Self::OPEN_RETURN_PATH
            | Self::POSTCOPY_LISTEN
            | Self::POSTCOPY_RUN
            | Self::ENABLE_COLO
            | Self::POSTCOPY_RESUME
            | Self::SWITCHOVER_START => length == 0,
            Self::PING | Self::PACKAGED => length == 4,
            Self::POSTCOPY_ADVISE => length == 0 || length == 16,
            // u8 version, u8 n, name, u8 0, then pairs of u64.
            Self::POSTCOPY_RAM_DISCARD => length >= 4,
            Self::RECV_BITMAP => length >= 2,
            _ => false,
        }
    }
}

/// Fields of a section's header after its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SectionHeader {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) instance: u32,
    pub(crate) version: u32,
}

/// Reads the header of a START or FULL section, after its type.
pub(crate) fn read_section_header(cursor: &mut Cursor<'_>) -> Result<SectionHeader, Error> {
    Ok(SectionHeader {
        id: cursor.read_be32()?,
        name: cursor.read_name()?,
        instance: cursor.read_be32()?,
        version: cursor.read_be32()?,
    })
}

/// Reads the footer of section `id`.
pub(crate) fn read_footer(cursor: &mut Cursor<'_>, id: u32) -> Result<(), Error> {
    let start = cursor.position();
    let mark = cursor.read_u8()?;
    let found = cursor.read_be32()?;
    if mark == FOOTER && found == id {
        return Ok(());
    }
    Err(
        Error::malformed(start, format!("section {id} does not end with its footer"))
            .with_hint("the stream is damaged, or was written with send-section-footer=off"),
    )
}

/// Reads a command, after its type.
pub(crate) fn read_command(cursor: &mut Cursor<'_>) -> Result<Command, Error> {
    let start = cursor.position();
    let code = CommandCode(cursor.read_be16()?);
    let length = cursor.read_be16()?;
    if !code.accepts_length(length) {
        return Err(Error::unsupported(
            start,
            format!("command {} of {length} bytes is unknown", code.0),
        ));
    }
    let payload = cursor.position()..cursor.position() + u64::from(length);
    cursor.skip(u64::from(length))?;
    Ok(Command { code, payload })
}

/// Identifies the file and reads its header.
pub(crate) fn read_header(source: &dyn ReadAt, cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let mut magic = [0; 16];
    let length = usize::try_from(cursor.end()).unwrap_or(16).min(16);
    source
        .read_exact_at(&mut magic[..length], 0)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::IsADirectory => {
                Error::new(ErrorKind::NotAStream, "this is a directory")
                    .with_hint("give the path of a file in it")
            }
            _ => Error::io("cannot read", error).at_offset(0),
        })?;
    check_magic(&magic[..length])?;
    cursor.skip(4)?;
    match cursor.read_be32()? {
        3 => Ok(()),
        2 => Err(Error::new(
            ErrorKind::ObsoleteVersion,
            "a stream of version 2, which QEMU has not loaded since 2009",
        )
        .at_offset(4)),
        version => Err(Error::new(
            ErrorKind::Unsupported,
            format!("a stream of version {version}; QEMU writes version 3"),
        )
        .at_offset(4)),
    }
}

/// Checks the first bytes of a stream; the error names another known format.
fn check_magic(magic: &[u8]) -> Result<(), Error> {
    let error = |kind, message: &'static str| Error::new(kind, message).at_offset(0);
    if magic.is_empty() {
        return Err(error(ErrorKind::NotAStream, "the file is empty"));
    }
    if magic.starts_with(&MAGIC) {
        return Ok(());
    }
    if magic.starts_with(&UNFINISHED_MAGIC) {
        return Err(error(
            ErrorKind::UnfinishedEdit,
            "an edit of this file was interrupted",
        )
        .with_hint("recover the file from the journal next to it, which holds the old bytes"));
    }
    if magic.starts_with(&[0x11, 0x22, 0x33, 0x44]) {
        return Err(error(
            ErrorKind::MultifdChannel,
            "a multifd channel of a migration: it holds pages and no CPU state",
        )
        .with_hint("give the main channel, the one that begins with QEVM"));
    }
    if magic.starts_with(b"QCPR") {
        return Err(error(
            ErrorKind::NotAStream,
            "the channel on which QEMU hands over open files (cpr-transfer): it holds no CPU state",
        )
        .with_hint(
            "such a migration stays on one host, whose registers do not change: it needs no cpreg",
        ));
    }
    if magic.starts_with(&[0x16, 0x03]) {
        return Err(error(
            ErrorKind::Tls,
            "a TLS handshake: the stream is encrypted from end to end, and no relay can read it",
        )
        .with_hint(
            "switch TLS off for this migration (tls-creds), and protect the connection outside \
             QEMU, or run cpreg where the stream is no longer encrypted",
        ));
    }
    if magic.starts_with(&[COMMAND, 0, 9, 0, 0]) {
        return Err(error(
            ErrorKind::Unsupported,
            "a resumed postcopy migration: its device state was sent over an earlier connection",
        )
        .with_hint("connect the two QEMUs directly: nothing is left to change"));
    }
    if magic.starts_with(b"LibvirtQemudSave") || magic.starts_with(b"LibvirtQemudPart") {
        return Err(error(
            ErrorKind::LibvirtImage,
            "a save image of libvirt, which contains the stream, possibly compressed",
        )
        .with_hint("name the file: `cpreg check` and `cpreg convert` read save images"));
    }
    if magic.starts_with(b"QFI\xfb") {
        return Err(error(
            ErrorKind::Qcow2Image,
            "a qcow2 disk image; its VM states are internal snapshots",
        )
        .with_hint("name the file: `cpreg check` and `cpreg convert` read its snapshots"));
    }
    Err(error(
        ErrorKind::NotAStream,
        "not a QEMU migration stream: it does not begin with QEVM",
    )
    .with_hint(
        "save the VM's state with QEMU: migrate \"file:FILE\" (8.2 and later) or \"exec:cat > \
         FILE\"",
    ))
}

/// Reads the configuration, if there is one.
pub(crate) fn read_configuration(cursor: &mut Cursor<'_>) -> Result<Option<Configuration>, Error> {
    if cursor.peek(1)?[0] != CONFIGURATION {
        return Ok(None);
    }
    let start = cursor.position();
    cursor.skip(1)?;
    let length = cursor.read_be32()?;
    if length > 255 {
        return Err(Error::malformed(
            start,
            format!("the machine type has {length} bytes, at most 255 are possible"),
        ));
    }
    let machine = cursor
        .read_text(length as usize, start)
        .prepend_path(|| "configuration.name".into())?;
    let mut configuration = Configuration {
        machine,
        target_page_bits: None,
        capabilities: Vec::new(),
        uuid: None,
    };
    while cursor.peek(1)?[0] == SUBSECTION {
        let start = cursor.position();
        cursor.skip(1)?;
        let name = cursor.read_name().prepend_path(|| "configuration".into())?;
        let version = cursor.read_be32()?;
        read_configuration_subsection(cursor, &mut configuration, &name, version, start)
            .prepend_path(|| name.clone())?;
    }
    Ok(Some(configuration))
}

fn read_configuration_subsection(
    cursor: &mut Cursor<'_>,
    configuration: &mut Configuration,
    name: &str,
    version: u32,
    start: u64,
) -> Result<(), Error> {
    if version != 1 {
        return Err(Error::unsupported(start, format!("version {version}")));
    }
    match name {
        "configuration/target-page-bits" => {
            let bits = cursor.read_be32()?;
            // RAM records keep their flags below the page size; the highest flag is bit 9.
            if !(10..=16).contains(&bits) {
                return Err(Error::malformed(
                    start,
                    format!("the target page size is 2^{bits} bytes"),
                ));
            }
            configuration.target_page_bits = Some(bits);
        }
        "configuration/capabilities" => {
            let count = cursor.read_be32()?;
            if count > 256 {
                return Err(Error::malformed(
                    start,
                    format!("the list has {count} capabilities"),
                ));
            }
            for _ in 0..count {
                configuration.capabilities.push(cursor.read_name()?);
            }
        }
        "configuration/uuid" => {
            let mut uuid = [0; 16];
            uuid.copy_from_slice(cursor.take(16)?);
            configuration.uuid = Some(uuid);
        }
        _ => {
            return Err(Error::unsupported(
                start,
                "an unknown subsection of the configuration",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Configuration>, Error> {
        let mut cursor = Cursor::new(&bytes, 0, bytes.len() as u64, 4096);
        read_header(&bytes, &mut cursor)?;
        read_configuration(&mut cursor)
    }

    #[test]
    fn reads_every_part_of_the_configuration() {
        let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x08virt-7.2".to_vec();
        bytes.extend(b"\x05\x1econfiguration/target-page-bits\0\0\0\x01\0\0\0\x0c");
        bytes.extend(b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0amapped-ram");
        bytes.extend(b"\x05\x12configuration/uuid\0\0\0\x010123456789abcdef\0");
        let configuration = read(&bytes).unwrap().unwrap();
        assert_eq!(configuration.machine, "virt-7.2");
        assert_eq!(configuration.target_page_bits, Some(12));
        assert!(configuration.has_capability("mapped-ram"));
        assert_eq!(configuration.uuid.as_ref(), Some(b"0123456789abcdef"));
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn other_formats_are_identified() {
        let kind = |bytes: &[u8]| read(bytes).unwrap_err().kind();
        assert_eq!(kind(b""), ErrorKind::NotAStream);
        assert_eq!(kind(b"QEV"), ErrorKind::NotAStream);
        assert_eq!(kind(b"QEVM"), ErrorKind::Truncated);
        assert_eq!(kind(b"QEVM\0\0\0\x02"), ErrorKind::ObsoleteVersion);
        assert_eq!(
            kind(b"\x11\x22\x33\x44\0\0\0\x01"),
            ErrorKind::MultifdChannel
        );
        assert_eq!(kind(b"LibvirtQemudSave\x02\0"), ErrorKind::LibvirtImage);
        assert_eq!(kind(b"QFI\xfb\0\0\0\x03"), ErrorKind::Qcow2Image);
        assert_eq!(kind(b"cpRG\0\0\0\x03"), ErrorKind::UnfinishedEdit);
        assert_eq!(kind(b"QCPR\0\0\0\x01"), ErrorKind::NotAStream);
        assert_eq!(kind(b"\x16\x03\x01\x02\0\x01"), ErrorKind::Tls);
        assert_eq!(kind(b"\x08\0\x09\0\0"), ErrorKind::Unsupported);
        assert_eq!(kind(b"\x7fELF"), ErrorKind::NotAStream);
    }

    #[test]
    fn commands_with_wrong_lengths_are_rejected() {
        let read = |bytes: &[u8]| {
            let bytes = bytes.to_vec();
            read_command(&mut Cursor::new(&bytes, 0, bytes.len() as u64, 64))
        };
        let ping = read(&[0, 2, 0, 4, 0, 0, 0, 9]).unwrap();
        assert_eq!((ping.code, ping.payload), (CommandCode::PING, 4..8));
        assert_eq!(
            read(&[0, 2, 0, 3, 0, 0, 0]).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            read(&[0, 99, 0, 0]).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
        assert_eq!(
            read(&[0, 2, 0, 4, 0]).unwrap_err().kind(),
            ErrorKind::Truncated
        );
    }
}
