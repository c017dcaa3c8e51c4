//! The answer of `check`: everything that either form of the report says.

use cpreg::destination::{Accelerator, Destination, Loader};
use cpreg::plan::{Check, Outcome, Verdict};
use cpreg::shape::Difference;
use cpreg::tolerance::Tolerances;
use cpreg_qemu::words;

use super::value::Printing;

/// What the answer covers.
pub(crate) const SCOPE: &str = "CPU state: registers and the parts of QEMU's cpu section; of devices only which there are and their versions, not what they hold";

/// An answer with what it was asked about.
pub(crate) struct Answer<'a> {
    pub(crate) source: About,
    pub(crate) destination: &'a Destination,
    /// What the destination is known from.
    pub(crate) evidence: &'static str,
    pub(crate) tolerances: &'a Tolerances,
    pub(crate) shape: Vec<Difference>,
    pub(crate) check: Check,
    pub(crate) printing: Printing,
}

/// Where the VM comes from.
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) machine: Option<String>,
    pub(crate) vcpus: usize,
    pub(crate) accelerator: Option<Accelerator>,
    pub(crate) run_state: Option<String>,
    pub(crate) opened: String,
}

impl Answer<'_> {
    /// The verdict, shapes included.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.refuses_by_shape() {
            Verdict::Refused
        } else {
            self.check.verdict
        }
    }

    /// The verdict if everything that is proposed were taken; an outline that refuses goes on refusing.
    pub(crate) fn verdict_with_proposed(&self) -> Verdict {
        match self.check.plan.with_proposed {
            _ if self.refuses_by_shape() => Verdict::Refused,
            Outcome::Ready => Verdict::Converts,
            Outcome::Refused => Verdict::Refused,
            Outcome::Unknown => Verdict::Unknown,
        }
    }

    fn refuses_by_shape(&self) -> bool {
        self.shape.iter().any(|difference| difference.refuses)
    }

    /// What a loader would say, in its own words.
    pub(crate) fn words(
        &self,
        loader: Loader,
        load: &cpreg::destination::load::Load,
    ) -> Vec<String> {
        self.destination
            .accelerator
            .map(|accelerator| words::of_load(loader, accelerator, load))
            .unwrap_or_default()
    }
}

/// The verdict's meaning in a sentence.
pub(crate) const fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Loads => "as it is",
        Verdict::Converts => "after `cpreg convert`",
        Verdict::Refused => "something stands in the way",
        Verdict::Unknown => "what is known does not tell",
    }
}
