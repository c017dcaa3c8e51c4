//! [`Vcpus`]: the vCPUs of a migration, decided about one by one as they come, by [`Gradual`].
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
use cpreg_stream::incremental::Outline;
use cpreg_stream::{Cpu, Section, Stream};

use super::terms::{Planner, Terms};

/// The vCPUs, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct Vcpus<'t> {
    gradual: Option<Gradual<'t>>,
    /// So many have come.
    come: usize,
}

impl<'t> Vcpus<'t> {
    /// The next vCPU as it goes on, if that can be told.
    pub(super) fn add(
        &mut self,
        terms: &Terms<'t>,
        planner: &mut impl Planner,
        outline: Option<&Outline>,
        cpu: &Cpu,
    ) -> Option<Cpu> {
        if self.come == 0 {
            self.begin(terms, planner, outline?, cpu);
        }
        self.come += 1;
        let result = self.gradual.as_mut()?.add(&cpu.vcpu().ok()?)?;
        cpu.changed_to(&result).ok()
    }

    fn begin(
        &mut self,
        terms: &Terms<'t>,
        planner: &mut impl Planner,
        outline: &Outline,
        cpu: &Cpu,
    ) {
        let destination = match terms.destination {
            Some(destination) => Some(destination),
            None => planner.destination_for(Stream::of_vcpu(cpu.clone()), outline),
        };
        let Some(destination) = destination else {
            return;
        };
        let here = Accelerator::from_registers(cpu.registers().map(|(id, _)| id));
        if here == destination.accelerator || here.is_none() {
            self.gradual = Some(Gradual::new(destination, terms.tolerances, terms.consents));
        }
    }

    /// Whether they go on, if these sections have come.
    pub(super) fn may_go_on(&self, terms: &Terms<'_>, outline: &Outline, come: &[Section]) -> bool {
        let goes_on = self.gradual.as_ref().is_some_and(Gradual::goes_on);
        let there = terms.destination.and_then(|there| there.shape.as_ref());
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
}
