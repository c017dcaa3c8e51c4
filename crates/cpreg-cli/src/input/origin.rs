//! [`Origin`]: the file, program or host that an input comes from.

use std::fs::File;
use std::path::PathBuf;

use cpreg::hardware::VectorLengths;
use cpreg_report::vm_report::VmReport;
use cpreg_snapshot::{Description, SavedVm};

use super::compression::Compression;

/// Origin of an input.
pub(crate) enum Origin {
    /// File.
    File {
        /// File itself, or an unnamed file with its decompressed content.
        file: File,
        compression: Option<Compression>,
    },
    /// Saved VM in the file of another program.
    Saved {
        vm: Box<SavedVm>,
        /// Path of the file, without the name of the VM.
        file: PathBuf,
        compression: Option<Compression>,
    },
    /// Report.
    Report {
        report: Box<VmReport>,
        /// Stream in the report.
        stream: File,
        /// Compression of the report.
        compression: Option<Compression>,
    },
    /// Running QEMU, queried through its monitor.
    RunningQemu {
        /// Version of QEMU (`10.0.13`).
        version: String,
        /// `true` for KVM.
        is_kvm: bool,
        /// SVE vector lengths of the VM; `None` without SVE or KVM.
        vector_lengths: Option<VectorLengths>,
        /// Device state of QEMU.
        stream: File,
        /// Properties of the domain, if libvirt started this QEMU.
        domain: Option<Box<Description>>,
    },
    /// Recorded host, resolved for one guest.
    RecordedHost,
    /// QEMU that cpreg has just probed.
    Probe,
    /// Live stream, which cannot be read again.
    Live,
}
