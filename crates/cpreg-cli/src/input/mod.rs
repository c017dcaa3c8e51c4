//! Input files of every kind, recognised by their content and never by a suffix.
//!
//! - A Unix socket is the monitor of a running QEMU, and `libvirt:DOMAIN` a running domain. The
//!   device state is saved as a stream without RAM.
//! - `fd 37 7a 58 5a 00`, `1f 8b` and `28 b5 2f fd` begin xz, gzip and zstd files. They are
//!   decompressed into an unnamed temporary file, whose content is then recognised.
//! - `{` begins a profile, a recorded host or a report, told apart by the schema. The stream in a
//!   report is decompressed into an unnamed temporary file.
//! - A save image of libvirt, a snapshot of Firecracker or Cloud Hypervisor, and other files and
//!   folders with saved VMs, are opened by [`cpreg_snapshot`]. `FILE#NAME` names one of several
//!   VMs.
//! - Anything else is a migration stream, and its parser reports errors.
//!
//! | file | content |
//! |---|---|
//! | `mod.rs` | [`Input`]: content of an input, and its origin |
//! | `compression.rs` | compressed files, and files that can be read only once |
//! | `domain.rs` | running domains of libvirt |
//! | `origin.rs` | origin of an input |
//! | `recovery.rs` | advice after an interrupted edit in place |
//! | `saved.rs` | files and folders of other programs with saved VMs |

mod compression;
mod domain;
mod origin;
mod recovery;
mod saved;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use cpreg::destination::kernel::is_pmu_counting;
use cpreg::hardware::HardwareFacts;
use cpreg::register::RegisterId;
use cpreg::shape::MachineShape;
use cpreg::vm::Vm;
use cpreg_hosts::{HostRecord, Profile, record};
use cpreg_qemu::device_state::{self, DeviceState};
use cpreg_report::command::quote;
use cpreg_report::names::FailureKind;
use cpreg_report::show::model;
use cpreg_report::vm_report::{self, VmReport};
use cpreg_snapshot::{Description, Format, RegisterState, SavedVm, State};
use cpreg_stream::{ErrorKind, ReadAt, Stream};
use cpreg_stream::{Lock, pending_journal};

use crate::failure::Failure;
use crate::local_facts::local_facts;
use crate::printer::Printer;
use crate::progress::ScannedFile;
use compression::{read_start, spool};
use recovery::{recovery_command, recovery_hint};

pub(crate) use compression::{Compression, open_decompressed};
use domain::REPLY_TIMEOUT;
pub(crate) use domain::{
    domain_address, libvirt_address, list_running_domains, query_libvirt_host_name,
};
pub(crate) use origin::Origin;
pub(crate) use saved::{VmPath, saved_failure};

/// Content of an input.
pub(crate) enum Content {
    /// Migration stream.
    Stream(Box<Stream>),
    /// Registers of a VM, in a snapshot of Firecracker or Cloud Hypervisor.
    Registers(Box<RegisterState>),
    /// Recorded destination: a profile, or a recorded host for one guest.
    Profile(Box<Profile>),
    /// Recorded host.
    Host(Box<HostRecord>),
}

/// Input that cpreg has opened and parsed.
pub(crate) struct Input {
    /// Path as given, or the name of a recorded host.
    pub(crate) path: PathBuf,
    pub(crate) origin: Origin,
    pub(crate) content: Content,
}

/// Maximum size of a profile in bytes.
const PROFILE_LIMIT: u64 = 64 << 20;
/// Maximum size of a report in bytes. The stream in a report may have 256 MiB, but its long parts
/// are redacted and compress well.
const REPORT_LIMIT: u64 = 128 << 20;

impl Input {
    /// Opens a file and recognises its content.
    ///
    /// Prints a note if an earlier change of the stream was interrupted and the stream is still
    /// readable.
    pub(crate) fn open(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let kind = path.metadata().map(|metadata| metadata.file_type());
        if kind.is_ok_and(|kind| kind.is_socket()) {
            return Self::from_running_qemu(path, verify, printer);
        }
        if let Some(address) = domain_address(path)? {
            let (state, domain) = domain::query(path, &address, &REPLY_TIMEOUT, printer)?;
            return Self::from_device_state(path, state, domain, verify, printer);
        }
        let vm_path = resolve_vm_path(path, printer)?;
        let (file, compression) = open_decompressed(&vm_path.file)?;
        Self::identify(path, &vm_path, file, compression, verify, printer)
    }

    /// Opens a file to change it, and locks it against other changes.
    pub(crate) fn open_to_change(
        path: &Path,
        verify: bool,
        printer: &Printer,
    ) -> Result<(Self, Lock), Failure> {
        let vm_path = resolve_vm_path(path, printer)?;
        let (file, compression) = open_decompressed(&vm_path.file)?;
        let lock = Lock::take(&file).map_err(|error| {
            Failure::new(format!("cannot change {}", path.display()))
                .with_path(path)
                .with_hinted_cause(error)
        })?;
        Self::identify(path, &vm_path, file, compression, verify, printer)
            .map(|input| (input, lock))
    }

    /// Recognises the content of the file of `vm_path`; `path` is the argument of the user.
    fn identify(
        path: &Path,
        vm_path: &VmPath,
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
                .with_hint("it can be read only once: name a file for the other input"));
        }
        if length == 0 {
            return Err(Failure::new(format!("{} is empty", path.display())).with_path(path));
        }
        let mut first = [0];
        read_start(&file, &mut first).map_err(|error| Failure::io("read", path, error))?;
        let format = Format::identify(&file);
        let format = format.map_err(|error| Failure::io("read", &vm_path.file, error))?;
        let content = if first[0] == b'{' && format.is_none() {
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
            if let Some(format) = format {
                let saved = saved::open_vm(file, &vm_path.file, format, vm_path.vm.as_deref())?;
                return Self::from_saved_vm(path, &vm_path.file, saved, compression, verify);
            }
            if let Some(vm) = &vm_path.vm {
                return Err(Failure::new(format!(
                    "{} names the VM {vm}, but {} does not hold several VMs",
                    path.display(),
                    vm_path.file.display()
                ))
                .with_path(&vm_path.file));
            }
            saved::reject_foreign(&file, path)?;
            let stream = open_stream(&file, path, verify)?;
            if compression.is_none() && pending_journal(path).is_some() {
                printer.note(format_args!(
                    "a change of {} is in progress, or was interrupted; if it was, {} recovers it",
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

    /// Opens the state of a saved VM.
    fn from_saved_vm(
        path: &Path,
        file: &Path,
        saved: SavedVm,
        compression: Option<Compression>,
        verify: bool,
    ) -> Result<Self, Failure> {
        let content = match saved.state() {
            State::Stream(source) => Content::Stream(Box::new(open_stream(source, path, verify)?)),
            State::Registers(state) => Content::Registers(Box::new(state.clone())),
        };
        Ok(Self {
            path: path.to_owned(),
            origin: Origin::Saved {
                vm: Box::new(saved),
                file: file.to_owned(),
                compression,
            },
            content,
        })
    }

    /// Saves the device state of a running QEMU, without its RAM, and opens it as an input.
    fn from_running_qemu(path: &Path, verify: bool, printer: &Printer) -> Result<Self, Failure> {
        let state = device_state::query_socket(path, &REPLY_TIMEOUT).map_err(|error| {
            Failure::new(format!("cannot query the QEMU at {}", path.display()))
                .with_path(path)
                .with_hinted_cause(error)
        })?;
        Self::from_device_state(path, state, None, verify, printer)
    }

    /// Opens the device state of a running QEMU as an input.
    fn from_device_state(
        path: &Path,
        state: DeviceState,
        domain: Option<Box<Description>>,
        verify: bool,
        printer: &Printer,
    ) -> Result<Self, Failure> {
        let stream = open_stream(&state.stream, path, verify)?;
        if state.kvm
            && stream
                .vm()
                .is_ok_and(|vm| vm.vcpus.iter().any(is_pmu_counting))
        {
            printer.note(
                "this guest is counting PMU events; with a host kernel from 6.7 to 6.14, querying \
                 its QEMU has stopped the counters until the guest enables them again",
            );
        }
        Ok(Self {
            path: path.to_owned(),
            origin: Origin::RunningQemu {
                version: state.version.number(),
                is_kvm: state.kvm,
                vector_lengths: state.vector_lengths,
                stream: state.stream,
                domain,
            },
            content: Content::Stream(Box::new(stream)),
        })
    }

    /// Returns a live stream, which cannot be read again, as the input `name`.
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

    /// Returns the bytes of the stream or profile, decompressed.
    pub(crate) fn bytes(&self) -> Result<&dyn ReadAt, Failure> {
        match &self.origin {
            Origin::File { file, .. } => Ok(file),
            Origin::Saved { vm, .. } => match vm.state() {
                State::Stream(source) => Ok(source),
                State::Registers(_) => Err(self.missing_vm()),
            },
            Origin::Report { stream, .. } | Origin::RunningQemu { stream, .. } => Ok(stream),
            Origin::RecordedHost | Origin::Probe | Origin::Live => Err(Failure::new(format!(
                "{} cannot be read again",
                self.path.display()
            ))),
        }
    }

    /// Returns the profile of a recorded host for one guest as an input.
    pub(crate) fn from_recorded_host(profile: Profile) -> Self {
        Self {
            path: PathBuf::from(&profile.destination.name),
            origin: Origin::RecordedHost,
            content: Content::Profile(Box::new(profile)),
        }
    }

    /// Returns the profile of a QEMU that cpreg has just probed as the input `path`.
    pub(crate) fn from_probe(path: &Path, profile: Profile) -> Self {
        Self {
            path: path.to_owned(),
            origin: Origin::Probe,
            content: Content::Profile(Box::new(profile)),
        }
    }

    /// Returns the saved VM that holds the stream, if another program wrote the file.
    pub(crate) fn saved_vm(&self) -> Option<&SavedVm> {
        match &self.origin {
            Origin::Saved { vm, .. } => Some(vm),
            _ => None,
        }
    }

    /// Returns the facts about the VM that its file or libvirt holds, as a report has them.
    pub(crate) fn container(&self) -> Option<model::Container> {
        let description = match &self.origin {
            Origin::Saved { vm, .. } => vm.description(),
            Origin::RunningQemu { domain, .. } => Description::clone(domain.as_ref()?),
            _ => return None,
        };
        Some(saved::describe(description))
    }

    /// Returns the report that contains the stream, if any.
    pub(crate) fn report(&self) -> Option<&VmReport> {
        match &self.origin {
            Origin::Report { report, .. } => Some(report),
            _ => None,
        }
    }

    /// Returns the compression of the file.
    pub(crate) const fn compression(&self) -> Option<Compression> {
        match self.origin {
            Origin::File { compression, .. }
            | Origin::Saved { compression, .. }
            | Origin::Report { compression, .. } => compression,
            _ => None,
        }
    }

    /// Returns the kind of an input without RAM, or `None` if the input is a whole VM.
    pub(crate) fn ramless_kind(&self) -> Option<&'static str> {
        match self.origin {
            Origin::Report { .. } => Some("a report"),
            Origin::RunningQemu { .. } => Some("the monitor of a running QEMU"),
            _ => None,
        }
    }

    /// Opens the stream in a report.
    pub(crate) fn from_report(
        path: &Path,
        report: VmReport,
        compression: Option<Compression>,
        verify: bool,
    ) -> Result<Self, Failure> {
        let mut reader = report.stream().map_err(|error| read_failure(path, error))?;
        let damaged = |error| {
            Failure::io("decompress the stream in", path, error)
                .with_hint("the report is damaged or truncated: get a complete copy")
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

    /// Returns the known properties of the VM's host: of a report, or of this machine for its QEMU.
    pub(crate) fn source_hardware(&self) -> Result<HardwareFacts, Failure> {
        if let Origin::RunningQemu {
            is_kvm: true,
            vector_lengths,
            ..
        } = self.origin
        {
            // QEMU knows the lengths of its VM, wherever it runs.
            return Ok(HardwareFacts {
                vector_lengths,
                ..local_facts(&self.path)
            });
        }
        let facts = self.report().map(VmReport::source_hardware);
        let facts = facts.transpose();
        Ok(facts
            .map_err(|error| read_failure(&self.path, error))?
            .unwrap_or(HardwareFacts::UNKNOWN))
    }

    /// Returns the registers whose values the report has redacted; an empty list without a report.
    pub(crate) fn redacted_registers(&self) -> Vec<RegisterId> {
        let registers = self.report().map(VmReport::redacted_registers);
        // Opening the report has parsed the ids already, so an error is not possible.
        registers.and_then(Result::ok).unwrap_or_default()
    }

    /// Returns the name of the file or host, as reports print it.
    pub(crate) fn name(&self) -> String {
        if matches!(
            self.origin,
            Origin::RecordedHost
                | Origin::RunningQemu {
                    domain: Some(_),
                    ..
                }
        ) {
            return self.path.display().to_string();
        }
        self.path.file_name().map_or_else(
            || self.path.display().to_string(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// Returns the stream, or an error if the input is not a VM.
    pub(crate) fn stream(&self) -> Result<&Stream, Failure> {
        match &self.content {
            Content::Stream(stream) => Ok(stream),
            _ => Err(self.missing_vm()),
        }
    }

    /// Returns the VM.
    pub(crate) fn vm(&self) -> Result<Vm, Failure> {
        match &self.content {
            Content::Registers(state) => Ok(state.vm.clone()),
            _ => self.stream()?.vm().map_err(|error| {
                Failure::new(format!("cannot use {}", self.path.display())).with_cause(error)
            }),
        }
    }

    /// Returns the shape of the VM.
    pub(crate) fn shape(&self) -> Result<MachineShape, Failure> {
        match &self.content {
            Content::Registers(state) => Ok(state.shape.clone()),
            _ => Ok(self.stream()?.shape()),
        }
    }

    /// Returns the registers of a VM whose file holds no stream.
    pub(crate) fn registers(&self) -> Option<&RegisterState> {
        match &self.content {
            Content::Registers(state) => Some(state),
            _ => None,
        }
    }

    fn missing_vm(&self) -> Failure {
        if matches!(self.content, Content::Registers(_)) {
            return Failure::new(format!(
                "{} is a snapshot of another VMM, but a migration stream of QEMU is needed",
                self.path.display()
            ))
            .with_path(&self.path)
            .with_hint(format!(
                "`cpreg check {name} DESTINATION` predicts the load by the VMM, \
                 `cpreg check {name} kvm` on the destination tries the registers at its KVM, and \
                 `cpreg show {name}` prints them for a report",
                name = quote(&self.path.display().to_string())
            ));
        }
        let kind = match &self.content {
            Content::Host(_) => "recorded host",
            _ => "profile",
        };
        Failure::new(format!(
            "{} is a {kind}, but a VM is needed: a migration stream",
            self.path.display()
        ))
        .with_path(&self.path)
        .with_hint(format!("`cpreg check` takes a {kind} as SOURCE"))
    }

    /// Returns the error for a recorded host whose name has no features and that has no guest.
    pub(crate) fn missing_features(&self) -> Failure {
        let path = self.path.display();
        Failure::new(format!(
            "the registers of {path} depend on the guest's vCPU features"
        ))
        .with_hint(format!("name the features: {path}/FEATURES"))
    }
}

/// Resolves `FILE#NAME`, and a folder to the file in it that holds a saved VM.
fn resolve_vm_path(path: &Path, printer: &Printer) -> Result<VmPath, Failure> {
    let mut vm_path = VmPath::new(path);
    if vm_path.file.is_dir() {
        vm_path.file = saved::find_in_folder(&vm_path.file, vm_path.vm.as_deref(), printer)?;
    }
    Ok(vm_path)
}

fn open_stream(source: &dyn ReadAt, path: &Path, verify: bool) -> Result<Stream, Failure> {
    let stream = if verify {
        Stream::verify(&ScannedFile::new(source, path))
    } else {
        Stream::open(source)
    };
    stream.map_err(|error| stream_failure(path, error))
}

fn read_failure(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(format!("cannot read {}", path.display()))
        .with_kind(FailureKind::DOCUMENT)
        .with_path(path)
        .with_cause(error)
}

fn document_failure(path: &Path, error: cpreg_hosts::Error) -> Failure {
    Failure::new(format!("cannot read {}", path.display()))
        .with_path(path)
        .with_document_cause(error)
}

fn stream_failure(path: &Path, error: cpreg_stream::Error) -> Failure {
    let failure = Failure::new(format!("cannot read {}", path.display())).with_path(path);
    if error.kind() != ErrorKind::UnfinishedEdit {
        return failure.with_hinted_cause(error);
    }
    failure.with_cause(error).with_hint(recovery_hint(path))
}

/// Reads a JSON file completely.
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
        "{} begins like a profile, but is too large for one",
        path.display()
    ))
}

fn parse_profile(json: &[u8], path: &Path) -> Result<Profile, Failure> {
    if json.len() as u64 > PROFILE_LIMIT {
        return Err(too_large(path));
    }
    Profile::from_json(json).map_err(|error| document_failure(path, error))
}
