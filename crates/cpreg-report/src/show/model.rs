//! Model of `show`, schema `cpreg.show/2`.

use cpreg_hosts::profile::ProfileOrigin;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::FieldReport;
use crate::names::{Accelerator, ContentsKind, ValueOriginKind};
use crate::scalar::{Hex, Id, Vcpus};
use crate::vm_report::{HostPlatform, Redactions};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.show/2";

/// Report of `cpreg show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ShowReport {
    /// `"cpreg.show/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The file's name.
    pub name: String,
    /// `"stream"`, `"report"`, `"running"` or `"profile"`.
    pub kind: ContentsKind,
    /// Compression: `"xz"`, `"gzip"`, `"zstd"`, or null.
    pub compression: Option<String>,
    /// File of another program that holds the VM; absent if the file is a stream itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Machine type, or null.
    pub machine: Option<String>,
    /// `"kvm"`, `"tcg"`, `"hvf"`, or null.
    pub accelerator: Option<Accelerator>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// Origin of the values: `"reset"` if no guest had run, `"emulated-host"` for a recorded host,
    /// else `"guest"`.
    pub values: ValueOriginKind,
    /// Blocks of RAM, in the order of the file.
    pub ram: Vec<RamBlock>,
    /// Device sections, in the order of the file.
    pub devices: Vec<Device>,
    /// Properties of a stream; null for a profile.
    pub stream: Option<Stream>,
    /// Origin of a profile, as in [`cpreg.profile/2`](#cpregprofile2); null for a stream.
    pub origin: Option<ProfileOrigin>,
    /// The report that the stream was in, or null.
    pub report: Option<ReportSummary>,
    /// Core registers of each vCPU of a stream, which QEMU stores before the register list.
    pub vcpu_states: Vec<VcpuState>,
    /// Listed registers, or those of `--register`, ascending by id. A register has one entry for
    /// each value that vCPUs have.
    pub registers: Vec<Register>,
    /// Registers of `--register` that are not in the file.
    pub missing_registers: Vec<MissingRegister>,
    /// Extensions: CPU state that is not a register; empty with `--register`.
    pub extensions: Vec<Extension>,
}

/// A file of another program that holds a VM, and its facts about the VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Container {
    /// Kind of the file, in words: `"save image of libvirt, compressed with gzip"`.
    pub kind: String,
    /// Name of the VM or of its snapshot, or null.
    pub vm: Option<String>,
    /// Machine type, or null.
    pub machine: Option<String>,
    /// Value of QEMU's option `-cpu`, or null.
    pub cpu: Option<String>,
    /// Number of vCPUs, or null.
    pub vcpus: Option<u32>,
    /// Length of the guest's memory in bytes, or null.
    pub memory: Option<Hex>,
    /// `true` if the VM runs at once after its restore, or null.
    pub resumes: Option<bool>,
    /// Command that starts a VMM with this machine and CPU, without devices; or null.
    pub command: Option<String>,
    /// Further facts, in words.
    pub notes: Vec<String>,
}

/// A block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RamBlock {
    /// QEMU's name of the block.
    pub name: String,
    /// Length in bytes.
    pub length: Hex,
}

/// A device section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// QEMU's id string.
    pub name: String,
    /// Instance number among the sections with this name.
    pub instance: u32,
    /// Version of the section's format.
    pub version: u32,
}

/// Properties of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stream {
    /// Way in which the stream was read, in words.
    pub open_method: String,
    /// Length when unpacked, in bytes.
    pub length: Hex,
    /// Run state of the guest when the stream was written, or null.
    pub run_state: Option<String>,
    /// log2 of the page size of RAM records; null if the stream does not contain it.
    pub target_page_bits: Option<u32>,
    /// Migration capabilities that the loader must also have.
    pub capabilities: Vec<String>,
    /// The VM's UUID, or null.
    pub uuid: Option<String>,
    /// Sections that QEMU sends while the guest runs: RAM, dirty bitmaps, VFIO. Without `--verify`,
    /// only those that begin together with RAM, near the start of the stream.
    pub live_sections: Vec<Device>,
    /// Location of the device state of a postcopy migration, or null.
    pub package: Option<ByteRange>,
    /// Location of the description at the end, or null.
    pub description: Option<ByteRange>,
    /// `true` if the description has the correct length of every section.
    pub is_description_exact: bool,
    /// RAM records by kind; null unless RAM was read (`--verify`).
    pub ram_records: Option<RamRecordCounts>,
}

/// The report that contains a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportSummary {
    /// Version of the cpreg that wrote the report.
    pub cpreg: String,
    /// The machine that wrote the report, or null.
    pub host: Option<HostPlatform>,
    /// Things that are redacted.
    pub redactions: Redactions,
}

/// Location in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByteRange {
    /// Offset in bytes from the beginning.
    pub offset: Hex,
    /// Length in bytes.
    pub length: Hex,
}

/// RAM records by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RamRecordCounts {
    /// Pages of zeros.
    pub zero: u64,
    /// Whole pages.
    pub page: u64,
    /// Changes to pages that were sent before.
    pub xbzrle: u64,
    /// Compressed pages.
    pub compressed: u64,
}

/// A vCPU's core registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VcpuState {
    /// The vCPU.
    pub vcpu: usize,
    /// `"on"`, `"off"`, `"being switched on"` or `"in an unknown power state"`.
    pub power: String,
    /// Exception level or AArch32 mode, and which interrupts are masked, in words.
    pub mode: String,
    /// The registers.
    pub registers: Vec<CoreRegister>,
}

/// A core register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CoreRegister {
    /// X0 to X30, PC, PSTATE, SP_EL0, SP_EL1, ELR_EL1, SPSR_EL1; in AArch32 state R0 to R15 and
    /// CPSR.
    pub name: String,
    /// KVM's id; null in AArch32 state.
    pub id: Option<Id>,
    /// Value of the register.
    pub value: Hex,
    /// Same as in `registers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldReport>,
}

/// A listed register, with one of its values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Register {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Value; null if a profile lacks it.
    pub value: Option<String>,
    /// `true` if the value is hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// Meaning of the value, where it has a name, or null.
    pub meaning: Option<String>,
    /// Fields, with `--fields` or `--register`, most significant first, then set bits that belong
    /// to no field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldReport>,
}

/// A selected register that is not in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MissingRegister {
    /// The register's id.
    pub id: Id,
    /// Its name.
    pub name: String,
}

/// An extension: CPU state that is not a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Extension {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// QEMU's name of the subsection, or `"env.features"`.
    pub name: String,
    /// Content, if it is one number; else null.
    pub number: Option<Hex>,
    /// Content as bytes, two digits each, if it is not one number; else null.
    pub bytes: Option<String>,
}
