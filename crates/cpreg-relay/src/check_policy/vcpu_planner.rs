//! [`VcpuPlanner`]: the vCPUs of a migration, decided about one by one as they come, by [`IncrementalPlan`].
//!
//! | the destination is | it is known |
//! |---|---|
//! | a profile or a stream | before anybody connects |
//! | a recorded host | when the first vCPU has come, whose registers tell the guest's features |
//! | this machine's KVM | when all has come: it is asked about as many vCPUs as there are; nothing goes on early |
//!
//! What is not certain here is left to the whole: nothing is refused here, and nothing reported.

use cpreg::destination::Accelerator;
use cpreg::plan::IncrementalPlan;
use cpreg::shape::{DeviceSection, MachineShape};
use cpreg_stream::incremental::StreamSetup;
use cpreg_stream::{Cpu, Section, Stream};

use super::config::{Planner, PolicyConfig};

/// The vCPUs, as far as they have come.
#[derive(Debug, Default)]
pub(super) struct VcpuPlanner<'t> {
    plan: Option<IncrementalPlan<'t>>,
    /// So many have come.
    received_count: usize,
}

impl<'t> VcpuPlanner<'t> {
    /// The next vCPU as it goes on, if that can be told.
    pub(super) fn add(
        &mut self,
        terms: &PolicyConfig<'t>,
        planner: &mut impl Planner,
        outline: Option<&StreamSetup>,
        cpu: &Cpu,
    ) -> Option<Cpu> {
        if self.received_count == 0 {
            self.begin(terms, planner, outline?, cpu);
        }
        self.received_count += 1;
        let result = self.plan.as_mut()?.add(&cpu.vcpu().ok()?)?;
        cpu.with_state(&result).ok()
    }

    fn begin(
        &mut self,
        terms: &PolicyConfig<'t>,
        planner: &mut impl Planner,
        outline: &StreamSetup,
        cpu: &Cpu,
    ) {
        let destination = match terms.destination {
            Some(destination) => Some(destination),
            None => planner.destination_for(Stream::from_vcpu(cpu.clone()), outline),
        };
        let Some(destination) = destination else {
            return;
        };
        let here = Accelerator::from_registers(cpu.registers().map(|(id, _)| id));
        if here == destination.accelerator || here.is_none() {
            self.plan = Some(IncrementalPlan::new(
                destination,
                terms.tolerances,
                terms.consents,
            ));
        }
    }

    /// Whether they go on, if these sections have come.
    pub(super) fn can_send_early(
        &self,
        terms: &PolicyConfig<'_>,
        outline: &StreamSetup,
        come: &[Section],
    ) -> bool {
        let goes_on = self.plan.as_ref().is_some_and(IncrementalPlan::can_load);
        let there = terms.destination.and_then(|there| there.shape.as_ref());
        goes_on && there.is_none_or(|there| self.is_shape_compatible(there, outline, come))
    }

    /// Whether nothing of the VM's outline that has come stands in the way.
    fn is_shape_compatible(
        &self,
        there: &MachineShape,
        outline: &StreamSetup,
        come: &[Section],
    ) -> bool {
        let devices = come.iter().map(|section| DeviceSection {
            name: section.name.clone(),
            instance: section.instance,
            version: section.version,
        });
        let here = MachineShape {
            machine: outline.machine.clone(),
            vcpu_count: self.received_count,
            ram: outline.ram.clone(),
            devices: devices.collect(),
        };
        here.differences(there).iter().all(|it| !it.blocks)
    }
}
