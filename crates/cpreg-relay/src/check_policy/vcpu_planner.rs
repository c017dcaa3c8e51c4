//! [`VcpuPlanner`]: decides about the vCPUs of a migration one by one, by [`IncrementalPlan`].
//!
//! - A destination that is a profile or a stream is known before anything connects.
//! - A recorded host is known after the first vCPU, whose registers show the guest's features.
//! - KVM of this machine is known after all device state, because cpreg must create a VM with the
//!   source's number of vCPUs. With this destination the relay sends no vCPU early.
//!
//! The plan of the whole VM decides uncertain results. This module rejects nothing and reports
//! nothing.

use cpreg::destination::{Accelerator, Destination};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::IncrementalPlan;
use cpreg::shape::{DeviceSection, MachineShape};
use cpreg_stream::incremental::StreamSetup;
use cpreg_stream::{Cpu, Section, Stream};

use super::config::{Planner, PolicyConfig};

/// Planner of the vCPUs received so far.
#[derive(Debug, Default)]
pub(super) struct VcpuPlanner<'t> {
    plan: Option<IncrementalPlan<'t>>,
    /// Properties of the GIC, which the stream has before its vCPUs.
    hardware: HardwareFacts,
    /// Number of vCPUs received.
    received_count: usize,
}

impl<'t> VcpuPlanner<'t> {
    /// Sets the properties of the GIC, which precedes the vCPUs.
    pub(super) fn set_hardware(&mut self, facts: HardwareFacts) {
        self.hardware = facts;
    }

    /// Plans the next vCPU. Returns it as the relay sends it, if the result is certain.
    pub(super) fn add(
        &mut self,
        config: &PolicyConfig<'t>,
        planner: &mut impl Planner,
        setup: Option<&StreamSetup>,
        cpu: &Cpu,
    ) -> Option<Cpu> {
        if self.received_count == 0 {
            self.start(config, planner, setup?, cpu);
        }
        self.received_count += 1;
        let converted = self.plan.as_mut()?.add(&cpu.vcpu().ok()?)?;
        cpu.with_state(&converted).ok()
    }

    fn start(
        &mut self,
        config: &PolicyConfig<'t>,
        planner: &mut impl Planner,
        setup: &StreamSetup,
        cpu: &Cpu,
    ) {
        let destination = match config.destination {
            Some(destination) => Some(destination),
            None => planner.destination_for(Stream::from_vcpu(cpu.clone()), setup),
        };
        let Some(destination) = destination else {
            return;
        };
        let accelerator = Accelerator::from_registers(cpu.registers().map(|(id, _)| id));
        // If the destination can load no vCPU, the plan of the whole VM reports the reason.
        let can_load = destination.accelerator_difference(accelerator).is_none()
            && destination
                .missing_machine_type(setup.machine.as_deref())
                .is_none();
        if can_load {
            let plan = IncrementalPlan::new(destination, config.tolerances, config.consents);
            let source_hardware = self.hardware.or(config.source_hardware);
            self.plan = Some(plan.with_source_hardware(source_hardware));
        }
    }

    /// Returns `true` if the relay may send the vCPUs once these sections have arrived, before the
    /// rest of the device state.
    pub(super) fn can_send_early(
        &self,
        config: &PolicyConfig<'_>,
        setup: &StreamSetup,
        sections: &[Section],
    ) -> bool {
        let can_load = self.plan.as_ref().is_some_and(IncrementalPlan::can_load);
        let is_shape_compatible =
            |destination| self.is_shape_compatible(destination, setup, sections);
        can_load && config.destination.is_none_or(is_shape_compatible)
    }

    /// Returns `true` if neither the machine type nor the number of vCPUs, RAM blocks or devices
    /// received so far block the load.
    fn is_shape_compatible(
        &self,
        destination: &Destination,
        setup: &StreamSetup,
        sections: &[Section],
    ) -> bool {
        let devices = sections.iter().map(|section| DeviceSection {
            name: section.name.clone(),
            instance: section.instance,
            version: section.version,
        });
        let shape = MachineShape {
            machine: setup.machine.clone(),
            vcpu_count: self.received_count,
            ram: setup.ram.clone(),
            devices: devices.collect(),
        };
        destination
            .shape_differences(None, Some(&shape))
            .iter()
            .all(|difference| !difference.blocks)
    }
}
