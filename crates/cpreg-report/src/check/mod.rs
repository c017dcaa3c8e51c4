//! The answer of `check`: everything that either form of the report says.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms |
//! | [`model`] | its model, schema `cpreg.check/2` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::destination::{Accelerator, Destination, Loader, ValueOrigin};
use cpreg::plan::{Check, Decision, PlanOutcome, SetConsent, Verdict};
use cpreg::severity::Severity;
use cpreg::shape::ShapeDifference;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_explain::qemu::predict;

use crate::dry_run::DryRunFindings;
use crate::value::ValueFormat;

/// What the answer covers.
pub const SCOPE: &str = "CPU state: registers and the parts of QEMU's cpu section; of devices \
                         only which there are and their versions, not what they hold";

/// An answer with what it was asked about.
#[derive(Debug)]
pub struct CheckFindings<'a> {
    /// The VM.
    pub source: SourceSummary,
    /// The VM's state.
    pub vm: Vm,
    /// The place where it goes.
    pub destination: &'a Destination,
    /// What the destination is known from.
    pub provenance: &'a str,
    /// The table of tolerances.
    pub tolerances: &'a Tolerances,
    /// Differences of the outlines.
    pub shape: Vec<ShapeDifference>,
    /// The plan, and what each loader would do.
    pub check: Check,
    /// What the user sets.
    pub sets: Vec<SetConsent>,
    /// Style of names and values.
    pub value_format: ValueFormat,
    /// What this machine's KVM did with the plan, if that was asked.
    pub dry_run: Option<DryRunFindings>,
}

/// Where the VM comes from.
#[derive(Debug)]
pub struct SourceSummary {
    /// Name of the file.
    pub name: String,
    /// Machine type.
    pub machine: Option<String>,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// Accelerator that it ran under.
    pub accelerator: Option<Accelerator>,
    /// Run state of the guest.
    pub run_state: Option<String>,
    /// Way in which the stream was read, in words.
    pub open_method: String,
}

impl SourceSummary {
    /// Its name and outline.
    pub fn summary(&self) -> String {
        let machine = self.machine.as_deref().unwrap_or("machine unknown");
        let plural = if self.vcpus == 1 { "" } else { "s" };
        let accelerator = self.accelerator;
        let accelerator = accelerator.map(|accelerator| format!(", {accelerator}"));
        let accelerator = accelerator.unwrap_or_default();
        format!(
            "{} ({machine}, {} vCPU{plural}{accelerator})",
            self.name, self.vcpus
        )
    }
}

impl CheckFindings<'_> {
    /// The verdict, shapes included.
    pub fn verdict(&self) -> Verdict {
        match (&self.dry_run, self.check.verdict) {
            _ if self.is_blocked_by_shape() => Verdict::Refused,
            // What KVM does counts for more than what is known of it.
            (Some(attempt), Verdict::Loads | Verdict::Converts)
                if !attempt.is_consistent_with_plan() =>
            {
                Verdict::Unknown
            }
            (_, verdict) => verdict,
        }
    }

    /// The verdict if everything that is proposed were taken; an outline that refuses goes on refusing.
    pub fn verdict_with_all(&self) -> Verdict {
        match self.check.plan.outcome_with_proposed {
            _ if self.is_blocked_by_shape() => Verdict::Refused,
            PlanOutcome::Ready => Verdict::Converts,
            PlanOutcome::Refused => Verdict::Refused,
            PlanOutcome::Unknown => Verdict::Unknown,
        }
    }

    /// Whether the outline alone refuses.
    pub fn is_blocked_by_shape(&self) -> bool {
        self.shape.iter().any(|difference| difference.blocks)
    }

    /// What the register shall hold, if the user sets it to something else than it holds.
    pub fn requested_value(&self, decision: &Decision) -> Option<u64> {
        let source = decision.source.as_ref()?.as_u64()?;
        let sets = self.sets.iter();
        let wanted = sets
            .filter(|set| set.register == decision.register)
            .fold(source, |value, set| set.apply(value));
        (wanted != source).then_some(wanted)
    }

    /// The verdict's meaning in a sentence, with the way out where one option is all it takes.
    pub fn meaning(&self) -> String {
        let meaning = match self.verdict() {
            Verdict::Loads if self.is_loaded_by_plan() => "by this plan, which cpreg carries out",
            Verdict::Loads => "as it is",
            Verdict::Converts => "after `cpreg convert`",
            Verdict::Refused => "something stands in the way",
            Verdict::Unknown
                if self
                    .dry_run
                    .as_ref()
                    .is_some_and(|it| !it.is_consistent_with_plan()) =>
            {
                "this machine's KVM does something else than planned"
            }
            Verdict::Unknown => "what is known does not tell",
        };
        match self.severity_to_accept() {
            Some(severity) => {
                let does = if self.is_loaded_by_plan() {
                    "loads"
                } else {
                    "converts"
                };
                format!("{meaning}; it {does} with --accept {}", severity.name())
            }
            None => meaning.to_owned(),
        }
    }

    /// Whether the destination's loader does what the plan says.
    pub fn is_loaded_by_plan(&self) -> bool {
        let loader = self.destination.loader;
        loader.is_some_and(Loader::can_execute_plans)
    }

    /// Up to which severity changes have to be accepted for the VM to convert, where that is all it takes.
    fn severity_to_accept(&self) -> Option<Severity> {
        let plan = &self.check.plan;
        if self.is_blocked_by_shape() || plan.outcome_with_proposed != PlanOutcome::Ready {
            return None;
        }
        let proposed = plan.proposed_adjustments.iter();
        proposed.map(|adjustment| adjustment.severity).max()
    }

    /// What finds out what is not known: commands, best first. Empty unless that is what the verdict hangs on.
    pub fn next_steps(&self) -> Vec<String> {
        if self.verdict() != Verdict::Unknown {
            return Vec::new();
        }
        let mut ways = Vec::new();
        if self.destination.value_origin != ValueOrigin::Reset {
            ways.push(format!(
                "on the destination, `cpreg probe qemu -o destination.json -- COMMAND`, COMMAND being \
                 the QEMU command line that is to load the VM; then `cpreg check {} destination.json`",
                self.source.name
            ));
        }
        if self.destination.loader.is_none() {
            ways.push(
                "say which QEMU will load it, if you know: --loader qemu-MAJOR.MINOR".to_owned(),
            );
        }
        if let Some(severity) = self.severity_to_accept() {
            ways.push(format!(
                "do without knowing: --accept {} changes what is in doubt to what the \
                 destination is known to take",
                severity.name()
            ));
        }
        ways.push(format!(
            "let the destination try, there: `cpreg rehearse {} -- COMMAND` has its QEMU load \
             the VM without RAM, and touches nothing",
            self.source.name
        ));
        ways
    }

    /// What a loader would say, in its own words.
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
