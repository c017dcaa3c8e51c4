//! Model of `check`, schema `cpreg.check/2`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::dry_run::model::DryRunReport;
use crate::name_macro::names;
use crate::names::{
    Accelerator, Confidence, Decision, HardwareDecision, ReasonCode, Severity, ShapePartKind,
    Verdict,
};
use crate::scalar::{Hex, Id, Vcpus};
use crate::unrecorded::UnrecordedKernel;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.check/2";

/// Report of `cpreg check` and `cpreg convert`, and of `cpreg filter` on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CheckReport {
    /// `"cpreg.check/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `"loads"`, `"converts"`, `"refused"` or `"unknown"`.
    pub verdict: Verdict,
    /// Version of cpreg that wrote the document; absent in documents of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpreg_version: Option<String>,
    /// Parts of the VM that the verdict covers, in words.
    pub scope: String,
    /// The VM.
    pub source: Source,
    /// The destination.
    pub destination: Destination,
    /// Everything that blocks the load, or that lacks a decision: one entry each, with the reason
    /// and the remedies. The other members have the same decisions among all others.
    #[serde(default)]
    pub blockers: Vec<Blocker>,
    /// File that `cpreg convert` wrote, or null.
    #[serde(default)]
    pub written: Option<WrittenFile>,
    /// Differences of the machine shapes, which a loader compares before registers.
    pub shape: Vec<ShapeDifference>,
    /// Decisions about properties of the hosts that no register list holds; empty unless the
    /// destination has KVM.
    #[serde(default)]
    pub hardware: Vec<HardwareReport>,
    /// One decision for every register of the VM or the destination.
    pub decisions: Vec<RegisterDecision>,
    /// Decisions about extensions: CPU state that is not a register.
    pub extensions: Vec<ExtensionDecision>,
    /// Changes that the guest could notice after a successful load.
    pub visible_changes: Vec<VisibleChange>,
    /// Adjustments: changes of values that need the user's consent.
    pub adjustments: Adjustments,
    /// Checks at several possible destinations, if the VM's state leaves a feature of its guest
    /// open or the destination's kernel was not recorded; else empty. The rest of the document is
    /// the strictest check, with the visible changes of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Use of each entry of the operator's tolerance files; absent if no file has an entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operator_entries: Vec<OperatorEntry>,
    /// The destination's kernel, if it was not recorded; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrecorded_kernel: Option<UnrecordedKernel>,
    /// Parts on which the checks in `alternatives` differ, if the verdict depends on an unrecorded
    /// kernel; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<AlternativeDifference>,
    /// Notes about the VM as a whole, in words; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Facts that the verdict lacks, in words; empty unless the verdict is unknown.
    #[serde(default)]
    pub missing_facts: Vec<String>,
    /// Next steps, best first, each with its commands; empty if nothing is left to do.
    pub next_steps: Vec<String>,
    /// Command of the first next step, with the user's own names and options, or null. Words in
    /// capitals stand for arguments that only the user knows.
    #[serde(default)]
    pub next_command: Option<String>,
    /// Predicted load of the unconverted VM, for each modelled loader.
    pub loaders: Vec<LoaderReport>,
    /// Result of the plan on this machine's KVM ([below](#dry_run-of-cpregcheck2)), if DESTINATION
    /// is `kvm` and nothing blocks the load; else null.
    pub dry_run: Option<DryRunReport>,
}

/// The VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Source {
    /// Name of the file.
    pub name: String,
    /// Machine type, or null.
    pub machine: Option<String>,
    /// Number of vCPUs; null if `cpreg filter` refused the machine and did not read the device
    /// state.
    pub vcpus: Option<usize>,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<Accelerator>,
    /// Run state of the guest when the stream was written (`"running"`, `"paused"`, `"prelaunch"`
    /// …), or null.
    pub run_state: Option<String>,
    /// Way in which the stream was read, in words.
    pub open_method: String,
    /// Kind of the file that holds the stream, in words; absent if the file is a stream itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

/// The destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Destination {
    /// Name of the profile, or of the stream's file.
    pub name: String,
    /// Evidence about the destination, in words.
    pub provenance: String,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<Accelerator>,
    /// The program that loads the VM (`"qemu-10.0"`), or null if it is not known.
    pub loader: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
}

names! {
    /// Kind of a blocker.
    BlockerKind {
        /// Register.
        REGISTER = "register",
        /// Extension: CPU state that is not a register.
        EXTENSION = "extension",
        /// Difference of the machine shapes.
        SHAPE = "shape",
        /// Property of the hosts that no register list holds.
        FACT = "fact",
    }
}

/// A difference that blocks the load, or that lacks a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Blocker {
    /// `"register"`, `"extension"`, `"shape"` (a difference of the machine) or `"fact"` (a property
    /// of the hosts that no register list holds).
    pub kind: BlockerKind,
    /// Name of the register, extension, part of the machine or property.
    pub name: String,
    /// The register's id; null for other kinds.
    pub id: Option<Id>,
    /// The vCPUs; null for kinds that are no state of a vCPU.
    pub vcpus: Option<Vcpus>,
    /// `"refuse"`, or `"unknown"` if it is not known that the difference blocks the load.
    pub decision: Decision,
    /// Value of the VM or its host; null if secret, unknown or missing.
    pub source: Option<String>,
    /// Value of the destination, in the same form.
    pub destination: Option<String>,
    /// Reason, as a word for programs ([the codes](#reason-codes)), or null.
    pub reason_code: Option<ReasonCode>,
    /// Reason, in words.
    pub reason: String,
    /// Remedies, in words or as options, best first; empty if cpreg knows none.
    pub remedies: Vec<String>,
}

/// The file that `cpreg convert` wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct WrittenFile {
    /// Name of the file, as typed; `-` for standard output.
    pub path: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// `true` if SOURCE itself was changed.
    pub in_place: bool,
}

/// A check of the VM at one of its possible destinations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Alternative {
    /// Feature that the VM's state leaves open, such as `"pmu"`; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// `true` if the guest is assumed to have the feature; absent if none is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_feature: Option<bool>,
    /// Recorded host next to the destination's kernel; absent if the kernel was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_host: Option<String>,
    /// Argument that names the destination.
    pub destination: String,
    /// Verdict of that check.
    pub verdict: Verdict,
    /// Command that makes that check.
    pub command: String,
    /// `true` if the rest of the document is that check.
    pub shown: bool,
}

/// Use of an operator's tolerance for some of its registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct OperatorEntry {
    /// `number` of the entry of [`cpreg.tolerances/2`](#cpregtolerances2).
    pub tolerance: usize,
    /// File with the entry; null for an entry without a file.
    pub file: Option<String>,
    /// Number of the entry in the file, from 1; null for an entry without a file.
    pub entry: Option<usize>,
    /// Names of the registers; empty for a class of registers of which neither side has one.
    pub registers: Vec<String>,
    /// The vCPUs; empty if neither side has the registers.
    pub vcpus: Vcpus,
    /// `true` if the entry decided about the registers.
    pub applied: bool,
    /// Reason why the entry did not apply, in words; null if it applied.
    pub reason: Option<String>,
}

/// A part of the VM on which the checks at possible destinations differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct AlternativeDifference {
    /// The register's id; null for an extension or a property of the hosts.
    pub id: Option<Id>,
    /// Name of the register, extension or property.
    pub name: String,
    /// Fields in which the VM's value differs from that of a destination that does not take it.
    pub fields: Vec<String>,
    /// Decision of each check in `alternatives`; null if the check has none.
    pub decisions: Vec<Option<String>>,
    /// The register's value at each destination; null if not known, not listed or secret.
    pub destinations: Vec<Option<String>>,
}

/// A difference of the machine shapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ShapeDifference {
    /// Part that differs: `"accelerator"`, `"machine-type"`, `"vcpu-count"`, `"ram-block"` or
    /// `"device"`.
    pub kind: ShapePartKind,
    /// QEMU's name of the RAM block or device; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Instance id of the device; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<u32>,
    /// Value of the VM, or null.
    pub source: Option<String>,
    /// Value of the destination, or null.
    pub destination: Option<String>,
    /// `true` if a loader fails on the difference.
    pub blocks: bool,
    /// Reason why a loader fails, in words; absent if the values show the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Advice, in words; absent if the advice is to start the destination like the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A decision about a property of the hosts that no register list holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HardwareReport {
    /// `"counter frequency"`, `"SVE vector lengths"`, `"DC ZVA block size"`,
    /// `"MTE tag block (GMID_EL1)"`, `"GIC limits (ICC_CTLR_EL1)"`, `"GIC revision (GICD_IIDR)"`,
    /// `"PMU events (PMCEID0_EL0)"` or `"PMU events (PMCEID1_EL0)"`.
    pub property: String,
    /// Value at the VM's own host, or null if it is not known: in hertz, as in
    /// KVM_REG_ARM64_SVE_VLS, the fixed fields of ICC_CTLR_EL1, or the register.
    pub source: Option<Hex>,
    /// Value at the destination, in the same form.
    pub destination: Option<Hex>,
    /// `"keep"`; `"change"` if the guest can notice the difference; `"assume"` if the value is not
    /// known on at least one side, and the hosts have the same CPU; `"refuse"`; or `"unknown"`.
    pub decision: HardwareDecision,
    /// Confidence in the decision: `"proven"`, `"inferred"` or `"unknown"`.
    pub confidence: Confidence,
    /// Reason, in words.
    pub reason: String,
    /// Advice, in words, or null.
    pub advice: Option<String>,
}

/// A decision about a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct RegisterDecision {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Value in the VM; null if the VM lacks the register.
    pub source: Option<String>,
    /// Value at the destination; null if the destination does not list the register or the value is
    /// not known.
    pub destination: Option<String>,
    /// `true` if the destination lists the register.
    pub listed: bool,
    /// `true` if the values are hidden; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// `"copy"`, `"set"`, `"ignore"`, `"keep-at-reset"`, `"refuse"` or `"unknown"`.
    pub decision: Decision,
    /// Value that is written instead of the VM's value: for `"set"`, and for `"keep-at-reset"`
    /// where the loader would not keep the reset value; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_value: Option<String>,
    /// Confidence in the decision: `"proven"`, `"inferred"` or `"unknown"`.
    pub confidence: Confidence,
    /// `number` of the entry of [`cpreg.tolerances/2`](#cpregtolerances2) that decides, or null.
    pub tolerance: Option<usize>,
    /// Reason, as a word for programs: [the codes](#reason-codes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    /// Reason, in words.
    pub reason: String,
    /// Advice, in words, or null.
    pub advice: Option<String>,
}

/// A decision about an extension: CPU state that is not a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExtensionDecision {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// QEMU's name of the subsection (`"cpu/wfxt-timer"`), or `"env.features"`.
    pub name: String,
    /// Content in the VM: a number (`"0x1"`), or only its length (`"8 bytes"`); null if the VM
    /// lacks the extension.
    pub source: Option<String>,
    /// Content at the destination, in the same form.
    pub destination: Option<String>,
    /// Same as for registers.
    pub decision: Decision,
    /// Same as for registers.
    pub confidence: Confidence,
    /// Same as for registers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_code: Option<ReasonCode>,
    /// Same as for registers.
    pub reason: String,
}

/// A change that the guest could notice although the load succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VisibleChange {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id; null for an extension.
    pub id: Option<Id>,
    /// The register's name; null for an extension.
    pub name: Option<String>,
    /// The field, or the extension's name; null for the whole register.
    pub field: Option<String>,
    /// Value before the load, or null.
    pub from: Option<Hex>,
    /// Value after the load, or null.
    pub to: Option<Hex>,
    /// `"low"`, `"medium"`, `"high"`, or `"fatal"` if the user set the value.
    pub severity: Severity,
    /// Meaning for the guest, in words; may be empty.
    pub description: String,
}

/// Adjustments: changes of values that need the user's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Adjustments {
    /// Changes that the user accepted.
    pub accepted: Vec<Adjustment>,
    /// Changes that would unblock the load.
    pub proposed: Vec<Adjustment>,
    /// Verdict with all proposed changes: `"converts"`, `"refused"` or `"unknown"`.
    pub verdict_with_all: Verdict,
}

/// A change of a value that needs the user's consent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Adjustment {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Value in the VM; null if secret.
    pub from: Option<Hex>,
    /// Value after the change; null if secret.
    pub to: Option<Hex>,
    /// Severity of the change for the guest.
    pub severity: Severity,
    /// The option that accepts the change.
    pub consent: String,
}

/// Prediction for a modelled loader without cpreg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LoaderReport {
    /// `"qemu"`.
    pub name: String,
    /// `"10.0"`.
    pub version: String,
    /// `true` if this is the destination's loader.
    pub is_destination_loader: bool,
    /// `true` if the loader loads the VM, `false` if it fails, null if that is not known.
    pub loads: Option<bool>,
    /// Confidence in `loads`.
    pub confidence: Confidence,
    /// Lines that the loader would print.
    pub messages: Vec<String>,
    /// `true` if `messages` is complete.
    pub messages_complete: bool,
    /// Registers whose values are lost although the loader continues.
    pub lost_registers: Vec<LostRegister>,
}

/// A register whose value a loader loses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LostRegister {
    /// The vCPU.
    pub vcpu: usize,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
}
