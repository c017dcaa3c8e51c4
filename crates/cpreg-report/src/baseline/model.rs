//! Model of `baseline`, schema `cpreg.baseline-report/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::firecracker_template::Template;
use crate::names::{Severity, Verdict};
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.baseline-report/1";

/// Report of `cpreg baseline`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct BaselineReport {
    /// `"cpreg.baseline-report/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Worst verdict of `cpreg check` on a move between two hosts, or on a birth: `"loads"`,
    /// `"converts"`, `"refused"` or `"unknown"`.
    pub verdict: Verdict,
    /// The verdict, in words.
    pub summary: String,
    /// Names of the hosts, in the order of the arguments. Other members name hosts by these names.
    pub hosts: Vec<String>,
    /// Hosts whose values are those of an emulated CPU: valid for their kernels, no proof of a real
    /// machine's values.
    pub emulated_hosts: Vec<String>,
    /// vCPU features of the guest: `"pmu"`, `"sve"`, `"ptrauth"`, `"mte"`, `"el2"`.
    pub features: Vec<String>,
    /// Features that the guest does without.
    pub lost_features: Vec<LostFeature>,
    /// Limit of the SVE vector lengths, or null if all hosts have the same lengths.
    pub vector_limit: Option<VectorLimit>,
    /// Values with which the VM is born.
    pub settings: Vec<Setting>,
    /// Differences that no setting removes.
    pub fixed: Vec<FixedValue>,
    /// Registers that only some hosts list and that the VM can be born without (`--drop`).
    pub drops: Vec<String>,
    /// Planned moves and births.
    pub counts: MoveCounts,
    /// Moves and births that are not ready without consent.
    pub blocked: Vec<BlockedMove>,
    /// Changes that the guest could notice although the load succeeds.
    pub visible_changes: Vec<VisibleChange>,
    /// Predicted loads by programs without cpreg at the destination.
    pub loaders: Vec<LoaderCount>,
    /// Effects of leaving out hosts.
    pub advice: Vec<Advice>,
    /// The settings in the dialects of programs.
    pub dialects: Dialects,
}

/// A feature that the guest does without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LostFeature {
    /// Name of the feature.
    pub feature: String,
    /// Hosts that lack the feature.
    pub forced_by: Vec<String>,
    /// Reason, in words.
    pub reason: String,
    /// `true` if the user asked to keep the feature.
    pub wanted: bool,
}

/// A limit of the SVE vector lengths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VectorLimit {
    /// Greatest length in bits.
    pub max_bits: u32,
    /// Greatest length in bits that any host has.
    pub best_bits: u32,
    /// Hosts with other lengths than the host with the most.
    pub forced_by: Vec<String>,
}

/// A value with which the VM is born.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Setting {
    /// Name of the register.
    pub register: String,
    /// The register's id.
    pub id: Id,
    /// Name of the field, or null for the whole register.
    pub field: Option<String>,
    /// Value of the field or register.
    pub value: Hex,
    /// Value that promises the guest the most, among those of the hosts.
    pub best: Hex,
    /// Hosts that do not keep the best value. If all values promise the same, hosts that keep no
    /// other host's value.
    pub forced_by: Vec<String>,
}

/// A difference that no setting removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FixedValue {
    /// Name of the register.
    pub register: String,
    /// The register's id.
    pub id: Id,
    /// Name of the field, or null for the whole register.
    pub field: Option<String>,
    /// Values with their hosts.
    pub values: Vec<HostValue>,
    /// Reason, in words.
    pub reason: String,
}

/// A value that hosts have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostValue {
    /// The value.
    pub value: Hex,
    /// Hosts with the value.
    pub hosts: Vec<String>,
    /// Hosts of these that accept no other host's value.
    pub fixed_on: Vec<String>,
}

/// Numbers of planned moves and births.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct MoveCounts {
    /// Ordered pairs of hosts.
    pub pairs: usize,
    /// Pairs whose plan is ready.
    pub ready_pairs: usize,
    /// Hosts.
    pub births: usize,
    /// Hosts on which a VM can be born with the settings.
    pub ready_births: usize,
}

/// A move that is not ready, or a birth if both hosts are the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct BlockedMove {
    /// Host of the VM.
    pub from: String,
    /// Destination.
    pub to: String,
    /// `"needs-consent"`, `"cpu-differs"` (the registers fit, and the CPUs differ), `"refused"` or
    /// `"unknown"`.
    pub outcome: String,
    /// Differences that block the load, or that lack a decision.
    pub blockers: Vec<Blocker>,
    /// Changes of value that would unblock the load.
    pub consents: Vec<Consent>,
}

/// A difference that blocks a load, or that lacks a decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Blocker {
    /// Name of the register, extension or property of the hosts.
    pub name: String,
    /// Reason, in words.
    pub reason: String,
    /// `true` if the decision lacks information.
    pub unknown: bool,
}

/// A change of value that the user can accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Consent {
    /// Name of the register.
    pub register: String,
    /// The VM's value.
    pub from: Hex,
    /// The new value.
    pub to: Hex,
    /// Severity of the change.
    pub severity: Severity,
}

/// A change that the guest could notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VisibleChange {
    /// Name of the register, field or extension.
    pub name: String,
    /// Severity of the change.
    pub severity: Severity,
    /// Explanation, in words; may be empty.
    pub description: String,
    /// Number of moves with the change.
    pub moves: usize,
}

/// Predicted loads by one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LoaderCount {
    /// Program and version: `"qemu-11.1"`.
    pub loader: String,
    /// Pairs of hosts for which the program loads the unchanged VM.
    pub pairs: usize,
    /// The same for a VM that is born without the registers in `drops`.
    pub pairs_after_drops: usize,
}

/// The effect of leaving out hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Advice {
    /// Hosts to leave out.
    pub hosts: Vec<String>,
    /// Features that the guest would have in addition.
    pub features: Vec<String>,
    /// Registers and fields that would keep a better value, or that would no longer differ.
    pub values: Vec<String>,
    /// Moves and births among the other hosts that would be ready.
    pub ready: usize,
    /// Moves and births among the other hosts.
    pub moves: usize,
}

/// The settings in the dialects of programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Dialects {
    /// Options of QEMU, by version.
    pub qemu: Vec<QemuOptions>,
    /// Elements of a libvirt domain for QEMU 11.0 and later.
    pub libvirt: LibvirtElements,
    /// Custom CPU template of Firecracker.
    pub firecracker: FirecrackerTemplate,
    /// Settings for `cpreg run`.
    pub run: RunSettings,
    /// Parameters of Linux and other work on the hosts.
    pub host_items: Vec<HostItem>,
}

/// Options of a range of versions of QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct QemuOptions {
    /// Versions, in words.
    pub versions: String,
    /// Value of `-cpu`.
    pub cpu: String,
    /// Settings for which these versions have no option.
    pub missing: Vec<String>,
}

/// Elements of a libvirt domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LibvirtElements {
    /// The elements, with line ends.
    pub xml: String,
    /// Settings for which libvirt and QEMU have no option.
    pub missing: Vec<String>,
}

/// A custom CPU template of Firecracker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FirecrackerTemplate {
    /// The template.
    pub template: Template,
    /// Settings that a template cannot make.
    pub missing: Vec<String>,
    /// Verdict on such VMs, as `verdict` of the report.
    pub verdict: Verdict,
    /// The verdict, in words.
    pub summary: String,
}

/// Settings for `cpreg run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RunSettings {
    /// Options of `cpreg run` beside `--baseline FILE`.
    pub options: Vec<String>,
    /// The file: a document of `cpreg.baseline/1`.
    pub baseline: BaselineFile,
}

/// A document of `cpreg.baseline/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct BaselineFile {
    /// `"cpreg.baseline/1"`.
    pub schema: String,
    /// Names of the hosts.
    pub hosts: Vec<String>,
    /// Settings.
    pub settings: Vec<FileSetting>,
}

/// A setting in a document of `cpreg.baseline/1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FileSetting {
    /// Name of the register.
    pub register: String,
    /// Name of the field; absent for the whole register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The value.
    pub value: Hex,
}

/// Work on hosts that has the effect of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HostItem {
    /// Parameter of Linux, or null for other work.
    pub parameter: Option<String>,
    /// Hosts to change.
    pub hosts: Vec<String>,
    /// Effect, in words.
    pub effect: String,
}
