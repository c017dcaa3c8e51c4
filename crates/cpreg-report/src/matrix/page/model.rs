//! Model of the data in a page, schema `cpreg.matrix-page/1`.
//!
//! Equal cells, parts and texts occur once, and other members refer to them by index. A matrix of
//! ten thousand cells has a few hundred different cells.

use serde::{Deserialize, Serialize};

use crate::names::{Severity, UnchangedLoad};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.matrix-page/1";

/// Index into [`PageData::texts`].
pub type TextIndex = usize;

/// Data of a page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageData {
    /// `"cpreg.matrix-page/1"`.
    pub schema: String,
    /// Version of cpreg.
    pub cpreg_version: String,
    /// Symbols of cells, best first.
    pub symbols: Vec<SymbolMeaning>,
    /// Symbols of loads without cpreg, best first.
    pub unchanged_symbols: Vec<UnchangedMeaning>,
    /// Loaders of the rows' planes.
    pub loaders: Vec<PageLoader>,
    /// Consents of all plans, as options for a shell: empty, or with a leading space.
    pub options: String,
    /// Destinations: the columns.
    pub destinations: Vec<PageName>,
    /// VMs: the rows.
    pub sources: Vec<PageSource>,
    /// Inputs that cannot be used.
    pub left_out: Vec<PageLeftOut>,
    /// Different rows: index into `cells` for each loader and destination.
    pub rows: Vec<Vec<Vec<usize>>>,
    /// Different cells.
    pub cells: Vec<PageCell>,
    /// Different parts of cells.
    pub parts: Vec<PagePart>,
    /// Recorded kernels, oldest first.
    pub kernels: Vec<String>,
    /// Registers of the parts, by name.
    pub registers: Vec<RegisterTimeline>,
    /// Different texts.
    pub texts: Vec<String>,
    /// Nodes of the destinations, in the page of a fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<PageFleet>,
}

/// Symbol of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SymbolMeaning {
    /// One character.
    pub symbol: String,
    /// Meaning, in words.
    pub meaning: String,
}

/// Symbol of a load without cpreg.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnchangedMeaning {
    /// Result of the load.
    pub result: UnchangedLoad,
    /// One character.
    pub symbol: String,
    /// Meaning, in words.
    pub meaning: String,
}

/// Loader for which all cells were planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "`matrix` fills it")]
pub struct PageLoader {
    /// Name in the switch.
    pub label: String,
    /// Option of `cpreg check` that names the loader: empty, or with a leading space.
    pub option: String,
}

/// Name of a column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageName {
    /// Name.
    pub name: String,
    /// Name, quoted for a shell.
    pub argument: String,
}

/// Row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageSource {
    /// Name.
    pub name: String,
    /// Name, quoted for a shell.
    pub argument: String,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `true` for a new VM of a host, of which no file exists.
    pub is_new: bool,
    /// Index into [`PageData::rows`].
    pub row: usize,
    /// Name of its node, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Destination that stands for its node, if the node is usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
}

/// Nodes of a fleet, for which the destinations stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageFleet {
    /// Number of nodes.
    pub nodes: usize,
    /// Number of nodes with a record that can be used.
    pub usable_nodes: usize,
    /// Nodes of each destination.
    pub classes: Vec<PageClass>,
    /// Fleet now, and after each step of an upgrade.
    pub moments: Vec<PageMoment>,
    /// Upgrade as in [`cpreg.fleet-plan/1`](#cpregfleet-plan1), if the user names its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<serde_json::Value>,
}

/// Nodes for which a destination stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageClass {
    /// Names of the first nodes.
    pub first_nodes: Vec<String>,
    /// Number of VMs on the nodes.
    pub vms: usize,
}

/// Moment of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageMoment {
    /// Name in the switch.
    pub label: String,
    /// Number of usable nodes of each destination.
    pub counts: Vec<usize>,
}

/// Input that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageLeftOut {
    /// Name, as given.
    pub name: String,
    /// The error with its causes, in one line.
    pub error: String,
}

/// Content of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PageCell {
    /// Symbol of the verdict.
    pub symbol: String,
    /// Result of loading the VM without cpreg.
    pub without_cpreg: UnchangedLoad,
    /// Highest severity of what the guest could notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Reason for a verdict *refused* or *unknown*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<TextIndex>,
    /// Consents that resolve all blockers, as options with a leading space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consents: Option<TextIndex>,
    /// Indexes into [`PageData::parts`]: blockers first.
    pub parts: Vec<usize>,
    /// Messages of the loader without cpreg, if the loader is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<TextIndex>,
}

/// Kind of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartKind {
    /// Blocks the load.
    Blocker,
    /// Lacks a decision.
    Undecided,
    /// The plan leaves registers out, or sets them.
    Change,
    /// The guest could notice the change.
    Visible,
}

/// Registers with one decision and one reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PagePart {
    /// Kind.
    pub kind: PartKind,
    /// Decision, or severity of a visible change.
    pub decision: TextIndex,
    /// Registers or other parts.
    pub items: Vec<PartItem>,
    /// Reason.
    pub reason: TextIndex,
    /// Remedies, best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<TextIndex>,
    /// Changes of kernels and VMMs, with commits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<TextIndex>,
}

/// Register, with its values if they matter; written as an array.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::exhaustive_structs, reason = "three members for good")]
pub struct PartItem(
    /// Name.
    pub TextIndex,
    /// Value at the source.
    pub Option<TextIndex>,
    /// Value at the destination.
    pub Option<TextIndex>,
);

/// Register over the recorded kernels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RegisterTimeline {
    /// Name.
    pub name: TextIndex,
    /// Purpose, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<TextIndex>,
    /// Values that KVM accepts, in words.
    pub accepted: TextIndex,
    /// Condition under which newer kernels hide the register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<HiddenRegister>,
    /// Groups of consecutive kernels that treat the register alike, oldest first.
    pub spans: Vec<TimelineSpan>,
}

/// Condition under which kernels hide a register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HiddenRegister {
    /// Index into [`PageData::kernels`] of the first recorded kernel with the condition.
    pub first_kernel: usize,
    /// Condition, with the release and the commit.
    pub condition: TextIndex,
}

/// Consecutive kernels that treat a register alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TimelineSpan {
    /// Number of kernels.
    pub kernels: usize,
    /// Guests with the register; absent if no guest has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guests: Option<TextIndex>,
    /// Reset values, each with its guests.
    pub values: Vec<(TextIndex, TextIndex)>,
    /// Masks of writable bits, each with its guests; empty if the kernel does not report them.
    pub writable: Vec<(TextIndex, TextIndex)>,
    /// Error numbers with which KVM refuses a write of the value that it returned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub write_back_errnos: Vec<u16>,
}
