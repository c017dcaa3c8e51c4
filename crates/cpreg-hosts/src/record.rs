//! [`HostRecord`]: what a host with KVM is, as `cpreg probe kvm` finds it: for each set of vCPU features the registers that a fresh vCPU has,
//! their values, and which other values KVM took.
//!
//! How it is found out lives in `cpreg-kvm`; the recorded hosts that cpreg comes with in
//! [`crate::history`].

use std::collections::BTreeMap;

use cpreg::destination::kernel::{Kind, PSCI_VERSIONS};
use cpreg::destination::{Accepts, Features, HostRegister, HostVcpu};
use cpreg::register::RegisterId;

use crate::history::AtReset;

/// What `KVM_CHECK_EXTENSION` says, by the capability's name in `linux/kvm.h` (`KVM_CAP_ARM_SVE`); those that it does not have are 0.
pub type Capabilities = BTreeMap<String, i32>;

/// A host, recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Which kernel and CPU.
    pub identity: Identity,
    /// What it says it can do.
    pub capabilities: Capabilities,
    /// What it gives to guests, by their features.
    pub guests: BTreeMap<Features, Guest>,
}

/// Which kernel and CPU a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `uname -r`: `6.12.107+deb13-cloud-arm64`.
    pub release: String,
    /// `uname -v`: `#1 SMP Debian 6.12.107-1 (2026-10-20)`.
    pub version: String,
    /// MIDR_EL1 of the host's first CPU.
    pub midr: u64,
    /// What to call the CPU: what the person who recorded it says, else its name by MIDR_EL1; `neoverse-n1`.
    pub cpu: String,
    /// How KVM runs there, where it is not as usual: `nested`, `nvhe`, `mte`; empty otherwise.
    pub mode: String,
    /// Whether the CPU is an emulator's, so that nothing about values is proven for a machine of that name.
    pub emulated: bool,
}

/// What a host gives to a guest with one set of features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest {
    /// The registers of a fresh vCPU, ascending by id.
    pub registers: Vec<Register>,
    /// For each ID register the bits that user space may change, where the kernel tells.
    pub writable: Option<BTreeMap<RegisterId, u64>>,
}

/// A register of a fresh vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Which.
    pub id: RegisterId,
    /// What it held, if that is a value.
    pub at_reset: AtReset,
    /// Whether another vCPU of the same VM held something else (MPIDR_EL1).
    pub differs_by_vcpu: bool,
    /// The errno of writing back what was read; 0 if that worked.
    pub write_back: u16,
    /// Other values that were tried, one after another on one vCPU, what was read being written back between them.
    pub trials: Vec<Trial>,
}

/// A value that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trial {
    /// What was written.
    pub value: u64,
    /// The errno of that; 0 if it was taken.
    pub errno: u16,
    /// What was read afterwards.
    pub reads: u64,
}

/// KVM's ABI has no more bits in a firmware bitmap.
const BITMAP_BITS: u32 = u64::BITS;

impl Guest {
    /// A vCPU of such a guest, as a destination has it.
    pub fn to_host_vcpu(&self) -> HostVcpu {
        let registers = self.registers.iter().map(|register| HostRegister {
            id: register.id,
            value: match &register.at_reset {
                AtReset::Value(value) if !register.differs_by_vcpu => Some(value.clone()),
                _ => None,
            },
            accepts: self.accepts(register),
        });
        HostVcpu::new(registers, Vec::new())
    }

    fn accepts(&self, register: &Register) -> Accepts {
        let tried = |value: u64| register.trials.iter().find(|trial| trial.value == value);
        let own = match &register.at_reset {
            AtReset::Value(value) => value.as_u64(),
            _ => None,
        };
        match Kind::of(register.id) {
            Kind::PsciVersion
                if PSCI_VERSIONS
                    .into_iter()
                    .all(|v| own == Some(v) || tried(v).is_some()) =>
            {
                let is_taken =
                    |value: &u64| own == Some(*value) || tried(*value).is_some_and(Trial::is_taken);
                Accepts::OneOf(PSCI_VERSIONS.into_iter().filter(is_taken).collect())
            }
            Kind::Services(_)
                if (0..BITMAP_BITS)
                    .all(|bit| own == Some(1 << bit) || tried(1 << bit).is_some()) =>
            {
                let bits = (0..BITMAP_BITS).map(|bit| 1 << bit);
                let taken = bits.filter(|bit| tried(*bit).is_some_and(Trial::is_taken));
                Accepts::Subset(taken.fold(own.unwrap_or(0), |all, bit| all | bit))
            }
            _ => {
                let masks = self.writable.as_ref();
                let mask = masks.and_then(|masks| masks.get(&register.id));
                mask.map_or(Accepts::ByKind, |mask| Accepts::Writable(*mask))
            }
        }
    }
}

impl Trial {
    /// Whether the value was taken and stayed.
    pub fn is_taken(&self) -> bool {
        self.errno == 0 && self.reads == self.value
    }
}

#[cfg(test)]
mod tests {
    use cpreg::register::Value;

    use super::*;

    fn register(id: RegisterId, own: u64, trials: Vec<Trial>) -> Register {
        Register {
            id,
            at_reset: AtReset::Value(Value::Small(own)),
            differs_by_vcpu: false,
            write_back: 0,
            trials,
        }
    }

    fn trial(value: u64, own: u64, is_taken: bool) -> Trial {
        Trial {
            value,
            errno: if is_taken { 0 } else { 22 },
            reads: if is_taken { value } else { own },
        }
    }

    fn accepts(register: Register) -> Accepts {
        let id = register.id;
        let guest = Guest {
            registers: vec![register],
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, 0xff)])),
        };
        let vcpu = guest.to_host_vcpu();
        vcpu.get(id)
            .map(|it| it.accepts.clone())
            .unwrap_or_default()
    }

    #[test]
    fn what_was_tried_tells_what_is_taken() {
        let own = 0x1_0001;
        let others = PSCI_VERSIONS.into_iter().filter(|version| *version != own);
        let trials: Vec<_> = others
            .map(|version| trial(version, own, version < own))
            .collect();
        assert_eq!(
            accepts(register(RegisterId::PSCI_VERSION, own, trials.clone())),
            Accepts::OneOf(vec![0x2, 0x1_0000, 0x1_0001])
        );
        assert_eq!(
            accepts(register(
                RegisterId::PSCI_VERSION,
                own,
                trials[1..].to_vec()
            )),
            Accepts::ByKind
        );
        let bits = (0..64).map(|bit| trial(1 << bit, 0, bit < 2)).collect();
        assert_eq!(
            accepts(register(RegisterId::VENDOR_HYP_BMAP_2, 0, bits)),
            Accepts::Subset(0b11)
        );
        assert_eq!(
            accepts(register(RegisterId::ID_AA64PFR0_EL1, 0x11, Vec::new())),
            Accepts::Writable(0xff)
        );
    }

    #[test]
    fn what_differs_by_vcpu_is_no_value() {
        let mut register = register(RegisterId::MPIDR_EL1, 0x8000_0000, Vec::new());
        register.differs_by_vcpu = true;
        let guest = Guest {
            registers: vec![register],
            writable: None,
        };
        assert_eq!(guest.to_host_vcpu().value(RegisterId::MPIDR_EL1), None);
    }
}
