//! The model of what is sent to somebody who helps, schema `cpreg.report/1`.

use cpreg_hosts::profile;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.report/1";

/// A VM without RAM and secrets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// `"cpreg.report/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub(super) schema: String,
    /// Version of the cpreg that wrote it.
    pub cpreg: String,
    /// The stream that it was made from.
    pub vm: About,
    /// The machine that the report was made on: with `--host`, else null.
    #[serde(default)]
    pub host: Option<Host>,
    /// Things that were taken out beside RAM.
    pub blanked: Blanked,
    /// The place where the VM was to go: with `--to`, else null.
    #[serde(default)]
    pub destination: Option<Going>,
    /// The [`cpreg.check/1`](#cpregcheck1) of the two, made with what is in the report; null
    /// without `--to`.
    #[serde(default)]
    #[schemars(with = "Option<crate::check::model::Report>")]
    pub check: Option<serde_json::Value>,
    /// The stream itself; read back.
    pub(super) stream: Packed,
}

/// A stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// Machine type, or null.
    pub machine: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<String>,
    /// Run state of the guest, or null.
    pub run_state: Option<String>,
    /// Way in which the stream was read, in words.
    pub opened: String,
    /// Its length with RAM, unpacked, in bytes.
    pub length: String,
    /// Versions of QEMU that can have written it, by its machine type and the parts of its CPU
    /// state.
    pub written_by: Versions,
    /// Blocks of RAM, in the order of the stream.
    pub ram: Vec<Ram>,
    /// Device sections, in the order of the stream.
    pub devices: Vec<Device>,
}

/// A range of versions, `major.minor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Versions {
    /// The first, `"10.0"`, or null if nothing tells.
    pub from: Option<String>,
    /// The last, likewise.
    pub until: Option<String>,
}

/// A block of RAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ram {
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
pub struct Host {
    /// Its operating system: `"linux"`.
    pub system: String,
    /// Its architecture: `"aarch64"`.
    pub architecture: String,
    /// Its kernel's release, or null if it does not tell.
    pub kernel: Option<String>,
}

/// Things that were taken out beside RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Blanked {
    /// Registers of the list whose values are not the VM's, on at least one vCPU: `0xb1a40000`
    /// stands there.
    pub registers: Vec<BlankedRegister>,
    /// Other parts of the CPU state that are zero: `"general registers"`, `"cpu/sve"` …
    pub parts: Vec<String>,
    /// Devices some of whose bytes are zero instead.
    pub devices: Vec<BlankedDevice>,
    /// `true` if there was a UUID.
    pub uuid: bool,
}

/// A register whose value is not the VM's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlankedRegister {
    /// The register's id; read back.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A device some of whose bytes are zero instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlankedDevice {
    /// QEMU's id string.
    pub name: String,
    /// Number among several with that name.
    pub instance: u32,
    /// Number of bytes that were not zero before.
    pub bytes: u64,
}

/// The place where a VM was to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Going {
    /// Evidence for what is known of it, in words.
    pub evidence: String,
    /// A [`cpreg.profile/1`](#cpregprofile1), without name, command line and what a guest left
    /// there.
    pub profile: profile::Document,
}

/// A stream, packed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct Packed {
    /// `"gzip, base64"`.
    pub(super) packing: String,
    /// Length of the stream when unpacked, in bytes.
    pub(super) length: String,
    /// The packed stream, in lines.
    pub(super) data: Vec<String>,
}
