//! A file as it is once it is unpacked: files that can be read once only, and what packs others, are
//! copied into unnamed temporary files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cpreg_hosts::record;

use crate::failure::Failure;

/// The format that a file was packed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// `fd 37 7a 58 5a 00`.
    Xz,
    /// `1f 8b`.
    Gzip,
    /// `28 b5 2f fd`.
    Zstd,
}

impl Compression {
    /// Returns the name that people and JSON know it by.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub(super) fn read_start(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(filled)
}

/// The file itself, or an unnamed one with what it unpacks to.
pub(super) fn open_decompressed(path: &Path) -> Result<(File, Option<Compression>), Failure> {
    let failure = |error| Failure::io("open", path, error);
    if path == Path::new("-") {
        let unread = |error| Failure::io("read", path, error);
        let file = spool_once(&mut io::stdin().lock(), path, &unread)?;
        return decompress(file, path);
    }
    let file = File::open(path).map_err(|error| {
        let is_absent = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        );
        let hint = is_absent.then(|| missing_file_hint(path)).flatten();
        hint.into_iter().fold(failure(error), Failure::with_hint)
    })?;
    let kind = file.metadata().map_err(failure)?.file_type();
    if kind.is_dir() {
        return Err(Failure::new(format!("{} is a directory", path.display()))
            .with_hint("name the stream or profile in it"));
    }
    if !kind.is_file() {
        // A pipe: it can be read once only.
        let mut pipe = file;
        let unread = |error| Failure::io("read", path, error);
        let file = spool_once(&mut pipe, path, &unread)?;
        return decompress(file, path);
    }
    decompress(file, path)
}

/// What to do about a name that is no file's, where it is a name that has a meaning elsewhere.
fn missing_file_hint(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if text == "kvm" || text.starts_with("kvm/") {
        return Some(
            "kvm, this machine's own, is for DESTINATION; `cpreg probe kvm -o FILE` records it as a file"
                .to_owned(),
        );
    }
    if text.starts_with(record::PREFIX) {
        return Some(
            "a recorded host is no VM: here goes a migration stream, a running QEMU's monitor or \
             a report; `cpreg diff` compares two hosts"
                .to_owned(),
        );
    }
    let file = path.parent().filter(|parent| parent.is_file())?;
    Some(format!(
        "{0} is a file; behind that of a recorded host a guest's vCPU features may stand: {0}/pmu, {0}/pmu,sve, {0}/none",
        file.display()
    ))
}

fn decompress(file: File, path: &Path) -> Result<(File, Option<Compression>), Failure> {
    let mut magic = [0; 6];
    let length = read_start(&file, &mut magic).map_err(|error| Failure::io("read", path, error))?;
    let foreign = match &magic[..length] {
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bzip2 -d")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(("lz4", "lz4 -d")),
        _ => None,
    };
    if let Some((name, command)) = foreign {
        return Err(Failure::new(format!(
            "{} is packed with {name}, which cpreg does not unpack",
            path.display()
        ))
        .with_hint(format!(
            "unpack it first: {command}; xz, gzip and zstd are read as they are"
        )));
    }
    let damaged = |error: io::Error| {
        Failure::io("unpack", path, error)
            .with_hint("it is damaged or not all there: get a complete copy")
    };
    let (compression, mut reader): (_, Box<dyn Read>) = match &magic[..length] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => (
            Compression::Xz,
            Box::new(lzma_rust2::XzReader::new(file, true)),
        ),
        [0x1f, 0x8b, ..] => (
            Compression::Gzip,
            Box::new(flate2::read::MultiGzDecoder::new(file)),
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (
            Compression::Zstd,
            Box::new(
                ruzstd::decoding::StreamingDecoder::new(file)
                    .map_err(|error| damaged(io::Error::other(error)))?,
            ),
        ),
        _ => return Ok((file, None)),
    };
    Ok((spool(&mut reader, path, &damaged)?, Some(compression)))
}

/// How anything begins that is read, packed or not: streams (one that an edit in place was interrupted in, too), and what packs them. JSON
/// begins with a brace, perhaps behind white space.
const MAGIC_PREFIXES: [&[u8]; 7] = [
    b"QEVM",
    b"cpRG",
    b"\xfd7zXZ",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\x04\x22\x4d\x18",
];

/// Copies what can be read once only, whole if it may be anything that is read, else only its begin: it may have no end.
fn spool_once(
    reader: &mut dyn Read,
    path: &Path,
    unread: &dyn Fn(io::Error) -> Failure,
) -> Result<File, Failure> {
    let mut start = Vec::new();
    let mut begin = reader.take(4 << 10);
    begin.read_to_end(&mut start).map_err(unread)?;
    let is_json = start.trim_ascii_start().first() == Some(&b'{');
    if is_json || MAGIC_PREFIXES.iter().any(|it| start.starts_with(it)) {
        return spool(&mut start.as_slice().chain(reader), path, unread);
    }
    spool(&mut start.as_slice(), path, unread)
}

/// Copies everything into an unnamed temporary file, with holes where there are only zeros.
pub(super) fn spool(
    reader: &mut dyn Read,
    path: &Path,
    unread: &dyn Fn(io::Error) -> Failure,
) -> Result<File, Failure> {
    const BLOCK: usize = 1 << 16;
    let temporary = |error| {
        Failure::io("write a temporary copy of", path, error)
            .with_hint("TMPDIR names the directory for temporary files")
    };
    let mut file = tempfile::tempfile().map_err(temporary)?;
    let mut block = vec![0; BLOCK];
    let mut length = 0_u64;
    loop {
        let mut filled = 0;
        while filled < BLOCK {
            let more = reader.read(&mut block[filled..]).map_err(unread)?;
            if more == 0 {
                break;
            }
            filled += more;
        }
        length += filled as u64;
        let data = &block[..filled];
        if data.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Start(length)).map_err(temporary)?;
        } else {
            file.write_all(data).map_err(temporary)?;
        }
        if filled < BLOCK {
            break;
        }
    }
    file.set_len(length).map_err(temporary)?;
    file.seek(SeekFrom::Start(0)).map_err(temporary)?;
    Ok(file)
}
