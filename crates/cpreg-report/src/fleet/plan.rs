//! Report of `fleet plan`, schema `cpreg.fleet-plan/1`.

use cpreg_fleet::Inventory;
use cpreg_fleet::baseline::Baseline;
use cpreg_fleet::upgrade::{UpgradePlan, VmGroup};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FaultReport, explain_cell, faults, print_faults};
use crate::matrix::model::CellReport;
use crate::names::{Severity, Verdict};
use crate::printer::{Printer, Verbosity, heading, style, styled};
use crate::text::pluralize;
use crate::value::ValueFormat;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.fleet-plan/1";

/// Report of `cpreg fleet plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FleetPlanReport {
    /// `"cpreg.fleet-plan/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Host whose kernel the nodes get.
    pub to: String,
    /// Number of VMs on usable nodes.
    pub vms: usize,
    /// Number of VMs with a way to another node before the first step.
    pub movable_before: usize,
    /// The same after the last step. VMs that were shut down are not counted.
    pub movable_after: usize,
    /// Steps in their order.
    pub steps: Vec<StepReport>,
    /// Hosts of nodes that keep their kernel, because their CPU is another.
    pub kept: Vec<String>,
    /// Hosts that do not take VMs that are born after the upgrade. Such a VM cannot return.
    pub one_way: Vec<DoorReport>,
    /// Registers to set in new VMs, so that they move in both directions; empty if none help.
    pub settings: Vec<String>,
    /// Number of moves between the hosts that are not ready even with these settings.
    pub blocked_with_settings: usize,
    /// Command that prints the settings for a VMM; null if no step needs them.
    pub settings_command: Option<String>,
    /// Items that cannot be used.
    pub faults: Vec<FaultReport>,
}

/// Upgrade of all nodes of one record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StepReport {
    /// Record of the nodes before the upgrade.
    pub host: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Number of VMs that go to upgraded nodes.
    pub to_upgraded: usize,
    /// Number of VMs that go to other nodes.
    pub to_others: usize,
    /// VMs without a way off these nodes: they must be shut down, or need a consent.
    pub stuck: Vec<StuckGroup>,
    /// Number of VMs with a way to another node after the step.
    pub movable: usize,
}

/// VMs without a way, for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct StuckGroup {
    /// Number of VMs.
    pub vms: usize,
    /// Name of one of them.
    pub example: String,
    /// Verdict at upgraded nodes.
    pub verdict: Verdict,
    /// Registers and other parts that block the load at upgraded nodes.
    pub blockers: Vec<String>,
    /// Reason of the first blocker.
    pub reason: Option<String>,
    /// Highest severity of the consents that resolve all blockers; null if none do.
    pub resolving_consent: Option<Severity>,
}

/// Host that does not take VMs that are born after the upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DoorReport {
    /// Host.
    pub host: String,
    /// Verdict there.
    pub verdict: Verdict,
    /// Registers and other parts that block the load.
    pub blockers: Vec<String>,
    /// Reason of the first blocker.
    pub reason: Option<String>,
}

impl FleetPlanReport {
    /// Creates the report. `baseline` has the settings of new VMs for the target and the old hosts,
    /// if VMs must move among them.
    pub fn new(
        inventory: &Inventory,
        target: usize,
        plan: &UpgradePlan,
        baseline: Option<&(Baseline, String)>,
    ) -> Self {
        let name = |host: usize| {
            let host = inventory.hosts().get(host);
            host.map_or_else(String::new, |host| host.name().to_owned())
        };
        let steps = plan.steps.iter().map(|step| StepReport {
            host: name(step.host),
            nodes: step.nodes,
            to_upgraded: step.to_target,
            to_others: step.to_others,
            stuck: step.stuck.iter().map(StuckGroup::from).collect(),
            movable: step.movable,
        });
        let doors = plan.doors.iter().map(|door| {
            let cell = CellReport::new("", &door.cell, ValueFormat::new(None, false));
            DoorReport {
                host: name(door.host),
                verdict: cell.verdict,
                blockers: cell.blockers,
                reason: cell.reason,
            }
        });
        let settings = baseline.as_ref().map(|(baseline, _)| {
            let settings = baseline.settings.iter();
            settings.map(|setting| format!("{}={:#x}", setting.name(), setting.value))
        });
        let blocked = baseline.as_ref().map(|(baseline, _)| {
            let pairs = baseline.pairs();
            pairs.filter(|(_, _, one)| !one.verdict.can_load()).count()
        });
        Self {
            schema: SCHEMA.to_owned(),
            to: name(target),
            vms: plan.vms,
            movable_before: plan.movable_before,
            movable_after: plan.movable_after,
            steps: steps.collect(),
            kept: plan.kept.iter().map(|host| name(*host)).collect(),
            one_way: doors.collect(),
            settings: settings.into_iter().flatten().collect(),
            blocked_with_settings: blocked.unwrap_or(0),
            settings_command: baseline.map(|(_, command)| command.clone()),
            faults: faults(inventory),
        }
    }

    /// Returns the number of VMs without a way in some step: of those that upgraded nodes refuse,
    /// and of those of which it is not known.
    pub fn stuck(&self) -> (usize, usize) {
        let (mut refused, mut unknown) = (0, 0);
        for group in self.steps.iter().flat_map(|step| &step.stuck) {
            if group.verdict == Verdict::UNKNOWN {
                unknown += group.vms;
            } else {
                refused += group.vms;
            }
        }
        (refused, unknown)
    }

    /// Prints the report.
    pub fn print(&self, printer: &mut Printer, verbosity: Verbosity) {
        let (refused, unknown) = self.stuck();
        let mut words = Vec::new();
        if refused > 0 {
            let count = styled(style::ERROR, pluralize(refused, "VM"));
            let nodes = if refused == 1 {
                "its node"
            } else {
                "their nodes"
            };
            words.push(format!("{count} cannot leave {nodes}"));
        }
        if unknown > 0 {
            let count = styled(style::WARNING, pluralize(unknown, "VM"));
            let verb = if unknown == 1 { "has" } else { "have" };
            words.push(format!("{count} {verb} no known way"));
        }
        if words.is_empty() {
            words.push(styled(style::GOOD, "every VM can leave its node in time"));
        }
        printer.paragraph(
            "",
            format_args!(
                "upgrade to {} in {}: {}",
                self.to,
                pluralize(self.steps.len(), "step"),
                words.join(", "),
            ),
        );
        printer.paragraph(
            "",
            format_args!(
                "VMs with a way to another node: before {} of {}, after {}",
                self.movable_before, self.vms, self.movable_after
            ),
        );
        if verbosity == Verbosity::Quiet {
            return;
        }
        for (index, step) in self.steps.iter().enumerate() {
            printer.line("");
            printer.paragraph(
                "",
                format_args!(
                    "{}: {} of {}",
                    heading(format_args!("step {}", index + 1)),
                    pluralize(step.nodes, "node"),
                    step.host
                ),
            );
            printer.paragraph(
                "  ",
                format_args!(
                    "{} to upgraded nodes, {} to others; afterwards {} with a way",
                    pluralize(step.to_upgraded, "VM"),
                    step.to_others,
                    step.movable
                ),
            );
            for group in &step.stuck {
                let text = explain_cell(
                    &self.to,
                    &group.blockers,
                    group.reason.as_deref(),
                    group.resolving_consent.as_ref(),
                );
                let begin = styled(style::ERROR, pluralize(group.vms, "VM"));
                printer.paragraph(
                    "  ",
                    format_args!("{begin} without a way, such as {}: {text}", group.example),
                );
            }
        }
        if !self.kept.is_empty() {
            printer.line("");
            printer.paragraph("another CPU, not upgraded: ", self.kept.join(", "));
        }
        self.print_doors(printer);
        print_faults(printer, &self.faults);
    }

    fn print_doors(&self, printer: &mut Printer) {
        if self.one_way.is_empty() {
            return;
        }
        printer.line("");
        printer.line(heading(
            "one-way: VMs that are born after the upgrade do not return to",
        ));
        for door in &self.one_way {
            let text = explain_cell(&door.host, &door.blockers, door.reason.as_deref(), None);
            printer.paragraph("  ", text);
        }
        if let Some(command) = &self.settings_command {
            if self.settings.is_empty() {
                printer.paragraph("", "no setting of new VMs avoids this");
            } else if self.blocked_with_settings == 0 {
                printer.paragraph(
                    "",
                    format_args!(
                        "new VMs with these settings return: {}",
                        self.settings.join(", ")
                    ),
                );
            } else {
                printer.paragraph(
                    "",
                    format_args!(
                        "settings of new VMs that help: {}; {} between these hosts are not ready \
                         even so",
                        self.settings.join(", "),
                        pluralize(self.blocked_with_settings, "move"),
                    ),
                );
            }
            printer.line("next: print the settings for a VMM:");
            printer.line(format_args!("    {command}"));
        }
    }
}

impl From<&VmGroup> for StuckGroup {
    fn from(group: &VmGroup) -> Self {
        let cell = CellReport::new("", &group.at_target, ValueFormat::new(None, false));
        Self {
            vms: group.count,
            example: group.example.clone(),
            verdict: cell.verdict,
            blockers: cell.blockers,
            reason: cell.reason,
            resolving_consent: cell.resolving_consent,
        }
    }
}
