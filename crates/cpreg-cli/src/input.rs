//! Files of every kind that can be read, recognised by content and never by suffix.
//!
//! | is, or begins with | taken as |
//! |---|---|
//! | a Unix socket | the monitor of a running QEMU, which is asked for its device state: a stream without RAM |
//! | `fd 37 7a 58 5a 00`, `1f 8b`, `28 b5 2f fd` | xz, gzip, zstd: unpacked into an unnamed temporary file, then looked at again |
//! | `{` | a profile; or a recorded host, or a report, if its schema says so: the stream in a report is unpacked into an unnamed temporary file |
//! | anything else | a migration stream, whose reader says what is wrong with it |

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cpreg::destination::kernel::counts;
use cpreg::register::RegisterId;
use cpreg_hosts::{HostRecord, Profile, record};
use cpreg_qemu::device_state;
use cpreg_qemu::qmp::Patience;
use cpreg_report::shared::{self, Report};
use cpreg_stream::{ErrorKind, Stream};
use cpreg_stream::{Lock, journal_of, pending_journal};

use crate::failure::Failure;
use crate::printer::Printer;

/// What a file turned out to be.
pub(crate) enum Content {
    /// A migration stream.
    Stream(Box<Stream>),
    /// A recorded destination.
    Profile(Box<Profile>),
    /// A recorded host.
    Host(Box<HostRecord>),
}

/// A file that was opened and understood.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) content: Content,
    /// The plain stream or profile: the file itself, or what it unpacks to; nothing if it has passed.
    file: Option<File>,
    /// What it was packed with.
    pub(crate) packed: Option<&'static str>,
    /// The report that the stream was in.
    pub(crate) report: Option<Box<Report>>,
    /// The version of the running QEMU that gave the stream (`10.0.13`).
    pub(crate) running: Option<String>,
    /// Whether it is a recorded host and no file: its path is its name.
    pub(crate) is_host: bool,
}

/// How long a QEMU may take for one answer. Saving device state takes milliseconds, and as long as its disks take to be flushed.
const PATIENCE: Patience<'static> = Patience::of(Duration::from_secs(10));

/// No profile is larger; more is not read.
const PROFILE_LIMIT: u64 = 64 << 20;
/// No report is larger: its stream may have 256 MiB, but what is long in it is blank and packs well.
const REPORT_LIMIT: u64 = 128 << 20;

impl Input {
    /// Opens a file and finds out what it is.
    ///
    /// A stream that can be read although a change of it was interrupted is taken, and that is told.
    pub(crate) fn open(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let kind = path.metadata().map(|metadata| metadata.file_type());
        if kind.is_ok_and(|kind| kind.is_socket()) {
            return Self::of_running(path, verify, printer);
        }
        let (file, packed) = plain_file(path)?;
        Self::understand(path, file, packed, verify, printer)
    }

    /// Opens a file that is to be changed: nobody else changes it while it is open.
    pub(crate) fn open_to_change(
        path: &Path,
        verify: bool,
        printer: &Printer,
    ) -> Result<(Self, Lock), Failure> {
        let (file, packed) = plain_file(path)?;
        let lock = Lock::take(&file).map_err(|error| {
            Failure::new(format!("cannot change {}", path.display())).because_of_stream(error)
        })?;
        Self::understand(path, file, packed, verify, printer).map(|input| (input, lock))
    }

    fn understand(
        path: &Path,
        file: File,
        packed: Option<&'static str>,
        verify: bool,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let length = file
            .metadata()
            .map_err(|error| Failure::io("read", path, error))?
            .len();
        if length == 0 && path == Path::new("-") {
            return Err(Failure::new("standard input is empty")
                .hint("it can be read once only: name a file for the other side"));
        }
        if length == 0 {
            return Err(Failure::new(format!("{} is empty", path.display())));
        }
        let mut first = [0];
        read_start(&file, &mut first).map_err(|error| Failure::io("read", path, error))?;
        let content = if first[0] == b'{' {
            let json = json(&file, path, length)?;
            if shared::is_report(&json) {
                let report = Report::from_json(&json).map_err(|error| cannot_read(path, error))?;
                return Self::of_report(path, report, packed, verify);
            }
            if record::json::is_record(&json) {
                if json.len() as u64 > record::json::MOST_BYTES {
                    return Err(too_large(path));
                }
                let record = HostRecord::from_json(&json);
                Content::Host(Box::new(record.map_err(|error| no_document(path, error))?))
            } else {
                Content::Profile(Box::new(profile(&json, path)?))
            }
        } else {
            let stream = stream(&file, path, verify)?;
            if packed.is_none() && pending_journal(path).is_some() {
                printer.note(format_args!(
                    "a change of {} is under way, or was interrupted; if it was, {} ends it",
                    path.display(),
                    mending(path)
                ));
            }
            Content::Stream(Box::new(stream))
        };
        Ok(Self {
            path: path.to_owned(),
            content,
            file: Some(file),
            packed,
            report: None,
            running: None,
            is_host: false,
        })
    }

    /// What a running QEMU holds, but for its RAM.
    fn of_running(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let state = device_state::of_socket(path, &PATIENCE).map_err(|error| {
            let hint = error.hint();
            let failure = Failure::new(format!("cannot ask the QEMU at {}", path.display()));
            hint.into_iter().fold(failure.because(error), Failure::hint)
        })?;
        let stream = stream(&state.stream, path, verify)?;
        if state.kvm && stream.vm().is_ok_and(|vm| vm.vcpus.iter().any(counts)) {
            printer.note(
                "this guest counts with its performance monitors; if this host's kernel is one of 6.7 to 6.14, asking its QEMU has stopped them until the guest sets them again",
            );
        }
        Ok(Self {
            path: path.to_owned(),
            content: Content::Stream(Box::new(stream)),
            file: Some(state.stream),
            packed: None,
            report: None,
            running: Some(state.version.number()),
            is_host: false,
        })
    }

    /// A stream that has passed, and cannot be read again; `name`: what it is called.
    pub(crate) fn of_what_passed(name: &str, stream: Stream) -> Self {
        Self {
            path: PathBuf::from(name),
            content: Content::Stream(Box::new(stream)),
            file: None,
            packed: None,
            report: None,
            running: None,
            is_host: false,
        }
    }

    /// The plain stream or profile: the file itself, or what it unpacks to.
    pub(crate) fn file(&self) -> Result<&File, Failure> {
        self.file.as_ref().ok_or_else(|| {
            Failure::new(format!(
                "{} has passed, and cannot be read again",
                self.path.display()
            ))
        })
    }

    /// A recorded host, as the profile that it would be in a file.
    pub(crate) fn of_host(name: &Path, profile: Profile) -> Result<Self, Failure> {
        let json = profile
            .to_json()
            .map_err(|error| no_document(name, error))?;
        let unread = |error| Failure::io("read", name, error);
        Ok(Self {
            path: name.to_owned(),
            content: Content::Profile(Box::new(profile)),
            file: Some(spool(&mut json.as_bytes(), name, &unread)?),
            packed: None,
            report: None,
            running: None,
            is_host: true,
        })
    }

    /// Why what was opened is not the whole VM, where it is not: what it is instead.
    pub(crate) fn lacks_ram(&self) -> Option<&'static str> {
        match (&self.report, &self.running) {
            (Some(_), _) => Some("a report"),
            (_, Some(_)) => Some("the monitor of a running QEMU"),
            _ => None,
        }
    }

    /// The stream in a report.
    pub(crate) fn of_report(
        path: &Path,
        report: Report,
        packed: Option<&'static str>,
        verify: bool,
    ) -> Result<Self, Failure> {
        let mut reader = report.stream().map_err(|error| cannot_read(path, error))?;
        let damaged = |error| {
            Failure::io("unpack the stream in", path, error)
                .hint("it is damaged or not all there: get a complete copy")
        };
        let file = spool(&mut reader, path, &damaged)?;
        Ok(Self {
            path: path.to_owned(),
            content: Content::Stream(Box::new(stream(&file, path, verify)?)),
            file: Some(file),
            packed,
            report: Some(Box::new(report)),
            running: None,
            is_host: false,
        })
    }

    /// The registers that are not what the VM held, because the report it comes from does not tell.
    pub(crate) fn blanked(&self) -> Vec<RegisterId> {
        let report = self.report.as_ref();
        let registers = report.map(|report| report.blanked_registers());
        // They were read when the report was opened.
        registers.and_then(Result::ok).unwrap_or_default()
    }

    /// The file's own name, or the host's, for reports.
    pub(crate) fn name(&self) -> String {
        if self.is_host {
            return self.path.display().to_string();
        }
        self.path.file_name().map_or_else(
            || self.path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// The stream, where nothing else will do.
    pub(crate) fn stream(&self) -> Result<&Stream, Failure> {
        match &self.content {
            Content::Stream(stream) => Ok(stream),
            Content::Profile(_) => Err(Failure::new(format!(
                "{} is a profile, and a VM is needed: a migration stream",
                self.path.display()
            ))),
            Content::Host(_) => Err(Failure::new(format!(
                "{} is a recorded host, and a VM is needed: a migration stream",
                self.path.display()
            ))),
        }
    }

    /// A recorded host was named where one for a guest is needed.
    pub(crate) fn lacks_features(&self) -> Failure {
        let path = self.path.display();
        Failure::new(format!(
            "what {path} lists depends on the guest's vCPU features"
        ))
        .hint(format!("name them: {path}/FEATURES"))
    }
}

fn stream(file: &File, path: &Path, verify: bool) -> Result<Stream, Failure> {
    let stream = if verify {
        Stream::verify(file)
    } else {
        Stream::open(file)
    };
    stream.map_err(|error| unreadable(path, error))
}

fn cannot_read(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).because(error)
}

fn no_document(path: &Path, error: cpreg_hosts::Error) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).because_of_document(error)
}

fn unreadable(path: &Path, error: cpreg_stream::Error) -> Failure {
    let failure = Failure::new(format!("cannot read {}", path.display()));
    if error.kind() != ErrorKind::UnfinishedEdit {
        return failure.because_of_stream(error);
    }
    let hint = match pending_journal(path) {
        Some(_) => format!("{} brings back what it held before", mending(path)),
        None => format!(
            "{} held what was there before: without it this file is lost",
            journal_of(path).display()
        ),
    };
    failure.because_of_stream_with(error, Some(hint))
}

/// The command that ends an interrupted change and does nothing else: to where it stands a VM goes unchanged.
fn mending(path: &Path) -> String {
    let path = path.display();
    format!("`cpreg convert {path} --to {path} --in-place`")
}

/// All of a file that begins like JSON.
fn json(file: &File, path: &Path, length: u64) -> Result<Vec<u8>, Failure> {
    if length > REPORT_LIMIT {
        return Err(too_large(path));
    }
    let mut bytes = Vec::new();
    let mut file = file;
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.read_to_end(&mut bytes))
        .map_err(|error| Failure::io("read", path, error))?;
    Ok(bytes)
}

fn too_large(path: &Path) -> Failure {
    Failure::new(format!(
        "{} begins like a profile, but is larger than any",
        path.display()
    ))
}

fn profile(json: &[u8], path: &Path) -> Result<Profile, Failure> {
    if json.len() as u64 > PROFILE_LIMIT {
        return Err(too_large(path));
    }
    Profile::from_json(json).map_err(|error| no_document(path, error))
}

fn read_start(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
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
fn plain_file(path: &Path) -> Result<(File, Option<&'static str>), Failure> {
    let failure = |error| Failure::io("open", path, error);
    if path == Path::new("-") {
        let unread = |error| Failure::io("read", path, error);
        let file = spool_once(&mut io::stdin().lock(), path, &unread)?;
        return unpacked(file, path);
    }
    let file = File::open(path).map_err(|error| {
        let is_absent = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        );
        let hint = is_absent.then(|| no_file(path)).flatten();
        hint.into_iter().fold(failure(error), Failure::hint)
    })?;
    let kind = file.metadata().map_err(failure)?.file_type();
    if kind.is_dir() {
        return Err(Failure::new(format!("{} is a directory", path.display()))
            .hint("name the stream or profile in it"));
    }
    if !kind.is_file() {
        // A pipe: it can be read once only.
        let mut pipe = file;
        let unread = |error| Failure::io("read", path, error);
        let file = spool_once(&mut pipe, path, &unread)?;
        return unpacked(file, path);
    }
    unpacked(file, path)
}

/// What to do about a name that is no file's, where it is a name that has a meaning elsewhere.
fn no_file(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if text == "kvm" || text.starts_with("kvm/") {
        return Some(
            "kvm, this machine's own, is for DEST; `cpreg probe kvm -o FILE` records it as a file"
                .to_owned(),
        );
    }
    if text.starts_with(record::PREFIX) {
        return Some(
            "a recorded host is no VM: here goes a migration stream, a running QEMU's monitor or a report; `cpreg diff` compares two hosts"
                .to_owned(),
        );
    }
    let file = path.parent().filter(|parent| parent.is_file())?;
    Some(format!(
        "{0} is a file; behind that of a recorded host a guest's vCPU features may stand: {0}/pmu, {0}/pmu,sve, {0}/none",
        file.display()
    ))
}

fn unpacked(file: File, path: &Path) -> Result<(File, Option<&'static str>), Failure> {
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
        .hint(format!(
            "unpack it first: {command}; xz, gzip and zstd are read as they are"
        )));
    }
    let damaged = |error: io::Error| {
        Failure::io("unpack", path, error)
            .hint("it is damaged or not all there: get a complete copy")
    };
    let (name, mut reader): (_, Box<dyn Read>) = match &magic[..length] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => {
            ("xz", Box::new(lzma_rust2::XzReader::new(file, true)))
        }
        [0x1f, 0x8b, ..] => ("gzip", Box::new(flate2::read::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (
            "zstd",
            Box::new(
                ruzstd::decoding::StreamingDecoder::new(file)
                    .map_err(|error| damaged(io::Error::other(error)))?,
            ),
        ),
        _ => return Ok((file, None)),
    };
    Ok((spool(&mut reader, path, &damaged)?, Some(name)))
}

/// How anything begins that is read, packed or not: streams (one that an edit in place was interrupted in, too), and what packs them. JSON
/// begins with a brace, perhaps behind white space.
const BEGINNINGS: [&[u8]; 7] = [
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
    if is_json || BEGINNINGS.iter().any(|it| start.starts_with(it)) {
        return spool(&mut start.as_slice().chain(reader), path, unread);
    }
    spool(&mut start.as_slice(), path, unread)
}

/// Copies everything into an unnamed temporary file, with holes where there are only zeros.
fn spool(
    reader: &mut dyn Read,
    path: &Path,
    unread: &dyn Fn(io::Error) -> Failure,
) -> Result<File, Failure> {
    const BLOCK: usize = 1 << 16;
    let temporary = |error| {
        Failure::io("write a temporary copy of", path, error)
            .hint("TMPDIR names the directory for temporary files")
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
