//! The answer of `check`: everything that either form of the report says.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms |
//! | [`model`] | its model, schema `cpreg.check/1` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::destination::{Accelerator, Destination, Loader, ValuesAre};
use cpreg::plan::{Check, Decision, Outcome, Set, Verdict};
use cpreg::severity::Severity;
use cpreg::shape::Difference;
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_explain::qemu::predict;

use crate::attempt::Attempted;
use crate::value::Printing;

/// What the answer covers.
pub const SCOPE: &str = "CPU state: registers and the parts of QEMU's cpu section; of devices \
                         only which there are and their versions, not what they hold";

/// An answer with what it was asked about.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The VM.
    pub source: About,
    /// The VM's state.
    pub vm: Vm,
    /// The place where it goes.
    pub destination: &'a Destination,
    /// What the destination is known from.
    pub evidence: &'a str,
    /// The table of tolerances.
    pub tolerances: &'a Tolerances,
    /// Differences of the outlines.
    pub shape: Vec<Difference>,
    /// The plan, and what each loader would do.
    pub check: Check,
    /// What the user sets.
    pub sets: Vec<Set>,
    /// Style of names and values.
    pub printing: Printing,
    /// What this machine's KVM did with the plan, if that was asked.
    pub attempt: Option<Attempted>,
}

/// Where the VM comes from.
#[derive(Debug)]
pub struct About {
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
    pub opened: String,
}

impl About {
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

impl Answer<'_> {
    /// The verdict, shapes included.
    pub fn verdict(&self) -> Verdict {
        match (&self.attempt, self.check.verdict) {
            _ if self.refuses_by_shape() => Verdict::Refused,
            // What KVM does counts for more than what is known of it.
            (Some(attempt), Verdict::Loads | Verdict::Converts) if !attempt.agrees() => {
                Verdict::Unknown
            }
            (_, verdict) => verdict,
        }
    }

    /// The verdict if everything that is proposed were taken; an outline that refuses goes on refusing.
    pub fn verdict_with_proposed(&self) -> Verdict {
        match self.check.plan.with_proposed {
            _ if self.refuses_by_shape() => Verdict::Refused,
            Outcome::Ready => Verdict::Converts,
            Outcome::Refused => Verdict::Refused,
            Outcome::Unknown => Verdict::Unknown,
        }
    }

    /// Whether the outline alone refuses.
    pub fn refuses_by_shape(&self) -> bool {
        self.shape.iter().any(|difference| difference.refuses)
    }

    /// What the register shall hold, if the user sets it to something else than it holds.
    pub fn wanted(&self, decision: &Decision) -> Option<u64> {
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
            Verdict::Loads if self.loads_by_plan() => "by this plan, which cpreg carries out",
            Verdict::Loads => "as it is",
            Verdict::Converts => "after `cpreg convert`",
            Verdict::Refused => "something stands in the way",
            Verdict::Unknown if self.attempt.as_ref().is_some_and(|it| !it.agrees()) => {
                "this machine's KVM does something else than planned"
            }
            Verdict::Unknown => "what is known does not tell",
        };
        match self.acceptable() {
            Some(severity) => {
                let does = if self.loads_by_plan() {
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
    pub fn loads_by_plan(&self) -> bool {
        let loader = self.destination.loader;
        loader.is_some_and(Loader::carries_out_plans)
    }

    /// Up to which severity changes have to be accepted for the VM to convert, where that is all it takes.
    fn acceptable(&self) -> Option<Severity> {
        let plan = &self.check.plan;
        if self.refuses_by_shape() || plan.with_proposed != Outcome::Ready {
            return None;
        }
        let proposed = plan.proposed.iter();
        proposed.map(|adjustment| adjustment.severity).max()
    }

    /// What finds out what is not known: commands, best first. Empty unless that is what the verdict hangs on.
    pub fn ways_to_find_out(&self) -> Vec<String> {
        if self.verdict() != Verdict::Unknown {
            return Vec::new();
        }
        let mut ways = Vec::new();
        if self.destination.values != ValuesAre::AtReset {
            ways.push(format!(
                "on the destination, `cpreg probe qemu -o dest.json -- COMMAND`, COMMAND being \
                 the QEMU command line that is to load the VM; then `cpreg check {} dest.json`",
                self.source.name
            ));
        }
        if self.destination.loader.is_none() {
            ways.push(
                "say which QEMU will load it, if you know: --vmm qemu-MAJOR.MINOR".to_owned(),
            );
        }
        if let Some(severity) = self.acceptable() {
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
    pub fn words(&self, loader: Loader, load: &cpreg::destination::load::Load) -> Vec<String> {
        self.destination
            .accelerator
            .map(|accelerator| predict::of_load(loader, accelerator, load))
            .unwrap_or_default()
    }
}
