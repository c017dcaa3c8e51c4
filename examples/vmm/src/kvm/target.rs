//! [`KvmTarget`]: a VM that arrives at this host. cpreg decides on its registers, tries and loads
//! them ([`crate::arrival`]).

use cpreg::plan::Consents;
use cpreg::vm::Vm;
use cpreg_kvm::Kvm;

use super::machine::Machine;
use super::vcpu_state;
use crate::arrival::{LoadDecision, decide, load};
use crate::migrate::{Failure, Refusal, Target};
use crate::protocol::{DeviceState, PAGE, VmShape};

/// Receiving host and the VM that arrives.
#[derive(Debug)]
pub struct KvmTarget {
    kvm: Kvm,
    consents: Consents,
    /// VM, once its shape is known.
    machine: Option<Machine>,
    /// Result of the preflight.
    decision: Option<LoadDecision>,
    /// `true` once the VM has its complete state.
    is_loaded: bool,
}

impl KvmTarget {
    /// Creates a target without a VM.
    ///
    /// # Errors
    /// Returns an error if there is no KVM.
    pub fn new(consents: Consents) -> Result<Self, Failure> {
        Ok(Self {
            kvm: Kvm::open()?,
            consents,
            machine: None,
            decision: None,
            is_loaded: false,
        })
    }

    fn machine(&mut self) -> Result<&mut Machine, Failure> {
        let machine = self.machine.as_mut();
        machine.ok_or_else(|| Failure("the VM is not created yet".into()))
    }

    /// Returns the VM if one was created.
    pub fn into_machine(self) -> Option<Machine> {
        self.machine
    }
}

impl Target for KvmTarget {
    fn create(&mut self, shape: &VmShape) -> Result<(), Refusal> {
        self.machine = Some(Machine::new(*shape)?);
        Ok(())
    }

    fn preflight(&mut self, vm: &Vm, devices: &DeviceState) -> Result<Vec<String>, Refusal> {
        let features = self.machine()?.shape().features;
        let decision = decide(&self.kvm, features, vm, &self.consents);
        let gic = self.machine()?.gic().preflight(&devices.gic);
        match (decision, gic) {
            (Ok(decision), Ok(())) => {
                let notes = decision.notes.clone();
                self.decision = Some(decision);
                Ok(notes)
            }
            (Ok(_), Err(Failure(gic))) => Err(Refusal(vec![gic])),
            (Err(refusal), Ok(())) => Err(refusal),
            (Err(Refusal(mut reasons)), Err(Failure(gic))) => {
                reasons.push(gic);
                Err(Refusal(reasons))
            }
        }
    }

    fn write(&mut self, number: u32, content: Option<&[u8; PAGE]>) -> Result<(), Failure> {
        let offset = u64::from(number) * PAGE as u64;
        let memory = &self.machine()?.memory;
        memory.write(offset, content.unwrap_or(&[0; PAGE]))
    }

    fn load(&mut self, vm: &Vm, devices: &DeviceState) -> Result<(), Refusal> {
        let decision = self.decision.take();
        let decision =
            decision.ok_or_else(|| Failure("the VM was loaded without a preflight".into()))?;
        let consents = self.consents.clone();
        let machine = self.machine()?;
        load(&decision, vm, &consents, &machine.vcpus)?;
        machine.gic().load(&devices.gic)?;
        for (vcpu, state) in machine.vcpus.iter().zip(&devices.vcpus) {
            vcpu_state::load(vcpu, *state)?;
        }
        self.is_loaded = true;
        Ok(())
    }

    fn run(&mut self) -> Result<(), Failure> {
        if !self.is_loaded {
            return Err(Failure("the VM is not loaded".into()));
        }
        self.machine()?.start()
    }
}
