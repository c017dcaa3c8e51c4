//! [`Case`]: what is asked while a migration is under way, and what was answered. It is answered as `check` and `convert` do.

use std::cell::OnceCell;

use cpreg::destination::Destination;
use cpreg::plan::Verdict;
use cpreg::shape::Shape;
use cpreg_relay::check_policy::{NotBegun, Planned, Planner};
use cpreg_report::check::Answer;
use cpreg_report::value::Printing;
use cpreg_stream::Stream;
use cpreg_stream::incremental::Outline;

use super::super::{check, convert};
use super::config::{Desk, NAME, There};
use super::guarded::Guarded;
use crate::destination::{Found, Named};
use crate::failure::Failure;
use crate::input::Input;
use crate::printer::Printer;

/// One migration.
pub(super) struct Case<'c> {
    desk: &'c Desk<'c>,
    guard: Option<&'c Guarded>,
    /// What the destination is for this guest.
    named: &'c OnceCell<Named>,
    /// Destination for this guest, as its first vCPU told.
    early: Option<Named>,
    /// Takes notes.
    printer: Printer,
    answer: Option<Answer<'c>>,
}

/// What was decided.
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
            early: None,
            printer: Printer::default(),
            answer: None,
        }
    }

    pub(super) fn into_answer(self) -> Option<Answer<'c>> {
        self.answer
    }

    /// Returns the destination for the guest in `source`.
    fn named(&mut self, source: &Input) -> Result<&'c Named, Failure> {
        let early = self.early.take();
        Ok(match &self.desk.there {
            There::Known(named) => named,
            There::ByGuest(found) => {
                let named = if let Some(mut named) = early {
                    named.is_started_as(source.stream()?.shape());
                    named
                } else {
                    found.named_for(source, &self.desk.arguments.going)?
                };
                self.named.get_or_init(|| named)
            }
        })
    }
}

impl Planner for Case<'_> {
    type Failure = Failure;

    fn began(&mut self) {
        if let Some(guard) = self.guard {
            guard.began();
        }
    }

    fn destination_for(&mut self, first: Stream, outline: &Outline) -> Option<&Destination> {
        let There::ByGuest(found @ Found::Host(_)) = &self.desk.there else {
            return None;
        };
        let first = Input::of_what_passed(NAME, first);
        let mut named = found.named_for(&first, &self.desk.arguments.going).ok()?;
        named.is_started_as(Shape {
            machine: outline.machine.clone(),
            ..Shape::default()
        });
        Some(&self.early.insert(named).destination)
    }

    fn plan(&mut self, stream: Stream) -> Result<Option<Planned>, Failure> {
        let arguments = self.desk.arguments;
        let source = Input::of_what_passed(NAME, stream);
        let named = self.named(&source)?;
        let printing = Printing::new(named.destination.accelerator, arguments.secrets);
        let answer = check::answer(
            &source,
            named,
            &self.desk.tolerances,
            &arguments.consenting,
            printing,
            &self.printer,
        )?;
        let planned = match answer.verdict() {
            Verdict::Loads | Verdict::Converts => Some(Planned {
                vm: answer.check.plan.result(&answer.vm),
                stream: source.into_stream()?,
            }),
            Verdict::Refused | Verdict::Unknown => None,
        };
        self.answer = Some(answer);
        Ok(planned)
    }

    fn not_converted(&mut self, error: cpreg_stream::Error) -> Failure {
        convert::not_converted(NAME, &error)
    }

    fn passing(&mut self, running: Option<bool>) -> Result<(), Failure> {
        self.guard.map_or(Ok(()), |guard| guard.passing(running))
    }
}

/// Words a reason not to begin.
pub(super) fn words(reason: &NotBegun) -> String {
    const WAY_OUT: &str = "name the source so that the outcome is certain before it begins (--from), or consent to that (--no-way-back)";
    match reason {
        NotBegun::Outline(difference) => {
            let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".into());
            format!(
                "{}: {} at the source, {} at the destination; start the destination's QEMU with the source's",
                difference.what,
                side(&difference.source),
                side(&difference.destination)
            )
        }
        NotBegun::MayBecomePostcopy => format!(
            "it may become a postcopy migration (capability postcopy-ram), and if it had to be refused then, its guest would stand still at the source; {WAY_OUT}, or switch postcopy-ram off"
        ),
        _ => format!(
            "it has no return path, and if it had to be refused at its end, its guest would stand still at the source; switch the capability return-path on at the source, or {WAY_OUT}"
        ),
    }
}
