//! [`Destination`]: where a VM goes. A kernel side (or an emulator's), a loader, and how much is
//! known about either.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the destination as data |
//! | `host.rs` | a vCPU of it: registers, their values, extensions |
//! | [`kernel`] | what kind of register each is to KVM: scope, what its value hides, what an era offers |
//! | [`accept`] | whether a value would be taken |
//! | [`features`] | the vCPU features that decide what KVM lists, and those that a guest has |
//! | [`extension`] | what a loader does with an extension |
//! | [`loader`] | the programs that load the state and how each goes about it |
//! | [`load`] | a loader played through, register by register |
//! | `version` | versions of programs, and ranges of them |
//! | [`writer`] | which versions of a program can have written a VM |
//!
//! What to do about a difference does not live here; see [`crate::plan`].

pub mod accept;
pub mod extension;
pub mod features;
pub mod kernel;
pub mod load;
pub mod loader;
mod vcpu;
mod version;
pub mod writer;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::register::RegisterId;
use crate::shape::MachineShape;

pub use features::Features;
pub use loader::Loader;
pub use vcpu::{AcceptedValues, DestinationRegister, DestinationVcpu};
pub use version::{Version, VersionRange};

/// How a statement about a destination is known.
///
/// The order is from weakest to strongest, so the knowledge behind a conclusion is the minimum
/// of the knowledge behind its premises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// Nobody has seen it and its kind does not tell.
    Unknown,
    /// Concluded from the register's kind.
    Inferred,
    /// Seen on that very destination.
    Proven,
}

impl Confidence {
    /// The word for it in reports.
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

/// What executes the guest's instructions at the destination.
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
    /// QEMU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Hvf => "hvf",
        }
    }

    /// The accelerator with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg, Self::Hvf]
            .into_iter()
            .find(|accelerator| accelerator.name() == name)
    }

    /// What a list of registers tells of the accelerator it comes from: KVM lists its firmware
    /// registers for every vCPU, and only QEMU's TCG lists AArch32 views.
    pub fn from_registers(ids: impl IntoIterator<Item = RegisterId>) -> Option<Self> {
        ids.into_iter().find_map(|id| match id.raw() {
            raw if raw & !0xffff == kernel::FIRMWARE_CLASS => Some(Self::Kvm),
            raw if raw >> 56 == 0x40 => Some(Self::Tcg),
            _ => None,
        })
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the values of a destination's registers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueOrigin {
    /// Read before any guest ran: the values at reset.
    Reset,
    /// Left there by a guest that ran: proven to be taken, but no reset values.
    Guest,
    /// The values at reset of a vCPU that no program had configured, so that every control is at the most that the kernel has; on
    /// an emulator's CPU, so that nothing is proven for a machine of that name.
    EmulatedHost,
}

/// A place that a VM could be loaded into.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What to call it in reports.
    pub name: String,
    /// What runs the guest there, if known.
    pub accelerator: Option<Accelerator>,
    /// The program that loads, if known.
    pub loader: Option<Loader>,
    /// Where the registers' values come from.
    pub value_origin: ValueOrigin,
    /// The vCPUs there. A VM's vCPU beyond the last one is judged by the last one.
    pub vcpus: Vec<DestinationVcpu>,
    /// The outline of the VM there, if known.
    pub shape: Option<MachineShape>,
}

impl ValueOrigin {
    /// The best that anything about such a destination can be known.
    pub const fn max_confidence(self) -> Confidence {
        match self {
            Self::Reset | Self::Guest => Confidence::Proven,
            Self::EmulatedHost => Confidence::Inferred,
        }
    }
}

impl Destination {
    /// The vCPU that judges the VM's vCPU of that number.
    pub fn vcpu(&self, number: usize) -> Option<&DestinationVcpu> {
        self.vcpus.get(number).or(self.vcpus.last())
    }
}
