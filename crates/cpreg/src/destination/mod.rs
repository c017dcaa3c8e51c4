//! [`Destination`]: the program and host that load a VM.
//!
//! A destination consists of a kernel (or an emulator) and a loader. Statements about either carry
//! a [`Confidence`].
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the destination as data |
//! | `vcpu.rs` | a vCPU of the destination: registers, their values, extensions |
//! | `accepted_fields.rs` | the values that an ID register accepts, field by field |
//! | [`kernel`] | kinds of registers in KVM, their scope |
//! | `feature_gate.rs` | registers hidden by ID fields |
//! | [`counters`] | event counters that a host takes away |
//! | [`accept`] | the values that a register accepts |
//! | [`features`] | vCPU features of KVM, and the features of a guest |
//! | [`extension`] | handling of extensions by loaders |
//! | [`hvf`] | register lists of QEMU under HVF |
//! | `machine` | the VM's accelerator and machine, compared with the destination's |
//! | [`loader`] | the programs that load the state, and their behaviour |
//! | [`load`] | simulation of a load, register by register |
//! | `load_event` | messages and actions of a loader during a load |
//! | `plausible_loader` | the loaders that can be a destination's loader |
//! | `new_vm` | VMs of which only the host is known |
//! | [`saved_state`] | versions of Firecracker's snapshots, and the releases that load each |
//! | `sequential` | simulation of a load by Firecracker and Cloud Hypervisor |
//! | `simulated_load` | result and input of a simulated load |
//! | `version` | versions of programs, and ranges of versions |
//! | `write_results` | intermediate results of a simulated load |
//! | [`writer`] | the versions of QEMU that can have written a VM |
//!
//! [`crate::plan`] decides about differences.

pub mod accept;
mod accepted_fields;
pub mod counters;
pub mod extension;
mod feature_gate;
pub mod features;
pub mod hvf;
pub mod kernel;
pub mod load;
mod load_event;
pub mod loader;
mod machine;
mod new_vm;
mod plausible_loader;
pub mod saved_state;
mod sequential;
mod simulated_load;
mod vcpu;
mod version;
mod write_results;
pub mod writer;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::hardware::HardwareFacts;
use crate::register::RegisterId;
use crate::shape::MachineShape;

pub use accepted_fields::{AcceptedField, AcceptedFields, DroppedValues, MAX_FIELD_WIDTH};
pub use features::Features;
pub use loader::Loader;
pub use vcpu::{AcceptedValues, DestinationRegister, DestinationVcpu};
pub use version::{Version, VersionRange};

/// Confidence in a statement about a destination.
///
/// Variants ascend from weakest to strongest. The confidence in a conclusion is therefore the
/// minimum of the confidences in its premises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Neither observed nor inferred.
    Unknown,
    /// Inferred from the register's kind.
    Inferred,
    /// Observed on the destination itself.
    Proven,
}

impl Confidence {
    /// Returns the name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inferred => "inferred",
            Self::Proven => "proven",
        }
    }
}

impl fmt::Display for Confidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Accelerator that executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// Linux KVM.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
    /// Apple's Hypervisor.framework, as QEMU uses it.
    Hvf,
}

impl Accelerator {
    /// Returns QEMU's name of the accelerator.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Hvf => "hvf",
        }
    }

    /// Returns the accelerator with this name of QEMU, in upper or lower case, or `None` for any
    /// other text.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg, Self::Hvf]
            .into_iter()
            .find(|accelerator| accelerator.name().eq_ignore_ascii_case(name))
    }

    /// Returns the accelerator that produced a list of registers, or `None` if the list does not
    /// identify one.
    ///
    /// KVM lists its firmware registers for every vCPU, and only QEMU's TCG lists AArch32 views.
    /// QEMU under HVF lists registers that KVM does not list, and lacks some that both others list.
    pub fn from_registers(ids: impl IntoIterator<Item = RegisterId>) -> Option<Self> {
        let mut evidence = hvf::ListEvidence::default();
        for id in ids {
            match id.raw() {
                raw if raw & !0xffff == kernel::FIRMWARE_CLASS => return Some(Self::Kvm),
                raw if raw >> 56 == 0x40 => return Some(Self::Tcg),
                _ => evidence.note(id),
            }
        }
        evidence.is_conclusive().then_some(Self::Hvf)
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Origin of the values of a destination's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueOrigin {
    /// Reset values, read before any guest ran.
    Reset,
    /// Values of a guest that ran. The destination certainly accepts them, but they are not reset
    /// values.
    Guest,
    /// Reset values of a vCPU that no program had configured, on an emulated CPU.
    ///
    /// Every control register has the maximum that the kernel allows. The values prove nothing
    /// about a real machine with the same CPU model.
    EmulatedHost,
}

/// Destination that a VM could be loaded into.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Name of the destination in reports.
    pub name: String,
    /// Accelerator that runs the guest, if known.
    pub accelerator: Option<Accelerator>,
    /// Program that loads the VM, if known.
    pub loader: Option<Loader>,
    /// Origin of the registers' values.
    pub value_origin: ValueOrigin,
    /// vCPUs of the destination. If the VM has more vCPUs, the last element stands for the rest.
    pub vcpus: Vec<DestinationVcpu>,
    /// Version of the host's Linux, if known.
    pub kernel_version: Option<Version>,
    /// Properties of the host that no register list holds.
    pub hardware: HardwareFacts,
    /// Shape of the VM at the destination, if known.
    pub shape: Option<MachineShape>,
}

impl ValueOrigin {
    /// Returns the highest possible confidence in a statement about a destination with values of
    /// this origin.
    pub(crate) const fn max_confidence(self) -> Confidence {
        match self {
            Self::Reset | Self::Guest => Confidence::Proven,
            Self::EmulatedHost => Confidence::Inferred,
        }
    }
}

impl Destination {
    /// Returns `true` if the hardware facts or the register values are those of an emulated host.
    pub fn is_emulated(&self) -> bool {
        self.hardware.is_emulated || self.value_origin == ValueOrigin::EmulatedHost
    }

    /// Returns the comparable facts of the source's host and of this destination.
    ///
    /// The facts of an emulated host are no evidence about a real one: QEMU's emulator has its own
    /// counter frequency, for instance. If only one of the hosts is emulated, its differing facts
    /// are not known.
    pub(crate) fn comparable_facts(&self, source: HardwareFacts) -> (HardwareFacts, HardwareFacts) {
        let destination = self.hardware;
        match (source.is_emulated, self.is_emulated()) {
            (true, false) => (source.without_differing(destination), destination),
            (false, true) => (source, destination.without_differing(source)),
            _ => (source, destination),
        }
    }

    /// Returns the destination's vCPU for the VM's vCPU `number`, which counts from zero.
    ///
    /// Returns `None` only if the destination has no vCPU at all.
    pub fn vcpu(&self, number: usize) -> Option<&DestinationVcpu> {
        self.vcpus.get(number).or(self.vcpus.last())
    }
}
