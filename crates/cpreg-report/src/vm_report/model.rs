//! The model of what is sent to somebody who helps, schema `cpreg.report/2`.

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
    /// The stream that it was made from.
    pub vm: StreamSummary,
    /// The machine that the report was made on: with `--host`, else null.
    #[serde(default)]
    pub host: Option<HostPlatform>,
    /// Things that were taken out beside RAM.
    pub redactions: Redactions,
    /// The place where the VM was to go: with `--to`, else null.
    #[serde(default)]
    pub destination: Option<ReportDestination>,
    /// The [`cpreg.check/2`](#cpregcheck2) of the two, made with what is in the report; null
    /// without `--to`.
    #[serde(default)]
    #[schemars(with = "Option<crate::check::model::CheckReport>")]
    pub check: Option<serde_json::Value>,
    /// The stream itself; read back.
    pub(super) stream: EncodedStream,
}

/// A stream.
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
    /// Its length with RAM, unpacked, in bytes.
    pub length: String,
    /// Versions of QEMU that can have written it, by its machine type and the parts of its CPU
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
    /// The first, `"10.0"`, or null if nothing tells.
    pub since: Option<String>,
    /// The last, likewise.
    pub until: Option<String>,
}

/// A block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RamBlock {
    /// QEMU's name for it.
    pub name: String,
    /// Length in bytes.
    pub length: String,
}

/// A device section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// QEMU's id string.
    pub name: String,
    /// Number among several with that name.
    pub instance: u32,
    /// Version of its format.
    pub version: u32,
    /// Length of its payload, in bytes.
    pub length: String,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostPlatform {
    /// Its operating system: `"linux"`.
    pub system: String,
    /// Its architecture: `"aarch64"`.
    pub architecture: String,
    /// Its kernel's release, or null if it does not tell.
    pub kernel: Option<String>,
}

/// Things that were taken out beside RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Redactions {
    /// Registers of the list whose values are not the VM's, on at least one vCPU: `0xb1a40000`
    /// stands there.
    pub registers: Vec<RedactedRegister>,
    /// Other parts of the CPU state that are zero: `"core registers"`, `"cpu/sve"` …
    pub parts: Vec<String>,
    /// Devices some of whose bytes are zero instead.
    pub devices: Vec<RedactedDevice>,
    /// `true` if there was a UUID.
    pub uuid: bool,
}

/// A register whose value is not the VM's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedactedRegister {
    /// The register's id; read back.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A device some of whose bytes are zero instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedactedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Number among several with that name.
    pub instance: u32,
    /// Number of bytes that were not zero before.
    pub bytes: u64,
}

/// The place where a VM was to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportDestination {
    /// Evidence for what is known of it, in words.
    pub provenance: String,
    /// A [`cpreg.profile/2`](#cpregprofile2), without name, command line and what a guest left
    /// there.
    pub profile: profile::Document,
}

/// A stream, packed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct EncodedStream {
    /// `"gzip, base64"`.
    pub(super) encoding: String,
    /// Length of the stream when unpacked, in bytes.
    pub(super) length: String,
    /// The packed stream, in lines.
    pub(super) data: Vec<String>,
}
