//! [`SimulatedLoad`]: the result of a simulated load; [`IncomingVcpu`]: its input.

use alloc::vec::Vec;

use super::Confidence;
use super::load_event::LoadEvent;
use crate::register::{RegisterId, Value};
use crate::vm::Extension;

/// Predicted load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedLoad {
    /// `Some(true)` if the VM would load, or `None` if there is not enough information to decide.
    pub loads: Option<bool>,
    /// Confidence in the prediction.
    pub confidence: Confidence,
    /// Events of the load, in order.
    pub events: Vec<LoadEvent>,
    /// `true` if `events` holds all events. Otherwise further events depend on unknown values of
    /// the destination.
    pub is_complete: bool,
    /// Registers that the loader would lose without refusing the VM, each with the number of its
    /// vCPU. The loader drops them silently, or forgets their failure.
    pub lost_registers: Vec<(usize, RegisterId)>,
}

impl SimulatedLoad {
    pub(super) fn unknown() -> Self {
        Self {
            loads: None,
            confidence: Confidence::Unknown,
            events: Vec::new(),
            is_complete: false,
            lost_registers: Vec::new(),
        }
    }
}

/// vCPU as an input lists it.
#[derive(Clone, Copy, Debug)]
pub struct IncomingVcpu<'a> {
    /// Registers in the order of the input. QEMU sends them ascending by id, but another input may
    /// have any order and repeat a register.
    pub registers: &'a [(RegisterId, &'a Value)],
    /// Extensions.
    pub extensions: &'a [Extension],
}
