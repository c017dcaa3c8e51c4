//! [`Machine`] as a VM that goes elsewhere.

use cpreg::vm::Vm;

use super::machine::Machine;
use super::vcpu_state;
use crate::migrate::{Failure, Source};
use crate::protocol::{Devices, Outline, PAGE};

impl Source for Machine {
    fn outline(&self) -> Outline {
        self.outline()
    }

    fn stop(&mut self) -> Result<(), Failure> {
        self.stop()
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        self.start()
    }

    fn registers(&mut self) -> Result<Vm, Failure> {
        cpreg_kvm::save(&self.vcpus).map_err(Failure::from)
    }

    fn devices(&mut self) -> Result<Devices, Failure> {
        let vcpus = self.vcpus.iter().map(vcpu_state::save);
        Ok(Devices {
            vcpus: vcpus.collect::<Result<_, _>>()?,
            gic: self.gic.save()?,
        })
    }

    fn watch(&mut self) -> Result<(), Failure> {
        self.memory.watch(&self.vm, true)
    }

    fn unwatch(&mut self) -> Result<(), Failure> {
        self.memory.watch(&self.vm, false)
    }

    fn written(&mut self) -> Result<Vec<u32>, Failure> {
        self.memory.written(&self.vm)
    }

    fn page(&self, number: u32, content: &mut [u8; PAGE]) -> Result<(), Failure> {
        self.memory.page(number, content)
    }
}
