//! Decompression of input files.
//!
//! Compressed files, and files that can be read only once, are copied into unnamed temporary files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cpreg_hosts::record;

use crate::failure::Failure;
use crate::progress::CompressedFile;

/// Compression format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Format xz, magic bytes `fd 37 7a 58 5a 00`.
    Xz,
    /// Format gzip, magic bytes `1f 8b`.
    Gzip,
    /// Format zstd, magic bytes `28 b5 2f fd`.
    Zstd,
}

impl Compression {
    /// Returns the name of the format in reports and JSON.
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

/// Reads up to `bytes.len()` bytes from the start of a file, and returns the number of bytes read.
pub(super) fn read_start(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(filled)
}

/// Opens a file. Returns the file itself, or an unnamed temporary file with its decompressed
/// content.
pub(crate) fn open_decompressed(path: &Path) -> Result<(File, Option<Compression>), Failure> {
    let failure = |error| Failure::io("open", path, error);
    if path == Path::new("-") {
        let read_failure = |error| Failure::io("read", path, error);
        let file = spool_once(&mut io::stdin().lock(), path, &read_failure)?;
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
        return Err(Failure::new(format!("{} is a directory", path.display())).with_path(path));
    }
    if !kind.is_file() {
        // Copy a pipe, because a pipe can be read only once.
        let mut pipe = file;
        let read_failure = |error| Failure::io("read", path, error);
        let file = spool_once(&mut pipe, path, &read_failure)?;
        return decompress(file, path);
    }
    decompress(file, path)
}

/// Returns a hint for a path without a file that is valid as another argument, such as `kvm`.
fn missing_file_hint(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    let (first, _) = text.split_once('/').unwrap_or((text, ""));
    if first.eq_ignore_ascii_case("kvm") {
        return Some(
            "kvm, this machine's KVM, is valid as DESTINATION only; `cpreg probe kvm -o FILE` \
             records it in a file"
                .to_owned(),
        );
    }
    if text.starts_with(record::HOST_NAME_PREFIX) {
        return Some(
            "a recorded host is not a VM: name a migration stream, the monitor of a running QEMU \
             or a report; `cpreg diff` compares two hosts"
                .to_owned(),
        );
    }
    let file = path.parent().filter(|parent| parent.is_file())?;
    Some(format!(
        "{0} is a file; only the file of a recorded host may be followed by vCPU features: \
         {0}/pmu, {0}/pmu,sve, {0}/none",
        file.display()
    ))
}

/// Returns a hint that names the streams in a folder, or says that it has none.
pub(super) fn describe_folder(folder: &Path) -> String {
    /// Maximum number of files whose beginning is read.
    const MAX_FILES: usize = 1000;
    /// Maximum number of files in the hint.
    const MAX_LISTED: usize = 5;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return "name a stream or profile in it".to_owned();
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_cut = paths.len() > MAX_FILES;
    paths.truncate(MAX_FILES);
    paths.retain(|path| is_stream(path).unwrap_or(false));
    let rest = paths.len().saturating_sub(MAX_LISTED);
    let names = paths.iter().take(MAX_LISTED);
    let names: Vec<_> = names.map(|path| path.display().to_string()).collect();
    match (names.is_empty(), rest) {
        (true, _) if is_cut => {
            format!("none of its first {MAX_FILES} files is a migration stream: name the file")
        }
        (true, _) => "no file in it is a migration stream, also compressed".to_owned(),
        (false, 0) => format!("migration streams in it: {}", names.join(", ")),
        (false, rest) => format!(
            "migration streams in it: {} and {rest} more",
            names.join(", ")
        ),
    }
}

/// Returns `true` if a regular file begins like a migration stream, also after decompression.
fn is_stream(path: &Path) -> io::Result<bool> {
    const STREAM_MAGIC: [u8; 4] = *b"QEVM";
    // An open of a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Ok(false);
    }
    let file = File::open(path)?;
    let mut magic = [0; 6];
    let length = read_start(&file, &mut magic)?;
    let mut reader: Box<dyn Read> = match &magic[..length] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(lzma_rust2::XzReader::new(file, true)),
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(file).map_err(io::Error::other)?)
        }
        start => return Ok(start.starts_with(&STREAM_MAGIC)),
    };
    let mut start = STREAM_MAGIC.map(|_| 0);
    reader.read_exact(&mut start)?;
    Ok(start == STREAM_MAGIC)
}

fn decompress(file: File, path: &Path) -> Result<(File, Option<Compression>), Failure> {
    let mut magic = [0; 6];
    let length = read_start(&file, &mut magic).map_err(|error| Failure::io("read", path, error))?;
    let unsupported = match &magic[..length] {
        [b'B', b'Z', b'h', ..] => Some(("bzip2", "bzip2 -d")),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some(("lz4", "lz4 -d")),
        _ => None,
    };
    if let Some((name, command)) = unsupported {
        return Err(Failure::new(format!(
            "{} is compressed with {name}, which cpreg does not support",
            path.display()
        ))
        .with_path(path)
        .with_hint(format!(
            "decompress it first: {command}; cpreg reads xz, gzip and zstd"
        )));
    }
    let damaged = |error: io::Error| {
        Failure::io("decompress", path, error)
            .with_hint("the file is damaged or truncated: get a complete copy")
    };
    let compressed = |file| CompressedFile::new(file, path);
    let (compression, mut reader): (_, Box<dyn Read>) = match &magic[..length] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => (
            Compression::Xz,
            Box::new(lzma_rust2::XzReader::new(compressed(file), true)),
        ),
        [0x1f, 0x8b, ..] => (
            Compression::Gzip,
            Box::new(flate2::read::MultiGzDecoder::new(compressed(file))),
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (
            Compression::Zstd,
            Box::new(
                ruzstd::decoding::StreamingDecoder::new(compressed(file))
                    .map_err(|error| damaged(io::Error::other(error)))?,
            ),
        ),
        _ => return Ok((file, None)),
    };
    Ok((spool(&mut reader, path, &damaged)?, Some(compression)))
}

/// Magic bytes of supported inputs: streams, streams with an interrupted edit in place, saved VMs,
/// and compressed files. JSON begins with a brace, after optional white space.
const MAGIC_PREFIXES: [&[u8]; 9] = [
    b"QEVM",
    b"cpRG",
    b"LibvirtQemud",
    b"QFI\xfb",
    b"\xfd7zXZ",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"BZh",
    b"\x04\x22\x4d\x18",
];

/// Copies an input that can be read only once into an unnamed temporary file.
///
/// Of an unsupported input, copies only the first 4 KiB, because such an input may be endless.
fn spool_once(
    reader: &mut dyn Read,
    path: &Path,
    read_failure: &dyn Fn(io::Error) -> Failure,
) -> Result<File, Failure> {
    const START_LEN: u64 = 4 << 10;
    let mut start = Vec::new();
    reader
        .take(START_LEN)
        .read_to_end(&mut start)
        .map_err(read_failure)?;
    let is_json = start.trim_ascii_start().first() == Some(&b'{');
    if is_json
        || MAGIC_PREFIXES
            .iter()
            .any(|prefix| start.starts_with(prefix))
    {
        return spool(&mut start.as_slice().chain(reader), path, read_failure);
    }
    spool(&mut start.as_slice(), path, read_failure)
}

/// Copies the rest of a reader into an unnamed temporary file, with holes for blocks of zeros.
pub(super) fn spool(
    reader: &mut dyn Read,
    path: &Path,
    read_failure: &dyn Fn(io::Error) -> Failure,
) -> Result<File, Failure> {
    const BLOCK_LEN: usize = 1 << 16;
    let temporary = |error| {
        Failure::io("write a temporary copy of", path, error)
            .with_hint("TMPDIR names the directory for temporary files")
    };
    let mut file = tempfile::tempfile().map_err(temporary)?;
    let mut block = vec![0; BLOCK_LEN];
    let mut length = 0_u64;
    loop {
        let mut filled = 0;
        while filled < BLOCK_LEN {
            let count = reader.read(&mut block[filled..]).map_err(read_failure)?;
            if count == 0 {
                break;
            }
            filled += count;
        }
        length += filled as u64;
        let data = &block[..filled];
        if data.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Start(length)).map_err(temporary)?;
        } else {
            file.write_all(data).map_err(temporary)?;
        }
        if filled < BLOCK_LEN {
            break;
        }
    }
    file.set_len(length).map_err(temporary)?;
    file.seek(SeekFrom::Start(0)).map_err(temporary)?;
    Ok(file)
}
