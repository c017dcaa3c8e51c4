//! The model of `check`, schema `cpreg.check/2`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dry_run::model::DryRunReport;
use crate::names::{Accelerator, Confidence, Decision, Severity, Verdict};
use crate::scalar::{Hex, Id, Vcpus};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.check/2";

/// Answer of `cpreg check` and `cpreg convert`; and of `cpreg filter`, on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct CheckReport {
    /// `"cpreg.check/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// `"loads"`, `"converts"`, `"refused"` or `"unknown"`.
    pub verdict: Verdict,
    /// Subject of the verdict, in words.
    pub scope: String,
    /// The VM.
    pub source: Source,
    /// The place where the VM goes.
    pub destination: Destination,
    /// Differences of the outlines, which are looked at before registers.
    pub shape: Vec<ShapeDifference>,
    /// One decision for every register that either side has.
    pub decisions: Vec<RegisterDecision>,
    /// Decisions about parts of the CPU state that are no registers.
    pub extensions: Vec<ExtensionDecision>,
    /// Changes that the guest could notice although the load succeeds.
    pub visible_changes: Vec<VisibleChange>,
    /// Changes of value that only the user can take.
    pub adjustments: Adjustments,
    /// Where the verdict is unknown, ways to find out, best first.
    pub next_steps: Vec<String>,
    /// Each modelled program, and what it would do with the VM on its own.
    pub loaders: Vec<LoaderReport>,
    /// What this machine's KVM did with the plan, if DESTINATION is `kvm` and the plan is ready
    /// ([below](#dry_run-of-cpregcheck2)); else null.
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
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<Accelerator>,
    /// Run state of the guest when the stream was written (`"running"`, `"paused"`, `"prelaunch"`
    /// …), or null.
    pub run_state: Option<String>,
    /// Way in which the stream was read, in words.
    pub open_method: String,
}

/// The place where the VM goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Destination {
    /// Name of the profile, or of the stream's file.
    pub name: String,
    /// What it is known from, in words.
    pub provenance: String,
    /// `"kvm"`, `"tcg"`, `"hvf"` or null.
    pub accelerator: Option<Accelerator>,
    /// The program that loads there (`"qemu 10.0"`), or null if that is not known.
    pub loader: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
}

/// A difference of the outlines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ShapeDifference {
    /// `"machine type"`, `"number of vCPUs"`, `"RAM block …"`, `"device …"`.
    pub kind: String,
    /// Property of the VM, or null.
    pub source: Option<String>,
    /// Property of the destination, or null.
    pub destination: Option<String>,
    /// `true` if a loader fails on it.
    pub blocks: bool,
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
    /// Its value in the VM; null if the VM lacks it.
    pub source: Option<String>,
    /// Its value at the destination; null if it is not listed there or the value is not known.
    pub destination: Option<String>,
    /// `true` if the destination lists it.
    pub listed: bool,
    /// `true` if the values are kept back; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// `"copy"`, `"set"`, `"ignore"`, `"keep-at-reset"`, `"refuse"` or `"unknown"`.
    pub decision: Decision,
    /// The value that is written instead of the VM's own: for `"set"`, and for `"keep-at-reset"`
    /// where the loader would leave something else there; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_value: Option<String>,
    /// Knowledge behind the decision: `"proven"`, `"new_inferred"` or `"unknown"`.
    pub confidence: Confidence,
    /// `number` of the entry of [`cpreg.tolerances/2`](#cpregtolerances2) behind it, or null.
    pub tolerance: Option<usize>,
    /// The reason, in words.
    pub reason: String,
    /// Advice, in words, or null.
    pub advice: Option<String>,
}

/// A decision about a part of the CPU state that is no register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ExtensionDecision {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// QEMU's name of the subsection (`"cpu/wfxt-timer"`), or `"env.features"`.
    pub name: String,
    /// Content in the VM: a number, or the number of bytes; or null.
    pub source: Option<String>,
    /// Content at the destination, likewise.
    pub destination: Option<String>,
    /// As for registers.
    pub decision: Decision,
    /// As for registers.
    pub confidence: Confidence,
    /// As for registers.
    pub reason: String,
}

/// A change that the guest could notice although the load succeeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct VisibleChange {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id; null if it is about an extension.
    pub id: Option<Id>,
    /// The register's name, likewise.
    pub name: Option<String>,
    /// The field, or the extension's name; null if it is about the whole register.
    pub field: Option<String>,
    /// The value that the guest had, or null.
    pub from: Option<Hex>,
    /// The value that it gets, or null.
    pub to: Option<Hex>,
    /// `"low"`, `"medium"` or `"high"`.
    pub severity: Severity,
    /// Meaning for the guest, in words; may be empty.
    pub description: String,
}

/// Changes of value that only the user can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Adjustments {
    /// Those that were taken.
    pub accepted: Vec<Adjustment>,
    /// Those that would take away what blocks the load.
    pub proposed: Vec<Adjustment>,
    /// The verdict with all of them: `"converts"`, `"refused"` or `"unknown"`.
    pub verdict_with_all: Verdict,
}

/// A change of value that only the user can take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Adjustment {
    /// The vCPUs.
    pub vcpus: Vcpus,
    /// The register's id.
    pub id: Id,
    /// The register's name.
    pub name: String,
    /// Its value; null if secret.
    pub from: Option<Hex>,
    /// The value that it gets; null if secret.
    pub to: Option<Hex>,
    /// Severity of the change for the guest.
    pub severity: Severity,
    /// The option that takes it.
    pub consent: String,
}

/// A modelled program, and what it would do with the VM on its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct LoaderReport {
    /// `"qemu"`.
    pub name: String,
    /// `"10.0"`.
    pub version: String,
    /// `true` if it is the one at the destination.
    pub is_destination_loader: bool,
    /// `true`, `false`, or null where nothing tells.
    pub loads: Option<bool>,
    /// Knowledge behind that.
    pub confidence: Confidence,
    /// Lines that it would print, in its own words.
    pub messages: Vec<String>,
    /// `true` if these are all.
    pub messages_complete: bool,
    /// Registers whose values it loses although it goes on.
    pub lost_registers: Vec<LostRegister>,
}

/// A register whose value a program loses.
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
