//! [`Case`]: what is asked while a migration is under way, and what was answered. It is answered as `check` and `convert` do.

use std::cell::OnceCell;

use cpreg::plan::{Consents, Verdict};
use cpreg::shape::Shape;
use cpreg::tolerance::Tolerances;
use cpreg_relay::{Judge, Judgement};
use cpreg_stream::Stream;
use cpreg_stream::incremental::{Held, Outline};
use cpreg_stream::{Cpu, Section};

use super::super::{check, convert};
use super::early::Early;
use super::foretold::Foretold;
use super::guarded::Guarded;
use crate::arguments;
use crate::destination::{Found, Named};
use crate::failure::Failure;
use crate::input::Input;
use crate::printer::Printer;
use cpreg_report::check::Answer;
use cpreg_report::value::Printing;

/// What the VM is called in reports: what stands for it in the commands that they propose.
pub(super) const NAME: &str = "SOURCE";

/// What every migration through this relay is decided with.
pub(super) struct Desk<'a> {
    pub(super) arguments: &'a arguments::Relay,
    pub(super) tolerances: Tolerances,
    pub(super) consents: Consents,
    pub(super) there: There<'a>,
    /// What was certain before.
    pub(super) foretold: Option<Foretold>,
    /// A copy of the destination's QEMU has loaded it.
    pub(super) is_rehearsed: bool,
}

/// The destination.
pub(super) enum There<'a> {
    /// It is the same whatever the guest.
    Known(Named),
    /// What it is depends on the guest.
    ByGuest(Found<'a>),
}

impl There<'_> {
    /// What it is, if that is the same whatever the guest.
    pub(super) fn known(&self) -> Option<&Named> {
        match self {
            Self::Known(named) => Some(named),
            Self::ByGuest(_) => None,
        }
    }
}

/// One migration.
pub(super) struct Case<'c> {
    desk: &'c Desk<'c>,
    guard: Option<&'c Guarded>,
    /// What the destination is for this guest.
    named: &'c OnceCell<Named>,
    /// What came before RAM.
    outline: Option<Outline>,
    early: Early<'c>,
    /// Takes notes.
    printer: Printer,
    decided: Decided<'c>,
}

/// What was decided.
#[derive(Default)]
pub(super) struct Decided<'c> {
    pub(super) answer: Option<Answer<'c>>,
    /// Why it was not begun.
    pub(super) reasons: Vec<String>,
    /// Why nothing could be decided.
    pub(super) failure: Option<Failure>,
}

impl<'c> Case<'c> {
    pub(super) fn new(
        desk: &'c Desk<'c>,
        guard: Option<&'c Guarded>,
        named: &'c OnceCell<Named>,
    ) -> Self {
        Self {
            desk,
            guard,
            named,
            outline: None,
            early: Early::default(),
            printer: Printer::default(),
            decided: Decided::default(),
        }
    }

    /// Why it was not begun.
    pub(super) fn reasons(&self) -> &[String] {
        &self.decided.reasons
    }

    pub(super) fn into_decided(self) -> Decided<'c> {
        self.decided
    }

    fn decide(&mut self, held: &Held, stream: Stream) -> Result<Judgement, Failure> {
        let arguments = self.desk.arguments;
        let running = stream.run_state().map(|state| state == "running");
        let source = Input::of_what_passed(NAME, stream);
        let early = std::mem::take(&mut self.early).into_named();
        let named = match &self.desk.there {
            There::Known(named) => named,
            There::ByGuest(found) => {
                let named = if let Some(mut named) = early {
                    named.is_started_as(source.stream()?.shape());
                    named
                } else {
                    found.named_for(&source, &arguments.going)?
                };
                self.named.get_or_init(|| named)
            }
        };
        let printing = Printing::new(named.destination.accelerator, arguments.secrets);
        let answer = check::answer(
            &source,
            named,
            &self.desk.tolerances,
            &arguments.consenting,
            printing,
            &self.printer,
        )?;
        let judgement = match answer.verdict() {
            Verdict::Loads | Verdict::Converts => {
                let edit = convert::edit(&source, &answer, held, &|edit| held.edited(edit))?;
                if let Some(guard) = self.guard {
                    guard.passing(running)?;
                }
                Judgement::GoesOn(edit)
            }
            Verdict::Refused | Verdict::Unknown => Judgement::Refused,
        };
        self.decided.answer = Some(answer);
        Ok(judgement)
    }
}

impl Judge for Case<'_> {
    fn may_begin(&mut self, outline: &Outline) -> bool {
        if let Some(guard) = self.guard {
            guard.began();
        }
        let reasons = &mut self.decided.reasons;
        self.outline = Some(outline.clone());
        let there = self.desk.there.known();
        if let Some(there) = there.and_then(|named| named.destination.shape.as_ref()) {
            let here = Shape {
                machine: outline.machine.clone(),
                ram: outline.ram.clone(),
                ..there.clone()
            };
            let differences = here.differences(there);
            reasons.extend(differences.iter().filter(|it| it.refuses).map(|it| {
                let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
                format!(
                    "{}: {} at the source, {} at the destination; start the destination's QEMU \
                     with the source's",
                    it.what,
                    side(&it.source),
                    side(&it.destination)
                )
            }));
        }
        let foretold = self.desk.foretold.as_ref().map(|foretold| foretold.verdict);
        let is_certain =
            self.desk.is_rehearsed || matches!(foretold, Some(Verdict::Loads | Verdict::Converts));
        if !is_certain && !self.desk.arguments.no_way_back {
            let way_out = "name the source so that the outcome is certain before it begins \
                           (--from), or consent to that (--no-way-back)";
            if outline.postcopy {
                reasons.push(format!(
                    "it may become a postcopy migration (capability postcopy-ram), and if it had \
                     to be refused then, its guest would stand still at the source; {way_out}, \
                     or switch postcopy-ram off"
                ));
            } else if !outline.return_path {
                reasons.push(format!(
                    "it has no return path, and if it had to be refused at its end, its guest \
                     would stand still at the source; switch the capability return-path on at \
                     the source, or {way_out}"
                ));
            }
        }
        reasons.is_empty()
    }

    fn vcpu(&mut self, cpu: &Cpu) -> Option<Cpu> {
        self.early.vcpu(self.desk, self.outline.as_ref(), cpu)
    }

    fn vcpus_may_go_on(&mut self, come: &[Section]) -> bool {
        let outline = self.outline.as_ref();
        outline.is_some_and(|outline| self.early.may_go_on(self.desk, outline, come))
    }

    fn judge(&mut self, held: &Held, stream: Stream) -> Judgement {
        self.decide(held, stream).unwrap_or_else(|failure| {
            self.decided.failure = Some(failure);
            Judgement::Refused
        })
    }
}
