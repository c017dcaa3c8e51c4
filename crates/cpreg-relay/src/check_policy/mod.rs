//! [`CheckPolicy`]: a [`Judge`] that decides by cpreg's plan, as `check` and `convert` do.
//!
//! | file | what lives there |
//! |---|---|
//! | `terms` | [`Terms`]: what every migration is decided with; [`NotBegun`]: why one does not begin; [`Planner`]: who plans |
//! | `vcpus` | the vCPUs, decided about one by one as they come |
//!
//! ```text
//! what stands before RAM    may it begin? its outline, and whether there is a way back
//! the next vCPU             the plan for it alone, if that is certain
//! all device state          the planner plans for the whole; the edit is made, and compared
//! ```
//!
//! Nothing is printed here: what was decided is for the [`Planner`] to keep.

mod terms;
mod vcpus;

use cpreg::shape::Shape;
use cpreg_stream::incremental::{Held, Outline};
use cpreg_stream::{Cpu, Section, Stream};

pub use terms::{NotBegun, Planned, Planner, Terms};

use self::vcpus::Vcpus;
use crate::policy::{Judge, Judgement};

/// One migration, decided about by the plan.
#[derive(Debug)]
pub struct CheckPolicy<'t, P: Planner> {
    terms: Terms<'t>,
    planner: P,
    /// What came before RAM.
    outline: Option<Outline>,
    vcpus: Vcpus<'t>,
    not_begun: Vec<NotBegun>,
    failure: Option<P::Failure>,
}

impl<'t, P: Planner> CheckPolicy<'t, P> {
    /// A migration of which nothing has come.
    pub fn new(terms: Terms<'t>, planner: P) -> Self {
        Self {
            terms,
            planner,
            outline: None,
            vcpus: Vcpus::default(),
            not_begun: Vec::new(),
            failure: None,
        }
    }

    /// Returns the reasons not to begin; none if the migration began.
    pub fn not_begun(&self) -> &[NotBegun] {
        &self.not_begun
    }

    /// The planner, and why nothing could be decided, if so.
    pub fn into_parts(self) -> (P, Option<P::Failure>) {
        (self.planner, self.failure)
    }

    fn decide(&mut self, held: &Held, stream: Stream) -> Result<Judgement, P::Failure> {
        let running = stream.run_state().map(|state| state == "running");
        let Some(planned) = self.planner.plan(stream)? else {
            return Ok(Judgement::Refused);
        };
        let edit = held
            .convert(&planned.stream, &planned.vm)
            .map_err(|error| self.planner.not_converted(error))?;
        self.planner.passing(running)?;
        Ok(Judgement::GoesOn(edit))
    }
}

impl<P: Planner> Judge for CheckPolicy<'_, P> {
    fn may_begin(&mut self, outline: &Outline) -> bool {
        self.planner.began();
        self.outline = Some(outline.clone());
        let there = self.terms.destination;
        if let Some(there) = there.and_then(|there| there.shape.as_ref()) {
            let here = Shape {
                machine: outline.machine.clone(),
                ram: outline.ram.clone(),
                ..there.clone()
            };
            let differences = here.differences(there).into_iter();
            let refusing = differences.filter(|difference| difference.refuses);
            self.not_begun.extend(refusing.map(NotBegun::Outline));
        }
        if !self.terms.is_certain && !self.terms.no_way_back {
            if outline.postcopy {
                self.not_begun.push(NotBegun::MayBecomePostcopy);
            } else if !outline.return_path {
                self.not_begun.push(NotBegun::NoReturnPath);
            }
        }
        self.not_begun.is_empty()
    }

    fn vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        let outline = self.outline.as_ref();
        self.vcpus.add(&self.terms, &mut self.planner, outline, cpu)
    }

    fn vcpus_may_go_on(&mut self, come: &[Section]) -> bool {
        let outline = self.outline.as_ref();
        outline.is_some_and(|outline| self.vcpus.may_go_on(&self.terms, outline, come))
    }

    fn judge(&mut self, held: &Held, stream: Stream) -> Judgement {
        self.decide(held, stream).unwrap_or_else(|failure| {
            self.failure = Some(failure);
            Judgement::Refused
        })
    }
}
