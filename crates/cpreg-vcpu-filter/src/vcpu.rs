//! [`VcpuFilter`]: the phase of one vCPU, and its own, incoming and remembered values.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::loader::Program;
use cpreg::errno::Errno;
use cpreg::plan::SetConsent;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Registers;

use crate::phase::{Phase, Step};

/// Answers to the calls about one vCPU depend on this state.
#[derive(Clone, Debug, Default)]
pub struct VcpuFilter {
    pub(crate) phase: Phase,
    /// Registers that the kernel listed before any incoming value, ascending.
    pub(crate) listed: Option<Vec<RegisterId>>,
    /// Values of registers that the host lacks and the VMM lists.
    pub(crate) remembered: BTreeMap<RegisterId, Remembered>,
    /// Registers that the host listed, and that it hides since the VM's ID registers arrived.
    pub(crate) hidden: BTreeMap<RegisterId, Remembered>,
    /// Values that the kernel gave the vCPU, as far as they were read.
    pub(crate) own: Registers,
    /// Values that the VMM wrote and that differ from the own ones.
    pub(crate) incoming: Registers,
    /// Incoming registers whose value the kernel did not accept.
    pub(crate) refused_writes: BTreeMap<RegisterId, Errno>,
    /// Incoming registers whose value the kernel accepted and replaced by another.
    pub(crate) replaced: BTreeSet<RegisterId>,
    /// Incoming PSTATE.
    pub(crate) pstate: Option<u64>,
    /// First register of a pass over the list.
    pub(crate) pass_start: Option<RegisterId>,
    /// Registers to which the plan gives other values than the incoming ones.
    pub(crate) substitutions: BTreeMap<RegisterId, Substitution>,
    /// Values that the kernel shows in place of accepted incoming ones.
    pub(crate) kernel_values: BTreeMap<RegisterId, Value>,
    /// Settings of the policy that the kernel did not accept after the last initialisation.
    pub(crate) failed_settings: Vec<FailedSetting>,
}

/// Setting that the kernel did not accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a setting fails with one error")]
pub struct FailedSetting {
    /// The setting.
    pub setting: SetConsent,
    /// Error of the kernel.
    pub errno: Errno,
}

/// Value of a register that the host lacks or hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// Value before any write.
    pub(crate) initial: u64,
    /// Value of the last write.
    pub(crate) current: u64,
}

/// Value that the plan gives a register in place of the incoming one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Substitution {
    /// Write this value.
    Value(Value),
    /// Write nothing.
    None,
}

impl VcpuFilter {
    /// Returns the phase of the vCPU.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the registers that the host lacks and the VMM lists, with their current values.
    pub fn remembered(&self) -> impl Iterator<Item = (RegisterId, u64)> {
        let values = self.remembered.iter();
        values.map(|(id, remembered)| (*id, remembered.current))
    }

    /// Takes a step of the state machine.
    pub(crate) fn step(&mut self, step: Step) {
        self.phase = self.phase.transition(step);
    }

    /// Forgets all values, because the VMM initialised the vCPU again.
    pub(crate) fn reset(&mut self) {
        self.step(Step::Reset);
        let remembered = self.remembered.values_mut();
        for remembered in remembered.chain(self.hidden.values_mut()) {
            remembered.current = remembered.initial;
        }
        *self = Self {
            phase: self.phase,
            remembered: std::mem::take(&mut self.remembered),
            // KVM keeps the VM's ID registers.
            hidden: std::mem::take(&mut self.hidden),
            ..Self::default()
        };
    }

    /// Returns `true` if the kernel listed the register.
    pub(crate) fn is_listed(&self, id: RegisterId) -> bool {
        let listed = self.listed.as_deref().unwrap_or_default();
        listed.binary_search(&id).is_ok()
    }

    /// Returns `true` if the register has an incoming value and the host lacks the register.
    pub(crate) fn is_unlisted_incoming(&self, id: RegisterId) -> bool {
        self.incoming.get(id).is_some() && !self.is_listed(id)
    }

    /// Returns the value that the VMM knows of a register.
    pub(crate) fn known_value(&self, id: RegisterId) -> Option<Value> {
        let incoming = self.incoming.get(id).or_else(|| self.own.get(id));
        incoming.cloned().or_else(|| {
            let remembered = self.remembered.get(&id).or_else(|| self.hidden.get(&id));
            remembered.map(|remembered| Value::U64(remembered.current))
        })
    }

    /// Returns the value of a register that the host listed and now hides.
    pub(crate) fn hidden_value(&self, id: RegisterId) -> Option<u64> {
        if let Some(hidden) = self.hidden.get(&id) {
            return Some(hidden.current);
        }
        let is_refused = self.refused_writes.get(&id) == Some(&Errno::ENOENT);
        self.known_value(id).filter(|_| is_refused)?.as_u64()
    }

    /// Forgets the hidden registers that the host has listed since.
    pub(crate) fn unhide_listed(&mut self) {
        let mut hidden = std::mem::take(&mut self.hidden);
        hidden.retain(|id, _| !self.is_listed(*id));
        self.hidden = hidden;
    }

    /// Records that the host hides a register that it listed.
    pub(crate) fn hide(&mut self, id: RegisterId) {
        let value = |registers: &Registers| registers.get(id).and_then(Value::as_u64);
        let initial = value(&self.own).unwrap_or_default();
        let current = value(&self.incoming).unwrap_or(initial);
        self.hidden.insert(id, Remembered { initial, current });
    }

    /// Records the value of a write to a register that the host lacks or hides.
    pub(crate) fn remember_write(&mut self, id: RegisterId, written: &Value) {
        let remembered = self.remembered.get_mut(&id);
        let remembered = remembered.or_else(|| self.hidden.get_mut(&id));
        if let (Some(remembered), Some(value)) = (remembered, written.as_u64()) {
            remembered.current = value;
        }
    }
}

/// Returns `true` if the filter judges the register.
///
/// Core and vector registers pass. Every host with the vCPU's features has them.
pub(crate) fn is_judged(id: RegisterId) -> bool {
    Program::QEMU.has_in_list(id)
}
