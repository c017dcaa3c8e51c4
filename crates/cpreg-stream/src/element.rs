//! The elements a stream is made of: header, configuration, section headers and footers, commands.
//!
//! All integers are big-endian, nothing is aligned. Read from QEMU's `migration/savevm.c`, v5.2 to
//! 11.x, and seen in streams of 5.2, 7.2, 10.0 and 11.1.
//!
//! | element | bytes |
//! |---|---|
//! | header | `QEVM`, u32 version (3) |
//! | CONFIGURATION | u8 7, u32 n, n bytes machine type, subsections |
//! | START, FULL | u8 1 or 4, u32 id, u8 n, n bytes name, u32 instance, u32 version, payload, footer |
//! | PART, END | u8 2 or 3, u32 id, payload, footer |
//! | footer | u8 0x7e, u32 id |
//! | COMMAND | u8 8, u16 command, u16 n, n bytes |
//! | EOF | u8 0 |
//! | VMDESCRIPTION | u8 6, u32 n, n bytes JSON; after EOF |
//! | subsection of a payload | u8 5, u8 n, n bytes name, u32 version, payload |
//!
//! Payloads have no length; who knows theirs lives in [`crate::ram`], [`crate::live`],
//! [`crate::cpu`], [`crate::vmdescription`] and [`crate::scan`].

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
/// The id string of a vCPU's section.
pub(crate) const CPU: &str = "cpu";

/// The first byte of the description behind EOF.
pub const VMDESCRIPTION: u8 = 0x06;
pub(crate) const CONFIGURATION: u8 = 0x07;
pub(crate) const COMMAND: u8 = 0x08;
pub(crate) const FOOTER: u8 = 0x7e;

/// Bytes of a footer: the mark and the section's id.
pub(crate) const FOOTER_LEN: u64 = 5;
/// Bytes of an element's type, a section's id, name length, instance and version.
pub(crate) const SECTION_HEADER_LEN: u64 = 1 + 4 + 1 + 4 + 4;

/// What stands where the header's magic was while an edit in place is under way.
pub(crate) const UNFINISHED_MAGIC: [u8; 4] = *b"cpRG";
pub(crate) const MAGIC: [u8; 4] = *b"QEVM";

/// The machine's configuration, as it stands behind the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The machine type (`virt-10.0`).
    pub machine: String,
    /// log2 of the target page size, in bytes. A stream without it has the target's usual one.
    pub target_page_bits: Option<u32>,
    /// Migration capabilities that the other side must have too (`x-ignore-shared`, `mapped-ram`).
    pub capabilities: Vec<String>,
    /// The VM's UUID, with `x-validate-uuid`.
    pub uuid: Option<[u8; 16]>,
}

impl Configuration {
    /// Whether the stream was written with this capability, of those that are recorded.
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities
            .iter()
            .any(|capability| capability == name)
    }
}

/// What kind of section this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SectionKind {
    /// The first part of a live section (RAM).
    Start,
    /// A further part of a live section.
    Part,
    /// The last part of a live section.
    End,
    /// A device's whole state.
    Full,
}

/// One section and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Which kind.
    pub kind: SectionKind,
    /// The number the source gave it, unique in the stream.
    pub id: u32,
    /// QEMU's id string (`cpu`, `0000:00:01.0/virtio-net`).
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
    /// Its bytes from header to footer.
    pub range: Range<u64>,
    /// The bytes between header and footer.
    pub payload: Range<u64>,
}

/// A command to the loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Which one.
    pub(crate) code: CommandCode,
    /// Its bytes, without the header of five bytes.
    pub(crate) payload: Range<u64>,
}

/// The number of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CommandCode(pub(crate) u16);

impl CommandCode {
    /// A return path will be used.
    pub(crate) const OPEN_RETURN_PATH: Self = Self(1);
    /// The loader shall answer with the number given.
    pub(crate) const PING: Self = Self(2);
    /// Postcopy may follow: page sizes, or nothing if only bitmaps will be sent late.
    pub(crate) const POSTCOPY_ADVISE: Self = Self(3);
    /// Pages will be asked for from now on.
    pub(crate) const POSTCOPY_LISTEN: Self = Self(4);
    /// The guest shall run.
    pub(crate) const POSTCOPY_RUN: Self = Self(5);
    /// Pages sent before are stale.
    pub(crate) const POSTCOPY_RAM_DISCARD: Self = Self(6);
    /// A stream of device state follows, of the length given.
    pub(crate) const PACKAGED: Self = Self(7);
    /// COLO begins; until 10.1.
    pub(crate) const ENABLE_COLO: Self = Self(8);
    /// An interrupted postcopy goes on.
    pub(crate) const POSTCOPY_RESUME: Self = Self(9);
    /// The loader shall send its bitmap of received pages.
    pub(crate) const RECV_BITMAP: Self = Self(10);
    /// The guest has been stopped; 10.0 and later.
    pub(crate) const SWITCHOVER_START: Self = Self(11);

    /// Whether QEMU takes `length` bytes for this command.
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

/// The fields of a section's header behind its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SectionHeader {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) instance: u32,
    pub(crate) version: u32,
}

/// Reads the header of a START or FULL section; its type has been taken.
pub(crate) fn read_section_header(cursor: &mut Cursor<'_>) -> Result<SectionHeader, Error> {
    Ok(SectionHeader {
        id: cursor.read_be32()?,
        name: cursor.read_name()?,
        instance: cursor.read_be32()?,
        version: cursor.read_be32()?,
    })
}

/// Takes the footer of section `id`.
pub(crate) fn read_footer(cursor: &mut Cursor<'_>, id: u32) -> Result<(), Error> {
    let start = cursor.position();
    let mark = cursor.read_u8()?;
    let found = cursor.read_be32()?;
    if mark == FOOTER && found == id {
        return Ok(());
    }
    Err(Error::malformed(
        start,
        format!("no footer of section {id} where the section must end"),
    )
    .with_hint("the stream is damaged, or was written with send-section-footer=off"))
}

/// Takes a command; its type has been taken.
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

/// Recognises the file and goes over its header.
pub(crate) fn read_header(source: &dyn ReadAt, cursor: &mut Cursor<'_>) -> Result<(), Error> {
    let mut magic = [0; 16];
    let length = usize::try_from(cursor.end()).unwrap_or(16).min(16);
    source
        .read_exact_at(&mut magic[..length], 0)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::IsADirectory => {
                Error::new(ErrorKind::NotAStream, "this is a directory")
                    .with_hint("name the file in it")
            }
            _ => Error::io("cannot read", error).at_offset(0),
        })?;
    check_magic(&magic[..length])?;
    cursor.skip(4)?;
    match cursor.read_be32()? {
        3 => Ok(()),
        2 => Err(Error::new(
            ErrorKind::ObsoleteVersion,
            "a stream of version 2, which QEMU stopped to load in 2009",
        )
        .at_offset(4)),
        version => Err(Error::new(
            ErrorKind::Unsupported,
            format!("a stream of version {version}; QEMU writes version 3"),
        )
        .at_offset(4)),
    }
}

/// Tells from its first bytes whether this is a stream, and if not what else it is.
fn check_magic(magic: &[u8]) -> Result<(), Error> {
    let wrong = |kind, message: &'static str| Error::new(kind, message).at_offset(0);
    if magic.is_empty() {
        return Err(wrong(ErrorKind::NotAStream, "the file is empty"));
    }
    if magic.starts_with(&MAGIC) {
        return Ok(());
    }
    if magic.starts_with(&UNFINISHED_MAGIC) {
        return Err(wrong(
            ErrorKind::UnfinishedEdit,
            "an edit of this file was interrupted",
        )
        .with_hint("the journal beside it holds what was there before: recover it from that"));
    }
    if magic.starts_with(&[0x11, 0x22, 0x33, 0x44]) {
        return Err(wrong(
            ErrorKind::MultifdChannel,
            "one channel of a multifd migration: it holds pages and no CPU state",
        )
        .with_hint("give the main channel, the one that begins with QEVM"));
    }
    if magic.starts_with(b"QCPR") {
        return Err(wrong(
            ErrorKind::NotAStream,
            "the channel on which QEMU hands over open files (cpr-transfer): it holds no CPU state",
        )
        .with_hint(
            "such a migration stays on one host, whose registers do not change: it needs no repair",
        ));
    }
    if magic.starts_with(&[0x16, 0x03]) {
        return Err(wrong(
            ErrorKind::Tls,
            "a TLS handshake: the stream is encrypted from end to end, and nobody between can \
             read it",
        )
        .with_hint(
            "switch TLS off for this migration (tls-creds), and protect the connection outside \
             QEMU, or work where TLS has ended",
        ));
    }
    if magic.starts_with(&[COMMAND, 0, 9, 0, 0]) {
        return Err(wrong(
            ErrorKind::Unsupported,
            "a postcopy migration that was interrupted and goes on: its device state went over \
             the connection before",
        )
        .with_hint("connect the two QEMUs without anything between: nothing is left to change"));
    }
    if magic.starts_with(b"LibvirtQemudSave") || magic.starts_with(b"LibvirtQemudPart") {
        return Err(wrong(
            ErrorKind::LibvirtImage,
            "a save image of libvirt: the stream is inside it, perhaps compressed",
        )
        .with_hint("restore it with libvirt where it was saved, and migrate the VM to a file"));
    }
    if magic.starts_with(b"QFI\xfb") {
        return Err(wrong(
            ErrorKind::Qcow2Image,
            "a qcow2 disk image; a VM state in it would be an internal snapshot",
        )
        .with_hint("load the snapshot into QEMU and migrate it to a file"));
    }
    Err(wrong(
        ErrorKind::NotAStream,
        "not a QEMU migration stream: it does not begin with QEVM",
    )
    .with_hint(
        "save the VM's state with QEMU: migrate \"file:FILE\" (8.2 and later) or \"exec:cat > \
         FILE\"",
    ))
}

/// Takes the configuration, if there is one.
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
            format!("a machine type of {length} bytes"),
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
                return Err(Error::malformed(start, format!("pages of 2^{bits} bytes")));
            }
            configuration.target_page_bits = Some(bits);
        }
        "configuration/capabilities" => {
            let count = cursor.read_be32()?;
            if count > 256 {
                return Err(Error::malformed(start, format!("{count} capabilities")));
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
                "an unknown part of the configuration",
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
    fn knows_its_relatives() {
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
    fn commands_have_their_lengths() {
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
