//! [`Early`]: the vCPUs of a migration, decided about one by one as they come, by [`Gradual`].
//!
//! | the destination is | it is known |
//! |---|---|
//! | a profile or a stream | before anybody connects |
//! | a recorded host | when the first vCPU has come, whose registers tell the guest's features |
//! | this machine's KVM | when all has come: it is asked about as many vCPUs as there are; nothing goes on early |
//!
//! What is not certain here is left to the whole: nothing is refused here, and nothing reported.

use cpreg::destination::Accelerator;
use cpreg::plan::Gradual;
use cpreg::shape::{Device, Shape};
use cpreg_stream::Stream;
use cpreg_stream::incremental::Outline;
use cpreg_stream::{Cpu, Section};

use super::judge::{Desk, NAME, There};
use crate::destination::{Found, Named};
use crate::input::Input;

/// The vCPUs, as far as they have come.
#[derive(Default)]
pub(super) struct Early<'c> {
    gradual: Option<Gradual<'c>>,
    /// So many have come.
    come: usize,
    /// What a recorded host is for this guest.
    named: Option<Named>,
}

impl<'c> Early<'c> {
    /// The next vCPU as it goes on, if that can be told.
    pub(super) fn vcpu(
        &mut self,
        desk: &'c Desk<'_>,
        outline: Option<&Outline>,
        cpu: &Cpu,
    ) -> Option<Cpu> {
        if self.come == 0 {
            self.begin(desk, outline?, cpu);
        }
        self.come += 1;
        let result = self.gradual.as_mut()?.add(&cpu.vcpu().ok()?)?;
        cpu.changed_to(&result).ok()
    }

    fn begin(&mut self, desk: &'c Desk<'_>, outline: &Outline, cpu: &Cpu) {
        if let There::ByGuest(found @ Found::Host(_)) = &desk.there {
            let first = Input::of_what_passed(NAME, Stream::of_vcpu(cpu.clone()));
            let named = found.named_for(&first, &desk.arguments.going);
            self.named = named.ok().map(|mut named| {
                named.is_started_as(Shape {
                    machine: outline.machine.clone(),
                    ..Shape::default()
                });
                named
            });
        }
        let Some(named) = desk.there.known().or(self.named.as_ref()) else {
            return;
        };
        let destination = &named.destination;
        let here = Accelerator::from_registers(cpu.registers().map(|(id, _)| id));
        if here == destination.accelerator || here.is_none() {
            self.gradual = Some(Gradual::new(destination, &desk.tolerances, &desk.consents));
        }
    }

    /// Whether they go on, if these sections have come.
    pub(super) fn may_go_on(&self, desk: &Desk<'_>, outline: &Outline, come: &[Section]) -> bool {
        let goes_on = self.gradual.as_ref().is_some_and(Gradual::goes_on);
        let there = desk.there.known();
        let there = there.and_then(|named| named.destination.shape.as_ref());
        goes_on && there.is_none_or(|there| self.fits(there, outline, come))
    }

    /// Whether nothing of the VM's outline that has come stands in the way.
    fn fits(&self, there: &Shape, outline: &Outline, come: &[Section]) -> bool {
        let devices = come.iter().map(|section| Device {
            name: section.name.clone(),
            instance: section.instance,
            version: section.version,
        });
        let here = Shape {
            machine: outline.machine.clone(),
            vcpus: self.come,
            ram: outline.ram.clone(),
            devices: devices.collect(),
        };
        here.differences(there).iter().all(|it| !it.refuses)
    }

    /// What a recorded host is for this guest, if it was asked about.
    pub(super) fn into_named(self) -> Option<Named> {
        self.named
    }
}
