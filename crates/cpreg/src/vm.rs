//! [`Vm`]: the incoming VM, with each vCPU's registers and extensions. An [`Extension`] is state
//! that is not a register but needs a decision too.
//!
//! Other crates parse the file formats of sources. [`crate::plan`] makes the decisions.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::hardware::HardwareFacts;
use crate::register::{RegisterId, Value};

/// CPU state of a VM as a source provided the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    /// vCPUs in the order of their creation.
    pub vcpus: Vec<Vcpu>,
    /// Properties of the VM's own host that no register list holds.
    pub source_hardware: HardwareFacts,
}

/// One vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// Registers of the vCPU.
    pub registers: Registers,
    /// Parts of the vCPU's state that are not registers but need a decision.
    pub extensions: Vec<Extension>,
    /// PSTATE (SPSR_ELx format), if the source provided it outside the list of registers.
    pub pstate: Option<u64>,
    /// `Some(true)` if the vCPU waits for an interrupt or event, `Some(false)` if it executes
    /// instructions, `None` if the source did not provide it.
    ///
    /// In a planned VM `Some(false)` means that the vCPU must execute instructions after the load,
    /// and `None` leaves the vCPU as it is.
    pub is_halted: Option<bool>,
}

#[cfg(test)]
impl Vm {
    /// Returns a VM whose only vCPU has these registers.
    pub(crate) fn with_one_vcpu(registers: &[(RegisterId, u64)]) -> Self {
        let pairs = registers
            .iter()
            .map(|(id, value)| (*id, Value::U64(*value)));
        Self {
            vcpus: alloc::vec![Vcpu {
                registers: Registers::from_pairs(pairs).expect("no id twice"),
                ..Vcpu::default()
            }],
            ..Self::default()
        }
    }
}

impl Vm {
    /// Returns `true` if both VMs hold the same state. Ignores the order of a vCPU's extensions.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.vcpus.len() == other.vcpus.len()
            && self
                .vcpus
                .iter()
                .zip(&other.vcpus)
                .all(|(one, other)| one.is_same_state(other))
    }
}

impl Vcpu {
    /// Returns `true` if both vCPUs hold the same state. Ignores the order of extensions, and
    /// [`Self::is_halted`] if it is unknown for one of them.
    pub fn is_same_state(&self, other: &Self) -> bool {
        let wait = self.is_halted.zip(other.is_halted);
        self.registers == other.registers
            && wait.is_none_or(|(one, other)| one == other)
            && self.extensions.len() == other.extensions.len()
            && self
                .extensions
                .iter()
                .all(|extension| other.extensions.contains(extension))
    }
}

/// Registers and their values, ascending by id. Each id occurs once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(Vec<(RegisterId, Value)>);

/// Error for a list with two values of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateRegister(pub RegisterId);

impl Registers {
    /// Returns an empty set of registers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Builds the set from registers in any order.
    ///
    /// # Errors
    /// Returns an error if an id occurs twice.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (RegisterId, Value)>,
    ) -> Result<Self, DuplicateRegister> {
        let mut pairs: Vec<_> = pairs.into_iter().collect();
        pairs.sort_by_key(|(id, _)| *id);
        match pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(DuplicateRegister(pair[0].0)),
            None => Ok(Self(pairs)),
        }
    }

    /// Returns the value of a register, if the set contains the register.
    pub fn get(&self, id: RegisterId) -> Option<&Value> {
        let index = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.0[index].1)
    }

    /// Returns the value of a register as a number, or `None` if the register is absent or wider
    /// than 64 bits.
    pub fn get_u64(&self, id: RegisterId) -> Option<u64> {
        self.get(id).and_then(Value::as_u64)
    }

    /// Sets a register and returns its previous value, if the set contained the register.
    pub fn insert(&mut self, id: RegisterId, value: Value) -> Option<Value> {
        // Callers usually insert in ascending order.
        if self.0.last().is_none_or(|(last, _)| *last < id) {
            self.0.push((id, value));
            return None;
        }
        match self.0.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(index) => Some(core::mem::replace(&mut self.0[index].1, value)),
            Err(index) => {
                self.0.insert(index, (id, value));
                None
            }
        }
    }

    /// Removes a register and returns its value, if the set contained the register.
    pub fn remove(&mut self, id: RegisterId) -> Option<Value> {
        let index = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.0.remove(index).1)
    }

    /// Iterates over the registers, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RegisterId, &Value)> + Clone {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    /// Returns `true` if both sets contain the same registers, and `accepts` returns `true` for
    /// each one whose values differ.
    pub(crate) fn differ_only_in(
        &self,
        other: &Self,
        mut accepts: impl FnMut(RegisterId) -> bool,
    ) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        self.len() == other.len()
            && pairs.all(|((one_id, one), (other_id, other))| {
                one_id == other_id && (one == other || accepts(*one_id))
            })
    }

    /// Returns the registers with their values, ascending by id.
    pub(crate) fn as_slice(&self) -> &[(RegisterId, Value)] {
        &self.0
    }

    /// Returns the number of registers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if the set contains no register.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Part of a vCPU's state that is not a register but needs a decision.
///
/// An extension is a subsection of QEMU's `cpu` section, or a field of the section that only some
/// versions of QEMU use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Extension {
    /// QEMU's name (`cpu/wfxt-timer`), or cpreg's name if QEMU has none ([`Extension::FEATURES`]).
    pub name: Cow<'static, str>,
    /// Content of the extension.
    pub content: Content,
}

impl Extension {
    /// Name of QEMU's internal feature bits (`env.features`). Content: [`Content::Number`].
    ///
    /// QEMU up to 5.2 saves the bits in the stream, and loads them from the stream. QEMU 6.0 and
    /// later send zeros and ignore the incoming bits.
    pub const FEATURES: &'static str = "env.features";
    /// Name of QEMU's subsection for the timer of WFET and WFIT (FEAT_WFxT). QEMU 11.1 sends the
    /// subsection for every CPU.
    ///
    /// Content: [`Content::Number`], the expiry in nanoseconds of QEMU's virtual clock, `u64::MAX`
    /// when idle.
    pub const WFXT_TIMER: &'static str = "cpu/wfxt-timer";
    /// Name of the order of the register list of QEMU up to 10.1 under HVF, which is not ascending
    /// ([`crate::destination::hvf`]). QEMU loads a list only in the order of its own list.
    ///
    /// Content: [`Content::Number`], always 1.
    pub const HVF_ORDER: &'static str = "hvf-list-order";
}

/// Content of an [`Extension`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// One number.
    Number(u64),
    /// Opaque bytes, unchanged from the source.
    Bytes(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn is_same_state_ignores_only_the_order_of_extensions() {
        let extension = |name, number| Extension {
            name: Cow::Borrowed(name),
            content: Content::Number(number),
        };
        let vm = |extensions: Vec<Extension>, value: u64| Vm {
            vcpus: vec![Vcpu {
                registers: Registers::from_pairs([(RegisterId::TCR2_EL1, Value::U64(value))])
                    .unwrap(),
                extensions,
                ..Vcpu::default()
            }],
            ..Vm::default()
        };
        let (one, two) = (extension("cpu/one", 1), extension("cpu/two", 2));
        let both = vm(vec![one.clone(), two.clone()], 7);
        assert!(both.is_same_state(&vm(vec![two.clone(), one.clone()], 7)));
        assert!(!both.is_same_state(&vm(vec![two.clone(), one.clone()], 8)));
        assert!(!both.is_same_state(&vm(vec![one.clone()], 7)));
        assert!(!both.is_same_state(&vm(vec![one, extension("cpu/two", 3)], 7)));
        assert!(!both.is_same_state(&Vm::default()));
    }
}
