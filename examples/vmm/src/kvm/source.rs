//! [`Machine`] as a migration source.

use cpreg::vm::Vm;

use super::machine::Machine;
use super::vcpu_state;
use crate::migrate::{Failure, Source};
use crate::protocol::{DeviceState, PAGE, VmShape};

impl Source for Machine {
    fn shape(&self) -> VmShape {
        self.shape()
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.stop()
    }

    fn resume(&mut self) -> Result<(), Failure> {
        self.start()
    }

    fn registers(&mut self) -> Result<Vm, Failure> {
        cpreg_kvm::save(&self.vcpus).map_err(Failure::from)
    }

    fn devices(&mut self) -> Result<DeviceState, Failure> {
        let vcpus = self.vcpus.iter().map(vcpu_state::save);
        Ok(DeviceState {
            vcpus: vcpus.collect::<Result<_, _>>()?,
            gic: self.gic.save()?,
        })
    }

    fn start_dirty_tracking(&mut self) -> Result<(), Failure> {
        self.memory.set_dirty_tracking(&self.vm, true)
    }

    fn stop_dirty_tracking(&mut self) -> Result<(), Failure> {
        self.memory.set_dirty_tracking(&self.vm, false)
    }

    fn dirty_pages(&mut self) -> Result<Vec<u32>, Failure> {
        self.memory.dirty_pages(&self.vm)
    }

    fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure> {
        self.memory.page(number, content)
    }
}
