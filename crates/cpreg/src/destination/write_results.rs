//! Intermediate results of a simulated load by QEMU.

use alloc::vec::Vec;

use super::load_event::LoadEvent;
use super::{Confidence, accept};
use crate::register::{RegisterId, Value};

/// Results of writing one vCPU's registers.
pub(super) struct WriteResults {
    pub(super) refused_writes: Vec<LoadEvent>,
    /// `true` if the result of a write is not known.
    pub(super) has_unknown: bool,
    /// `true` if a write certainly fails, even if its message is not known.
    pub(super) has_failure: bool,
    /// Register whose write makes the program abort.
    pub(super) aborting_register: Option<RegisterId>,
    pub(super) confidence: Confidence,
}

pub(super) struct MergedList<'v> {
    /// `true` if the result of the merge is a failure. A tolerated register resets an earlier
    /// failure.
    pub(super) has_failure: bool,
    /// Incoming value for each register of the loader's list, in the list's order. The vector is
    /// shorter if the merge ended early.
    pub(super) incoming_values: Vec<Option<&'v Value>>,
    pub(super) lost_registers: Vec<RegisterId>,
}

impl WriteResults {
    pub(super) fn note(
        &mut self,
        vcpu: usize,
        id: RegisterId,
        acceptance: accept::Acceptance,
        values: Option<(&Value, Option<&Value>)>,
    ) {
        match acceptance.as_bool() {
            Some(true) => self.confidence = self.confidence.min(acceptance.confidence()),
            Some(false) => {
                self.has_failure = true;
                self.confidence = self.confidence.min(acceptance.confidence());
                if let Some((value, current)) = values {
                    self.refused_writes.push(LoadEvent::ValueNotAccepted {
                        vcpu,
                        id,
                        value: value.clone(),
                        current: current.cloned(),
                    });
                }
            }
            None => self.has_unknown = true,
        }
    }
}
