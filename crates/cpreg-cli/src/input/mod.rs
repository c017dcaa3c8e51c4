//! Files of every kind that can be read, recognised by content and never by suffix.
//!
//! | is, or begins with | taken as |
//! |---|---|
//! | a Unix socket | the monitor of a running QEMU, which is asked for its device state: a stream without RAM |
//! | `fd 37 7a 58 5a 00`, `1f 8b`, `28 b5 2f fd` | xz, gzip, zstd: unpacked into an unnamed temporary file, then looked at again |
//! | `{` | a profile; or a recorded host, or a report, if its schema says so: the stream in a report is unpacked into an unnamed temporary file |
//! | anything else | a migration stream, whose reader says what is wrong with it |
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | [`Input`]: what was read, and where it comes from |
//! | `compression.rs` | files that are packed, and such as can be read once only |

mod compression;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cpreg::destination::kernel::is_pmu_counting;
use cpreg::register::RegisterId;
use cpreg_hosts::{HostRecord, Profile, record};
use cpreg_qemu::device_state;
use cpreg_qemu::qmp::WaitOptions;
use cpreg_report::vm_report::{self, VmReport};
use cpreg_stream::{ErrorKind, Stream};
use cpreg_stream::{Lock, journal_path, pending_journal};

use crate::failure::Failure;
use crate::printer::Printer;
use compression::{open_decompressed, read_start, spool};

pub(crate) use compression::Compression;

/// What a file turned out to be.
pub(crate) enum Content {
    /// A migration stream.
    Stream(Box<Stream>),
    /// A recorded destination, from a profile or of a recorded host for one guest.
    Profile(Box<Profile>),
    /// A recorded host.
    Host(Box<HostRecord>),
}

/// Something that was opened and understood.
pub(crate) struct Input {
    /// The path that was given; the name of a recorded host.
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) content: Content,
}

/// The place that an input comes from.
pub(crate) enum Origin {
    /// A file.
    File {
        /// The file itself, or what it unpacks to.
        file: File,
        compression: Option<Compression>,
    },
    /// A report.
    Report {
        report: Box<VmReport>,
        /// The stream in it.
        stream: File,
        /// That of the report.
        compression: Option<Compression>,
    },
    /// A running QEMU that was asked through its monitor.
    RunningQemu {
        /// Its version (`10.0.13`).
        version: String,
        /// Its device state.
        stream: File,
    },
    /// A recorded host, as it is for one guest.
    RecordedHost,
    /// A stream that was read as it passed, and cannot be read again.
    Live,
}

/// How long a QEMU may take for one answer. Saving device state takes milliseconds, and as long as its disks take to be flushed.
const QMP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(10));

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
            return Self::from_running_qemu(path, verify, printer);
        }
        let (file, compression) = open_decompressed(path)?;
        Self::identify(path, file, compression, verify, printer)
    }

    /// Opens a file that is to be changed: nobody else changes it while it is open.
    pub(crate) fn open_to_change(
        path: &Path,
        verify: bool,
        printer: &Printer,
    ) -> Result<(Self, Lock), Failure> {
        let (file, compression) = open_decompressed(path)?;
        let lock = Lock::take(&file).map_err(|error| {
            Failure::new(format!("cannot change {}", path.display())).with_hinted_cause(error)
        })?;
        Self::identify(path, file, compression, verify, printer).map(|input| (input, lock))
    }

    fn identify(
        path: &Path,
        file: File,
        compression: Option<Compression>,
        verify: bool,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let length = file
            .metadata()
            .map_err(|error| Failure::io("read", path, error))?
            .len();
        if length == 0 && path == Path::new("-") {
            return Err(Failure::new("standard input is empty")
                .with_hint("it can be read once only: name a file for the other side"));
        }
        if length == 0 {
            return Err(Failure::new(format!("{} is empty", path.display())));
        }
        let mut first = [0];
        read_start(&file, &mut first).map_err(|error| Failure::io("read", path, error))?;
        let content = if first[0] == b'{' {
            let json = read_json(&file, path, length)?;
            if vm_report::is_report(&json) {
                let report =
                    VmReport::from_json(&json).map_err(|error| read_failure(path, error))?;
                return Self::from_report(path, report, compression, verify);
            }
            if record::json::is_record(&json) {
                if json.len() as u64 > record::json::MAX_DOCUMENT_LEN {
                    return Err(too_large(path));
                }
                let record = HostRecord::from_json(&json);
                Content::Host(Box::new(
                    record.map_err(|error| document_failure(path, error))?,
                ))
            } else {
                Content::Profile(Box::new(parse_profile(&json, path)?))
            }
        } else {
            let stream = open_stream(&file, path, verify)?;
            if compression.is_none() && pending_journal(path).is_some() {
                printer.note(format_args!(
                    "a change of {} is under way, or was interrupted; if it was, {} ends it",
                    path.display(),
                    recovery_command(path)
                ));
            }
            Content::Stream(Box::new(stream))
        };
        Ok(Self {
            path: path.to_owned(),
            origin: Origin::File { file, compression },
            content,
        })
    }

    /// What a running QEMU holds, but for its RAM.
    fn from_running_qemu(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let state = device_state::query_socket(path, &QMP_TIMEOUT).map_err(|error| {
            Failure::new(format!("cannot ask the QEMU at {}", path.display()))
                .with_hinted_cause(error)
        })?;
        let stream = open_stream(&state.stream, path, verify)?;
        if state.kvm
            && stream
                .vm()
                .is_ok_and(|vm| vm.vcpus.iter().any(is_pmu_counting))
        {
            printer.note(
                "this guest counts with its performance monitors; if this host's kernel is one of \
                 6.7 to 6.14, asking its QEMU has stopped them until the guest sets them again",
            );
        }
        Ok(Self {
            path: path.to_owned(),
            origin: Origin::RunningQemu {
                version: state.version.number(),
                stream: state.stream,
            },
            content: Content::Stream(Box::new(stream)),
        })
    }

    /// A stream that has passed, and cannot be read again; `name`: what it is called.
    pub(crate) fn from_live_stream(name: &str, stream: Stream) -> Self {
        Self {
            path: PathBuf::from(name),
            origin: Origin::Live,
            content: Content::Stream(Box::new(stream)),
        }
    }

    /// Returns the stream itself.
    pub(crate) fn into_stream(self) -> Result<Stream, Failure> {
        match self.content {
            Content::Stream(stream) => Ok(*stream),
            _ => Err(self.missing_vm()),
        }
    }

    /// Returns the plain stream or profile: the file itself, or what it unpacks to.
    pub(crate) fn file(&self) -> Result<&File, Failure> {
        match &self.origin {
            Origin::File { file, .. } => Ok(file),
            Origin::Report { stream, .. } | Origin::RunningQemu { stream, .. } => Ok(stream),
            Origin::RecordedHost | Origin::Live => Err(Failure::new(format!(
                "{} has passed, and cannot be read again",
                self.path.display()
            ))),
        }
    }

    /// Takes a recorded host, as it is for one guest.
    pub(crate) fn from_recorded_host(profile: Profile) -> Self {
        Self {
            path: PathBuf::from(&profile.destination.name),
            origin: Origin::RecordedHost,
            content: Content::Profile(Box::new(profile)),
        }
    }

    /// Returns the report that the stream was in.
    pub(crate) fn report(&self) -> Option<&VmReport> {
        match &self.origin {
            Origin::Report { report, .. } => Some(report),
            _ => None,
        }
    }

    /// Returns what the file was packed with.
    pub(crate) const fn compression(&self) -> Option<Compression> {
        match self.origin {
            Origin::File { compression, .. } | Origin::Report { compression, .. } => compression,
            _ => None,
        }
    }

    /// Why what was opened is not the whole VM, where it is not: what it is instead.
    pub(crate) fn ramless_kind(&self) -> Option<&'static str> {
        match self.origin {
            Origin::Report { .. } => Some("a report"),
            Origin::RunningQemu { .. } => Some("the monitor of a running QEMU"),
            Origin::File { .. } | Origin::RecordedHost | Origin::Live => None,
        }
    }

    /// The stream in a report.
    pub(crate) fn from_report(
        path: &Path,
        report: VmReport,
        compression: Option<Compression>,
        verify: bool,
    ) -> Result<Self, Failure> {
        let mut reader = report.stream().map_err(|error| read_failure(path, error))?;
        let damaged = |error| {
            Failure::io("unpack the stream in", path, error)
                .with_hint("it is damaged or not all there: get a complete copy")
        };
        let file = spool(&mut reader, path, &damaged)?;
        let content = Content::Stream(Box::new(open_stream(&file, path, verify)?));
        Ok(Self {
            path: path.to_owned(),
            origin: Origin::Report {
                report: Box::new(report),
                stream: file,
                compression,
            },
            content,
        })
    }

    /// The registers that are not what the VM held, because the report it comes from does not tell.
    pub(crate) fn redacted_registers(&self) -> Vec<RegisterId> {
        let registers = self.report().map(VmReport::redacted_registers);
        // They were read when the report was opened.
        registers.and_then(Result::ok).unwrap_or_default()
    }

    /// The file's own name, or the host's, for reports.
    pub(crate) fn name(&self) -> String {
        if matches!(self.origin, Origin::RecordedHost) {
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
            _ => Err(self.missing_vm()),
        }
    }

    fn missing_vm(&self) -> Failure {
        let what = match &self.content {
            Content::Host(_) => "recorded host",
            Content::Stream(_) | Content::Profile(_) => "profile",
        };
        Failure::new(format!(
            "{} is a {what}, and a VM is needed: a migration stream",
            self.path.display()
        ))
    }

    /// A recorded host was named where one for a guest is needed.
    pub(crate) fn missing_features(&self) -> Failure {
        let path = self.path.display();
        Failure::new(format!(
            "what {path} lists depends on the guest's vCPU features"
        ))
        .with_hint(format!("name them: {path}/FEATURES"))
    }
}

fn open_stream(file: &File, path: &Path, verify: bool) -> Result<Stream, Failure> {
    let stream = if verify {
        Stream::verify(file)
    } else {
        Stream::open(file)
    };
    stream.map_err(|error| stream_failure(path, error))
}

fn read_failure(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).with_cause(error)
}

fn document_failure(path: &Path, error: cpreg_hosts::Error) -> Failure {
    Failure::new(format!("cannot read {}", path.display())).with_document_cause(error)
}

fn stream_failure(path: &Path, error: cpreg_stream::Error) -> Failure {
    let failure = Failure::new(format!("cannot read {}", path.display()));
    if error.kind() != ErrorKind::UnfinishedEdit {
        return failure.with_hinted_cause(error);
    }
    let hint = match pending_journal(path) {
        Some(_) => format!("{} brings back what it held before", recovery_command(path)),
        None => format!(
            "{} held what was there before: without it this file is lost",
            journal_path(path).display()
        ),
    };
    failure.with_cause(error).with_hint(hint)
}

/// The command that ends an interrupted change and does nothing else: to where it stands a VM goes unchanged.
fn recovery_command(path: &Path) -> String {
    let path = path.display();
    format!("`cpreg convert {path} --to {path} --in-place`")
}

/// All of a file that begins like JSON.
fn read_json(file: &File, path: &Path, length: u64) -> Result<Vec<u8>, Failure> {
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

fn parse_profile(json: &[u8], path: &Path) -> Result<Profile, Failure> {
    if json.len() as u64 > PROFILE_LIMIT {
        return Err(too_large(path));
    }
    Profile::from_json(json).map_err(|error| document_failure(path, error))
}
