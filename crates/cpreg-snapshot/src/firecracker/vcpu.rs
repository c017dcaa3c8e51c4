//! [`SavedVcpu`]: a vCPU as Firecracker stores it, with its registers in KVM's order.

use std::collections::BTreeSet;
use std::ops::Range;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Registers, Vcpu};

use crate::error::{Error, ErrorKind};
use crate::planned::{misfit, missing_register, push_value, vcpu_of};

/// Architecture in the upper bits of an id: arm64 (`KVM_REG_ARM64`).
const ARM64: u64 = 6;
/// Longest register that Firecracker loads, in bytes.
const MAX_REGISTER_LEN: usize = 256;
/// Length of `struct kvm_mp_state`.
pub(super) const MP_STATE_LEN: usize = 4;
/// Length of `struct kvm_vcpu_init`: a target and seven words of features.
pub(super) const INIT_LEN: usize = 32;

/// vCPU as Firecracker stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedVcpu {
    mp_state: u32,
    ids: Vec<u64>,
    data: Vec<u8>,
    features: u32,
}

/// Returns the length of a register's value, or `None` for an id that is not one of arm64.
pub(super) fn value_len(id: u64) -> Option<usize> {
    let is_arm64 = id >> 60 == ARM64;
    RegisterId::from_raw(id)
        .size_bytes()
        .filter(|len| is_arm64 && *len <= MAX_REGISTER_LEN)
}

impl SavedVcpu {
    /// Makes a vCPU from its parts. `mp_state` and `init` are KVM's structures.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if a part has another length than KVM's structure, an id is not one
    /// of arm64, or the ids and the values do not match.
    pub(super) fn from_parts(
        mp_state: &[u8],
        ids: Vec<u64>,
        data: Vec<u8>,
        init: &[u8],
    ) -> Result<Self, Error> {
        let malformed = |message| Error::new(ErrorKind::Malformed, message);
        let mp_state: [u8; MP_STATE_LEN] = mp_state
            .try_into()
            .map_err(|_| malformed("the vCPU's run state has another length"))?;
        let features = init
            .get(4..8)
            .filter(|_| init.len() == INIT_LEN)
            .and_then(|word| word.try_into().ok())
            .map(u32::from_le_bytes)
            .ok_or(malformed("the vCPU's features have another length"))?;
        let mut total = 0;
        for id in &ids {
            total += value_len(*id).ok_or(malformed("a register's id is not one of arm64"))?;
        }
        if total != data.len() {
            return Err(malformed("the registers' values do not match their ids"));
        }
        Ok(Self {
            mp_state: u32::from_le_bytes(mp_state),
            ids,
            data,
            features,
        })
    }

    /// Returns the run state, one of KVM's `KVM_MP_STATE_*`.
    pub fn mp_state(&self) -> u32 {
        self.mp_state
    }

    /// Returns the first word of features that the vCPU was initialised with
    /// (`KVM_ARM_VCPU_*`).
    pub fn features(&self) -> u32 {
        self.features
    }

    /// Returns the ids of the registers, in the stored order.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// Returns the values of all registers, one after the other.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Iterates over the registers in the stored order, in which Firecracker writes them.
    pub fn registers(&self) -> impl Iterator<Item = (RegisterId, Value)> + '_ {
        self.ids.iter().zip(self.ranges()).map(|(id, range)| {
            (
                RegisterId::from_raw(*id),
                Value::from_le_bytes(&self.data[range]),
            )
        })
    }

    /// Iterates over the places of the values. All ids were checked.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut start = 0;
        self.ids.iter().map(move |id| {
            let end = start + value_len(*id).unwrap_or_default();
            let range = start..end;
            start = end;
            range
        })
    }

    /// Returns the vCPU in cpreg's model.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if a register is stored twice.
    pub(super) fn to_model(&self) -> Result<Vcpu, Error> {
        vcpu_of(self.registers())
    }

    /// Returns a copy that holds the registers of `planned`, in the stored order.
    ///
    /// # Errors
    /// [`ErrorKind::BadEdit`] if `planned` holds a register that the vCPU lacks, or a value of
    /// another length.
    pub(super) fn with_registers(&self, planned: &Registers) -> Result<Self, Error> {
        let mut edited = Self {
            ids: Vec::new(),
            data: Vec::new(),
            ..self.clone()
        };
        for (id, range) in self.ids.iter().zip(self.ranges()) {
            let register = RegisterId::from_raw(*id);
            let Some(value) = planned.get(register) else {
                continue;
            };
            edited.ids.push(*id);
            let old = &self.data[range];
            push_value(&mut edited.data, value, old.len())
                .ok_or_else(|| misfit(register, value))?;
        }
        if edited.ids.len() == planned.len() {
            return Ok(edited);
        }
        let stored: BTreeSet<_> = self.ids.iter().collect();
        let missing = planned.iter().find(|(id, _)| !stored.contains(&id.raw()));
        match missing {
            Some((id, _)) => Err(missing_register(id)),
            None => Err(Error::new(
                ErrorKind::BadEdit,
                "the snapshot holds a register twice",
            )),
        }
    }
}
