//! [`Event`]: what a VM's filter reports.

use cpreg::plan::SetConsent;
use cpreg::register::{RegisterId, Value};

use crate::refusal::Refusal;
pub use crate::vcpu::FailedSetting;

/// Event to report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The VMM has a list that differs from the kernel's.
    Listed {
        /// Registers that the host lacks and the VMM lists.
        remembered: Vec<RegisterId>,
        /// Registers of the host that the VMM does not list.
        dropped: Vec<RegisterId>,
    },
    /// The kernel accepted the settings of the policy.
    SettingsMade {
        /// The settings.
        settings: Vec<SetConsent>,
    },
    /// The incoming VM is refused.
    Refused(Refusal),
    /// The vCPU with this number holds the values of the plan.
    Loaded {
        /// Number of the vCPU.
        vcpu: usize,
        /// Incoming registers that were left out, with their values.
        ignored: Vec<(RegisterId, Value)>,
        /// Registers that hold another value than the incoming one.
        changed: Vec<ChangedRegister>,
    },
    /// The kernel did not accept settings of the policy on the vCPU with this number.
    SettingsRefused {
        /// Number of the vCPU.
        vcpu: usize,
        /// Settings, with the errors of the kernel.
        settings: Vec<FailedSetting>,
    },
    /// The VMM wrote a value that differs from a setting of the policy.
    SettingReplaced {
        /// Number of the first vCPU to which the VMM wrote the value.
        vcpu: usize,
        /// Register of the setting.
        register: RegisterId,
        /// Value that the VMM wrote.
        value: u64,
    },
}

/// Register that holds another value than the incoming one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a register has two values")]
pub struct ChangedRegister {
    /// Id of the register.
    pub register: RegisterId,
    /// Incoming value.
    pub from: Value,
    /// Value that the vCPU holds.
    pub to: Value,
}
