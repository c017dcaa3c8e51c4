//! Model of a VM report, schema `cpreg.report/2`.

use cpreg_hosts::hardware::HardwareJson;
use cpreg_hosts::profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.report/2";

/// A VM without RAM and secrets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct VmReport {
    /// `"cpreg.report/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub(super) schema: String,
    /// Version of the cpreg that wrote it.
    pub cpreg: String,
    /// Summary of the stream.
    pub vm: StreamSummary,
    /// The machine that wrote the report, with `--host`; else null.
    #[serde(default)]
    pub host: Option<HostPlatform>,
    /// Properties of the host that the VM ran on, with `--from`; else absent. cpreg uses them when
    /// it reads the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hardware: Option<HardwareJson>,
    /// Things that are redacted in addition to RAM.
    pub redactions: Redactions,
    /// The destination, if one was named; else null.
    #[serde(default)]
    pub destination: Option<ReportDestination>,
    /// The [`cpreg.check/2`](#cpregcheck2) of the VM and the destination, with the redacted data;
    /// null without a destination.
    #[serde(default)]
    #[schemars(with = "Option<crate::check::model::CheckReport>")]
    pub check: Option<serde_json::Value>,
    /// The stream. cpreg uses it when it reads the report.
    pub(super) stream: EncodedStream,
}

/// Summary of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamSummary {
    /// Machine type, or null.
    pub machine: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<String>,
    /// Run state of the guest, or null.
    pub run_state: Option<String>,
    /// Way in which the stream was read, in words.
    pub open_method: String,
    /// Length of the original stream with RAM, uncompressed, in bytes.
    pub length: String,
    /// Kind of the file that held the stream, in words; absent if the file was a stream itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Versions of QEMU that can have written the stream, according to its machine type and CPU
    /// state.
    pub written_by: VersionRange,
    /// Blocks of RAM, in the order of the stream.
    pub ram: Vec<RamBlock>,
    /// Device sections, in the order of the stream.
    pub devices: Vec<Device>,
}

/// A range of versions, `major.minor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionRange {
    /// The first version, `"10.0"`, or null if it is not known.
    pub since: Option<String>,
    /// The last version, or null if it is not known.
    pub until: Option<String>,
}

/// A block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RamBlock {
    /// QEMU's name of the block.
    pub name: String,
    /// Length in bytes.
    pub length: String,
}

/// A device section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// QEMU's id string.
    pub name: String,
    /// Instance number among the sections with this name.
    pub instance: u32,
    /// Version of its format.
    pub version: u32,
    /// Length of its payload, in bytes.
    pub length: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPlatform {
    /// Operating system: `"linux"`.
    pub system: String,
    /// Architecture: `"aarch64"`.
    pub architecture: String,
    /// Release of the kernel, or null if it is not known.
    pub kernel: Option<String>,
}

/// Things that are redacted in addition to RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redactions {
    /// Listed registers whose value is replaced with `0xb1a40000` on at least one vCPU.
    pub registers: Vec<RedactedRegister>,
    /// Other parts of the CPU state that are replaced with zeros: `"general registers"`,
    /// `"cpu/sve"` …
    pub parts: Vec<String>,
    /// Devices with bytes that are replaced with zeros.
    pub devices: Vec<RedactedDevice>,
    /// `true` if a UUID was removed.
    pub uuid: bool,
}

/// A register whose value is redacted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedactedRegister {
    /// The register's id. cpreg uses it when it reads the report.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A device with bytes that are replaced with zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedactedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Instance number among the sections with this name.
    pub instance: u32,
    /// Number of bytes that were not zero before.
    pub bytes: u64,
}

/// The destination of the VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportDestination {
    /// Evidence about the destination, in words.
    pub provenance: String,
    /// A [`cpreg.profile/2`](#cpregprofile2) without name, command line and data of a guest.
    pub profile: profile::Document,
}

/// A compressed stream as text.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct EncodedStream {
    /// `"gzip, base64"`.
    pub(super) encoding: String,
    /// Uncompressed length of the stream, in bytes.
    pub(super) length: String,
    /// The compressed stream, in lines.
    pub(super) data: Vec<String>,
}
