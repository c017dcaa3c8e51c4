//! [`KvmTarget`]: a VM that comes to this host. What is decided, tried and loaded of its registers is cpreg's ([`crate::arrival`]).

use cpreg::plan::Consents;
use cpreg::vm::Vm;
use cpreg_kvm::Kvm;

use super::machine::Machine;
use super::vcpu_state;
use crate::arrival::{LoadDecision, decide, load};
use crate::migrate::{Failure, Refusal, Target};
use crate::protocol::{DeviceState, PAGE, VmShape};

/// This host, and the VM that is to be.
#[derive(Debug)]
pub struct KvmTarget {
    kvm: Kvm,
    consents: Consents,
    /// Made when it is known what it is like.
    machine: Option<Machine>,
    /// What was found out beforehand.
    decision: Option<LoadDecision>,
    /// Whether all of its state is in it.
    is_loaded: bool,
}

impl KvmTarget {
    /// Nothing yet.
    ///
    /// # Errors
    /// If there is no KVM.
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
        machine.ok_or_else(|| Failure("there is no VM yet".into()))
    }

    /// The VM, when it came.
    pub fn into_machine(self) -> Option<Machine> {
        self.machine
    }
}

impl Target for KvmTarget {
    fn create(&mut self, outline: &VmShape) -> Result<(), Refusal> {
        self.machine = Some(Machine::new(*outline)?);
        Ok(())
    }

    fn preflight(&mut self, vm: &Vm, devices: &DeviceState) -> Result<Vec<String>, Refusal> {
        let features = self.machine()?.shape().features;
        let decided = decide(&self.kvm, features, vm, &self.consents);
        let gic = self.machine()?.gic().preflight(&devices.gic);
        match (decided, gic) {
            (Ok(decided), Ok(())) => {
                let notes = decided.notes.clone();
                self.decision = Some(decided);
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
        let decided = self.decision.take();
        let decided = decided.ok_or_else(|| Failure("it was not looked at before".into()))?;
        let consents = self.consents.clone();
        let machine = self.machine()?;
        load(&decided, vm, &consents, &machine.vcpus)?;
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
