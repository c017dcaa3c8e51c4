//! [`Vm`]: what arrives. Each vCPU's registers, and the pieces of its state that are no registers
//! but can be decided on all the same.
//!
//! What a source's own format looks like does not live here, nor what is done about anything.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::register::{RegisterId, Value};

/// A VM's CPU state as a source gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vm {
    /// The vCPUs in the order of their creation.
    pub vcpus: Vec<Vcpu>,
}

/// One vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// Its registers.
    pub registers: Registers,
    /// Decidable pieces of its state that are no registers.
    pub extensions: Vec<Extension>,
}

impl Vm {
    /// Returns `true` if both hold the same. The order of a vCPU's extensions means nothing.
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
    /// Returns `true` if both hold the same. The order of extensions means nothing.
    pub fn is_same_state(&self, other: &Self) -> bool {
        self.registers == other.registers
            && self.extensions.len() == other.extensions.len()
            && self
                .extensions
                .iter()
                .all(|extension| other.extensions.contains(extension))
    }
}

/// Registers and their values: ascending by id, each id once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers(Vec<(RegisterId, Value)>);

/// Two values were given for one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuplicateRegister(pub RegisterId);

impl Registers {
    /// No registers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes registers in any order.
    ///
    /// # Errors
    /// If an id occurs twice.
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

    /// The value of a register, if it is there.
    pub fn get(&self, id: RegisterId) -> Option<&Value> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.0[at].1)
    }

    /// The value of a register of at most 64 bits, if it is there.
    pub fn get_u64(&self, id: RegisterId) -> Option<u64> {
        self.get(id).and_then(Value::as_u64)
    }

    /// Sets a register; returns what it held.
    pub fn insert(&mut self, id: RegisterId, value: Value) -> Option<Value> {
        // Most lists are made in order.
        if self.0.last().is_none_or(|(last, _)| *last < id) {
            self.0.push((id, value));
            return None;
        }
        match self.0.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => Some(core::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (id, value));
                None
            }
        }
    }

    /// Takes a register out; returns what it held.
    pub fn remove(&mut self, id: RegisterId) -> Option<Value> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.0.remove(at).1)
    }

    /// The registers, ascending by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RegisterId, &Value)> + Clone {
        self.0.iter().map(|(id, value)| (*id, value))
    }

    /// How many registers there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A piece of a vCPU's state that is no register but can be decided on: a subsection of QEMU's
/// `cpu` section, or a field of it that only some versions use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// QEMU's name (`cpu/wfxt-timer`), or cpreg's where QEMU has none ([`Extension::FEATURES`]).
    pub name: Cow<'static, str>,
    /// What it holds.
    pub content: Content,
}

impl Extension {
    /// QEMU up to 5.2 keeps its internal feature bits (`env.features`) in the stream and takes them over
    /// from it; QEMU 6.0 and later send zeros there and ignore what comes. Content: [`Content::Number`].
    pub const FEATURES: &'static str = "env.features";
    /// QEMU's subsection for the timer of WFET and WFIT (FEAT_WFxT), sent by 11.1 for every CPU.
    /// Content: [`Content::Number`], the expiry in nanoseconds of QEMU's virtual clock, `u64::MAX` when idle.
    pub const WFXT_TIMER: &'static str = "cpu/wfxt-timer";
}

/// What an [`Extension`] holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// One number.
    Number(u64),
    /// Bytes that only its owner can read, as they stood in the source.
    Bytes(Vec<u8>),
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn the_order_of_extensions_means_nothing_and_all_else_does() {
        let extension = |name, number| Extension {
            name: Cow::Borrowed(name),
            content: Content::Number(number),
        };
        let vm = |extensions: Vec<Extension>, value: u64| Vm {
            vcpus: vec![Vcpu {
                registers: Registers::from_pairs([(RegisterId::TCR2_EL1, Value::U64(value))])
                    .unwrap(),
                extensions,
            }],
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
