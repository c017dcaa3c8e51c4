//! Report of `check`: its findings, its model and its text.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the findings, shared by text and JSON |
//! | `alternatives` | checks at several possible destinations |
//! | `possible` | one report of these checks |
//! | `blockers` | everything that blocks the load, or lacks a decision, for JSON |
//! | `counts` | numbers of blockers |
//! | `cpu_template` | values for the next VM in the language of Firecracker |
//! | `snapshot_editor` | a plan in the language of Firecracker's own program |
//! | `steps` | next steps, with commands |
//! | `hardware` | words about properties of the hosts that no register list holds |
//! | [`model`] | JSON model, schema `cpreg.check/2` |
//! | `json` | conversion of the findings to the model |
//! | `operator_entries` | use of the operator's tolerances |
//! | [`text`] | text of the findings |

mod alternatives;
pub mod blockers;
mod counts;
mod cpu_template;
pub(crate) mod hardware;
mod json;
pub mod model;
mod operator_entries;
mod possible;
pub(crate) mod snapshot_editor;
mod steps;
pub mod text;

use std::collections::BTreeSet;

use cpreg::destination::features::GuestFeatures;
use cpreg::destination::{Accelerator, Destination, Features, Loader};
use cpreg::plan::{
    Adjustment, Check, Decision, HardwareAction, HardwareDecision, PlanOutcome, SetConsent, Verdict,
};
use cpreg::severity::Severity;
use cpreg::shape::ShapeDifference;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_explain::qemu::predict;

pub use alternatives::{
    Alternative, Alternatives, OpenFacts, OpenFeature, OpenKernel, PossibleDestination,
};

use crate::command::{CommandKind, STANDARD_STREAM, TypedCommand, quote};
use crate::dry_run::DryRunFindings;
use crate::remedy::Vmm;
use crate::text::pluralize;
use crate::value::ValueFormat;

/// Parts of the VM that the verdict covers, in words for the report.
pub const SCOPE: &str = "CPU state: registers and the subsections of QEMU's cpu section; \
                         devices only by name and version, not by their state";

/// Parts of the VM that the verdict covers if its device state was not read, in words.
const SETUP_SCOPE: &str = "machine type and RAM blocks";

/// Note about a guest with MTE.
const MTE_NOTE: &str = "the guest has MTE: QEMU neither migrates nor saves a KVM guest with MTE \
                        (`Live migration disabled due to MTE enabled`); start it without \
                        (-machine mte=off) if it must move";

/// Note about a VM whose stream was refused before its device state arrived.
const SETUP_NOTE: &str = "the device state was not read; `cpreg check` on the VM also finds blockers \
                          in its CPU state and devices";

/// Result of `check`, with the VM and the destination that were checked.
#[derive(Debug)]
pub struct CheckFindings<'a> {
    /// Summary of the VM.
    pub source: SourceSummary,
    /// State of the VM.
    pub vm: Vm,
    /// Destination that the VM was checked against.
    pub destination: &'a Destination,
    /// Origin of the data about the destination, in words.
    pub provenance: &'a str,
    /// Tolerances that the plan uses: the built-in table and the operator's entries.
    pub tolerances: &'a Tolerances,
    /// Differences between the machine shapes of the VM and of the destination.
    pub shape: Vec<ShapeDifference>,
    /// The plan, and a prediction for each loader.
    pub check: Check,
    /// Values that the user sets with `--set`.
    pub sets: Vec<SetConsent>,
    /// Format of names and values.
    pub value_format: ValueFormat,
    /// Result of the plan on this machine's KVM, if it was tried.
    pub dry_run: Option<DryRunFindings>,
    /// Checks at all possible destinations; `None` if there is only one.
    pub alternatives: Option<Alternatives>,
    /// Verdicts for the modelled loaders, if the destination's loader is not known and the verdict
    /// is unknown; else empty.
    pub loader_verdicts: Vec<(Loader, Verdict)>,
    /// Command that the user typed.
    pub command: TypedCommand,
    /// File that `convert` wrote; `None` if it wrote none.
    pub written: Option<WrittenFile>,
}

/// File with the converted VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// Name of the file, as typed; `-` for standard output.
    pub path: String,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// `true` if SOURCE itself was changed.
    pub is_in_place: bool,
}

impl WrittenFile {
    /// Returns `true` if the file is standard output.
    pub(crate) fn is_standard_output(&self) -> bool {
        self.path == STANDARD_STREAM
    }
}

/// Way in which a file with a VM is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Loading {
    /// QEMU reads the stream: `-incoming`.
    #[default]
    Incoming,
    /// libvirt restores a save image: `virsh restore`.
    Virsh,
    /// QEMU loads this snapshot of a disk image: `-loadvm`.
    Snapshot(String),
}

impl Loading {
    /// Returns the purpose and the command of the step that loads the file.
    pub(crate) fn step(&self, file: &str) -> (String, String) {
        match self {
            Self::Incoming => (
                "on the destination, load the VM with its QEMU command line".to_owned(),
                format!(
                    "COMMAND -incoming {}",
                    quote(&format!("exec:cat {}", quote(file)))
                ),
            ),
            Self::Virsh => (
                "on the destination, restore the VM; `virsh start` restores a managed save image"
                    .to_owned(),
                format!("virsh restore {}", quote(file)),
            ),
            Self::Snapshot(name) => (
                "on the destination, load the VM with its QEMU command line, in which the disk is \
                 this file"
                    .to_owned(),
                format!("COMMAND -loadvm {}", quote(name)),
            ),
        }
    }
}

/// Kind of a VM's source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceKind {
    /// Migration stream with the VM's RAM.
    #[default]
    Stream,
    /// File of `cpreg report`.
    Report,
    /// Monitor of a running QEMU.
    Monitor,
    /// New VM of a host, of which only the host is known.
    NewVm,
    /// Beginning of a stream: the machine type and the RAM blocks, without the device state.
    Setup,
}

/// Summary of the VM.
#[derive(Clone, Debug)]
pub struct SourceSummary {
    /// Name of the file.
    pub name: String,
    /// Kind of the source.
    pub kind: SourceKind,
    /// Kind of the file that holds the stream, if another program wrote the file: `save image of
    /// libvirt`.
    pub container: Option<String>,
    /// Way in which the program of the file loads the VM.
    pub loading: Loading,
    /// Machine type.
    pub machine: Option<String>,
    /// Number of vCPUs; `None` if the source is a [`SourceKind::Setup`].
    pub vcpus: Option<usize>,
    /// Accelerator that the VM ran under.
    pub accelerator: Option<Accelerator>,
    /// Run state that the stream records, such as `running`; `None` if the stream has none.
    pub run_state: Option<String>,
    /// Method by which the parser opened the stream, in words: `by its description`, `by a full
    /// scan`.
    pub open_method: String,
}

impl SourceSummary {
    /// Returns name, machine, number of vCPUs and accelerator.
    pub fn summary(&self) -> String {
        let machine = match &self.machine {
            Some(machine) => machine,
            None if self.kind == SourceKind::NewVm => "a new VM of this host",
            None => "unknown machine",
        };
        let accelerator = self.accelerator;
        let accelerator = accelerator.map(|accelerator| format!(", {accelerator}"));
        let accelerator = accelerator.unwrap_or_default();
        let container = self.container.as_ref();
        let container = container.map_or_else(String::new, |kind| format!("; {kind}"));
        let vcpus = self.vcpus.map_or_else(
            || "number of vCPUs not read".to_owned(),
            |vcpus| pluralize(vcpus, "vCPU"),
        );
        format!("{} ({machine}, {vcpus}{accelerator}{container})", self.name)
    }
}

impl CheckFindings<'_> {
    /// Returns the parts of the VM that the verdict covers, in words.
    pub(crate) fn scope(&self) -> &'static str {
        match self.source.kind {
            SourceKind::Setup => SETUP_SCOPE,
            _ => SCOPE,
        }
    }

    /// Returns the alternatives on which the result depends.
    pub(crate) fn decisive_alternatives(&self) -> Option<&Alternatives> {
        let alternatives = self.alternatives.as_ref();
        // A difference of the machines blocks the load at every destination.
        alternatives.filter(|it| it.are_decisive() && !self.is_blocked_by_shape())
    }

    /// Returns the verdict on the load, from the registers, the machine shape and the dry run.
    pub fn verdict(&self) -> Verdict {
        match (&self.dry_run, self.check.verdict) {
            _ if self.decisive_alternatives().is_some() => Verdict::Unknown,
            _ if self.is_blocked_by_shape() => Verdict::Refused,
            // The observed behaviour of KVM outweighs the prediction.
            (Some(dry_run), Verdict::Loads | Verdict::Converts)
                if !dry_run.is_consistent_with_plan() =>
            {
                Verdict::Unknown
            }
            (_, verdict) => verdict,
        }
    }

    /// Returns the verdict that would hold if the user accepted all proposed adjustments.
    ///
    /// No adjustment changes the machine shape: a shape that blocks the load still gives `Refused`.
    pub fn verdict_with_all(&self) -> Verdict {
        match self.check.plan.outcome_with_proposed {
            _ if self.decisive_alternatives().is_some() => Verdict::Unknown,
            _ if self.is_blocked_by_shape() => Verdict::Refused,
            PlanOutcome::Ready => Verdict::Converts,
            PlanOutcome::Refused => Verdict::Refused,
            PlanOutcome::Unknown => Verdict::Unknown,
        }
    }

    /// Returns `true` if a difference of the machine shapes blocks the load.
    pub fn is_blocked_by_shape(&self) -> bool {
        self.shape.iter().any(|difference| difference.blocks)
    }

    /// Returns `true` if the check has no decisions, because another accelerator ran the VM or its
    /// device state was not read.
    pub fn is_incomparable(&self) -> bool {
        let accelerator = self.source.accelerator;
        let difference = self.destination.accelerator_difference(accelerator);
        difference.is_some() || self.source.kind == SourceKind::Setup
    }

    /// Returns the value that the user sets, if it differs from the VM's value.
    pub fn requested_value(&self, decision: &Decision) -> Option<u64> {
        let source = decision.source.as_ref()?.as_u64()?;
        let sets = self.sets.iter();
        let requested = sets
            .filter(|set| set.register == decision.register)
            .fold(source, |value, set| set.apply(value));
        (requested != source).then_some(requested)
    }

    /// Returns a sentence that explains the verdict. The sentence names the option that resolves
    /// all blockers, if one option does.
    pub fn meaning(&self) -> String {
        let verdict = self.verdict();
        let differences = match verdict {
            Verdict::Unknown => self.count_undecided(),
            _ => self.count_blockers(),
        };
        let is_single = differences.count() == 1;
        let meaning = match verdict {
            Verdict::Loads if self.is_loaded_by_plan() => {
                "if the VMM loads it through cpreg, which executes this plan".to_owned()
            }
            Verdict::Loads => "the VM loads unchanged".to_owned(),
            Verdict::Converts => self.describe_conversion().to_owned(),
            Verdict::Refused => {
                let verb = if is_single { "blocks" } else { "block" };
                let doubt = self.count_undecided();
                let doubt = match doubt.count() {
                    0 => String::new(),
                    1 => format!(", and {} is in doubt", doubt.describe()),
                    _ => format!(", and {} are in doubt", doubt.describe()),
                };
                format!("{} {verb} the load{doubt}", differences.describe())
            }
            Verdict::Unknown if self.is_contradicted() => {
                "this machine's KVM contradicts the plan".to_owned()
            }
            Verdict::Unknown => {
                let missing = self.missing_facts().join("; ");
                let verdicts = self.decisive_alternatives();
                let verdicts = verdicts.and_then(Alternatives::describe_verdicts);
                let verdicts = verdicts.map(|verdicts| {
                    if missing.ends_with(')') {
                        format!("; {verdicts}")
                    } else {
                        format!(" ({verdicts})")
                    }
                });
                format!(
                    "not enough information to decide: {missing}{}",
                    verdicts.unwrap_or_default()
                )
            }
        };
        if !self.are_proposals_sufficient() {
            return meaning;
        }
        let doubt = match verdict {
            Verdict::Refused => self.count_undecided().count(),
            _ => 0,
        };
        let object = match (is_single, doubt) {
            (true, 0) => "it",
            (_, 0) => "them",
            _ => "all",
        };
        format!("{meaning}; {} resolves {object}", self.proposed_consents())
    }

    /// Returns the meaning of the verdict `converts` for the typed command.
    const fn describe_conversion(&self) -> &'static str {
        match self.command.kind {
            CommandKind::Check | CommandKind::Rehearse => "the VM loads after `cpreg convert`",
            CommandKind::Convert => "the converted VM loads",
            CommandKind::Filter => "the VM loads as `cpreg filter` converts it",
            CommandKind::Relay => "the VM loads as the relay converts it",
        }
    }

    /// Returns the VMM that loads the VM: the destination's loader, else the program that wrote
    /// SOURCE.
    pub fn vmm(&self) -> Vmm {
        match self.destination.loader {
            Some(loader) => Vmm::from_program(loader.program),
            None if self.source.kind == SourceKind::NewVm => Vmm::Unknown,
            // Every stream is QEMU's.
            None => Vmm::Qemu,
        }
    }

    /// Returns the facts that the verdict lacks. The list is empty unless the verdict is unknown.
    pub fn missing_facts(&self) -> Vec<String> {
        if self.verdict() != Verdict::Unknown {
            return Vec::new();
        }
        if let Some(alternatives) = self.decisive_alternatives() {
            return alternatives.missing_facts();
        }
        if self.is_contradicted() {
            return vec!["why this machine's KVM contradicts the plan".to_owned()];
        }
        let blockers = self.count_undecided();
        if blockers.count() == 0 {
            return vec!["the behaviour of the destination's loader".to_owned()];
        }
        let mut missing = Vec::new();
        if blockers.hardware != 0 {
            missing.push(format!(
                "the {} of both hosts",
                hardware::names(self.hardware_with(HardwareAction::Undecided))
            ));
        }
        let accepted = blockers.without_hardware();
        if accepted.count() != 0 {
            missing.push(format!(
                "whether the destination accepts {}",
                accepted.describe()
            ));
        }
        missing
    }

    /// Returns notes about the VM as a whole.
    pub fn notes(&self) -> Vec<String> {
        let alternatives = self.alternatives.iter().flat_map(Alternatives::notes);
        let is_kvm = self.source.accelerator == Some(Accelerator::Kvm);
        let registers = self.vm.vcpus.first().map(|vcpu| &vcpu.registers);
        let features = registers.map(|it| GuestFeatures::from_registers(it).features);
        let has_mte = features.is_some_and(|it| it.contains(Features::MTE));
        let is_setup = self.source.kind == SourceKind::Setup;
        alternatives
            .chain(is_setup.then(|| SETUP_NOTE.to_owned()))
            .chain((is_kvm && has_mte && self.vmm() != Vmm::Other).then(|| MTE_NOTE.to_owned()))
            .collect()
    }

    /// Returns `true` if the dry run contradicts the plan.
    fn is_contradicted(&self) -> bool {
        let dry_run = self.dry_run.as_ref();
        dry_run.is_some_and(|dry_run| !dry_run.is_consistent_with_plan())
    }

    /// Returns the decisions about the hardware with this action.
    pub(crate) fn hardware_with(&self, action: HardwareAction) -> Vec<&HardwareDecision> {
        let decisions = self.check.plan.hardware.iter();
        decisions
            .filter(|decision| decision.action == action)
            .collect()
    }

    /// Returns `true` if the destination's loader executes the plan.
    pub fn is_loaded_by_plan(&self) -> bool {
        let loader = self.destination.loader;
        loader.is_some_and(Loader::can_execute_plans)
    }

    /// Returns `true` if the user's consent to all proposed adjustments resolves all blockers.
    fn are_proposals_sufficient(&self) -> bool {
        let plan = &self.check.plan;
        self.decisive_alternatives().is_none()
            && !self.is_blocked_by_shape()
            && plan.outcome_with_proposed == PlanOutcome::Ready
            && !plan.proposed_adjustments.is_empty()
    }

    /// Returns the options that consent to all proposed adjustments, between backticks.
    pub(crate) fn proposed_consents(&self) -> String {
        format!("`{}`", self.consent_words().join(" "))
    }

    /// Returns the options that consent to all proposed adjustments, in words: the highest severity
    /// that can be accepted as a whole, and the registers that must be named.
    fn consent_words(&self) -> Vec<String> {
        consent_words(&self.check.plan.proposed_adjustments, self.value_format)
    }

    /// Returns the messages that a loader would print.
    pub fn predicted_messages(
        &self,
        loader: Loader,
        load: &cpreg::destination::load::SimulatedLoad,
    ) -> Vec<String> {
        self.destination
            .accelerator
            .map(|accelerator| predict::predicted_lines(loader, accelerator, load))
            .unwrap_or_default()
    }
}

/// Returns the options that accept all proposed changes, as words.
pub(crate) fn consent_words(proposed: &[Adjustment], format: ValueFormat) -> Vec<String> {
    let must_be_named = |adjustment: &&Adjustment| adjustment.severity >= Severity::High;
    let severities = proposed
        .iter()
        .filter(|adjustment| !must_be_named(adjustment));
    let highest = severities.map(|adjustment| adjustment.severity).max();
    let names: BTreeSet<_> = proposed
        .iter()
        .filter(must_be_named)
        .map(|adjustment| format.name(adjustment.register))
        .collect();
    let consents = highest.map(|severity| severity.name().to_owned());
    let consents = consents.into_iter().chain(names);
    consents
        .flat_map(|consent| ["--accept".to_owned(), consent])
        .collect()
}
