//! Reports of `fleet`.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | faults and blocked VMs, which the reports share |
//! | [`check`] | every VM at every class of nodes, schema `cpreg.fleet-check/1` |
//! | [`drain`] | the VMs of one node, schema `cpreg.fleet-drain/1` |
//! | [`commands`] | moves as commands of libvirt, KubeVirt and OpenStack |
//! | [`plan`] | order of a rolling upgrade, schema `cpreg.fleet-plan/1` |
//! | [`labels`] | labels of all nodes, schema `cpreg.fleet-labels/1` |
//! | [`formats`] | labels in the formats of other systems |

pub mod check;
pub mod commands;
pub mod drain;
pub mod formats;
pub mod labels;
pub mod plan;

use std::fmt::Write as _;

use cpreg::severity;
use cpreg_fleet::inventory::Fault;
use cpreg_fleet::{Cell, Inventory};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::matrix::model::CellReport;
use crate::names::{Severity, Verdict};
use crate::printer::{Printer, heading, style, styled};
use crate::value::ValueFormat;

/// Item of the inventory that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FaultReport {
    /// Name of the node, VM or input.
    pub subject: String,
    /// Kind: `"unreadable"`, `"no-record"`, `"kernel-changed"`, `"expired"`, `"two-records"`,
    /// `"name"`, `"unknown-node"`.
    pub kind: String,
    /// Problem.
    pub message: String,
    /// Advice; null if cpreg has none.
    pub hint: Option<String>,
}

impl From<&Fault> for FaultReport {
    fn from(fault: &Fault) -> Self {
        Self {
            subject: fault.subject.clone(),
            kind: fault.kind().to_owned(),
            message: fault.to_string(),
            hint: fault.hint().map(str::to_owned),
        }
    }
}

/// VM at the class of nodes that is nearest to taking it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct BlockedVm {
    /// Name of the VM.
    pub vm: String,
    /// Name of its node; null if not known.
    pub node: Option<String>,
    /// `true` if no state of the VM was read, and a new VM of the host of its birth stands for it.
    pub is_inferred: bool,
    /// Verdict at the best class: refused or unknown. Unknown if the fleet has no other node.
    pub verdict: Verdict,
    /// Host of the best class; null if the fleet has no other node.
    pub at: Option<String>,
    /// Registers and other parts that block the load there.
    pub blockers: Vec<String>,
    /// Reason of the first blocker.
    pub reason: Option<String>,
    /// Highest severity of the proposed changes, if consent to all of them resolves all blockers;
    /// else null.
    pub resolving_consent: Option<Severity>,
}

impl BlockedVm {
    /// Creates the report of a VM. `best` is the host of the best class, with the VM's cell there.
    pub fn new(
        vm: &str,
        node: Option<&str>,
        is_inferred: bool,
        best: Option<(&str, &Cell)>,
    ) -> Self {
        let cell =
            best.map(|(host, cell)| CellReport::new(host, cell, ValueFormat::new(None, false)));
        Self {
            vm: vm.to_owned(),
            node: node.map(str::to_owned),
            is_inferred,
            verdict: cell
                .as_ref()
                .map_or(Verdict::UNKNOWN, |cell| cell.verdict.clone()),
            at: best.map(|(host, _)| host.to_owned()),
            blockers: cell
                .as_ref()
                .map(|it| it.blockers.clone())
                .unwrap_or_default(),
            reason: cell.as_ref().and_then(|cell| cell.reason.clone()),
            resolving_consent: cell.and_then(|cell| cell.resolving_consent),
        }
    }

    /// Returns why no node takes the VM, and what to do.
    fn explanation(&self) -> String {
        let Some(at) = &self.at else {
            return "the fleet has no other usable node".to_owned();
        };
        explain_cell(
            at,
            &self.blockers,
            self.reason.as_deref(),
            self.resolving_consent.as_ref(),
        )
    }
}

/// Returns the blockers of a cell, their reason and the consent that resolves them.
fn explain_cell(
    at: &str,
    blockers: &[String],
    reason: Option<&str>,
    consent: Option<&Severity>,
) -> String {
    /// Maximum number of blockers in the line.
    const MAX_LISTED: usize = 3;
    let mut text = String::new();
    if !blockers.is_empty() {
        text.push_str(&crate::text::list_first(blockers, MAX_LISTED));
        text.push_str(": ");
    }
    text.push_str(reason.unwrap_or("no reason is known"));
    // Writing to a string does not fail.
    let _ = write!(text, " (at {at})");
    if let Some(consent) = consent {
        text.push_str("; ");
        text.push_str(&describe_consent(consent));
    }
    text
}

/// Returns the option that resolves all blockers.
fn describe_consent(consent: &Severity) -> String {
    if *consent == Severity::from(severity::Severity::Low)
        || *consent == Severity::from(severity::Severity::Medium)
    {
        format!("`--accept {}` resolves this", consent.name())
    } else {
        "the consents that `cpreg check` proposes resolve this".to_owned()
    }
}

/// Returns the reports of all faults.
fn faults(inventory: &Inventory) -> Vec<FaultReport> {
    inventory.faults().iter().map(FaultReport::from).collect()
}

/// Prints the items that cannot be used.
fn print_faults(printer: &mut Printer, faults: &[FaultReport]) {
    /// Maximum number of columns of a name before its text.
    const MAX_INDENT: usize = 16;
    if faults.is_empty() {
        return;
    }
    printer.line("");
    printer.line(heading("cannot be used; everything else is planned"));
    for fault in faults {
        let hint = fault.hint.as_deref();
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let begin = format!("  {}: ", styled(style::NAME, &fault.subject));
        let text = format!("{}{hint}", fault.message);
        if fault.subject.len() > MAX_INDENT {
            printer.line(&begin);
            printer.paragraph("      ", text);
        } else {
            printer.paragraph(&begin, text);
        }
    }
}
