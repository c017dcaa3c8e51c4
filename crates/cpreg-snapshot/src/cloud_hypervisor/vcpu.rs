//! [`SavedVcpu`]: the state of a vCPU, a JSON text with KVM's structures.
//!
//! | member | contents |
//! |---|---|
//! | `mp_state` | `struct kvm_mp_state` |
//! | `core_regs` | `struct kvm_regs` |
//! | `sys_regs` | registers of 32 and 64 bits, in KVM's order: id, and the value as `addr` |
//! | `pre_finalize_regs` | the vector lengths of SVE, since v53 |
//! | `extended_regs` | the registers of SVE, since v53 |
//!
//! Since v39 a structure is an array of its bytes. Before, `sys_regs` held objects with the members
//! `id` and `addr`, and `core_regs` an object that cpreg does not read.
//!
//! Source: Cloud Hypervisor `hypervisor/src/kvm/aarch64/mod.rs` of v18 to v53.

use std::collections::BTreeSet;
use std::ops::Range;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Registers, Vcpu};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::core_registers;
use super::document::{Members, malformed, place};
use crate::error::{Error, ErrorKind};
use crate::planned::{misfit, missing_register, push_value, vcpu_of};

/// Longest register that KVM has, in bytes.
const MAX_REGISTER_LEN: usize = 256;
/// Length of `struct kvm_one_reg`: an id and a value.
const ONE_REG_LEN: usize = 16;

/// vCPU as Cloud Hypervisor stores it.
#[derive(Clone, Debug)]
pub struct SavedVcpu {
    mp_state: u32,
    core: Option<CoreRegisters>,
    arrays: Vec<Array>,
    has_sve_members: bool,
    text: String,
}

/// Bytes of `core_regs` with their place.
#[derive(Clone, Debug)]
struct CoreRegisters {
    bytes: Vec<u8>,
    range: Range<usize>,
}

/// Array of registers in the text.
#[derive(Clone, Debug)]
struct Array {
    name: &'static str,
    range: Range<usize>,
    elements: Vec<Element>,
}

/// Register in an array.
#[derive(Clone, Debug)]
struct Element {
    id: RegisterId,
    value: Value,
    range: Range<usize>,
}

/// Names of the arrays, in the order in which Cloud Hypervisor writes their registers to KVM.
const ARRAYS: [&str; 3] = ["pre_finalize_regs", "extended_regs", "sys_regs"];

#[derive(Deserialize)]
struct RegisterObject {
    id: u64,
    #[serde(default)]
    addr: Option<u64>,
    #[serde(default)]
    data: Option<Vec<u8>>,
}

impl SavedVcpu {
    /// Parses the state of a vCPU.
    pub(super) fn parse(text: String) -> Result<Self, Error> {
        let invalid = |part: &str, error| malformed(part).with_source(error);
        let outer: Members<'_> =
            serde_json::from_str(&text).map_err(|error| invalid("the state of a vCPU", error))?;
        let members = match outer.get("Kvm") {
            Some(inner) => serde_json::from_str(inner.get())
                .map_err(|error| invalid("the state of a vCPU", error))?,
            None => outer,
        };
        let mp_state = read_mp_state(&members)?;
        let core = read_core(&text, &members)?;
        let mut arrays = Vec::new();
        for name in ARRAYS {
            if let Some(raw) = members.get(name) {
                arrays.push(Array::parse(&text, name, raw)?);
            }
        }
        if !arrays.iter().any(|array| array.name == "sys_regs") {
            return Err(malformed("the state of a vCPU without sys_regs"));
        }
        let has_sve_members = members.contains_key("extended_regs");
        Ok(Self {
            mp_state,
            core,
            arrays,
            has_sve_members,
            text,
        })
    }

    /// Returns the run state, one of KVM's `KVM_MP_STATE_*`.
    pub fn mp_state(&self) -> u32 {
        self.mp_state
    }

    /// Returns `true` if the state has members for the registers of SVE, which v53 introduced.
    pub(super) fn has_sve_members(&self) -> bool {
        self.has_sve_members
    }

    /// Returns `true` if the core registers are in a form that cpreg reads.
    pub(super) fn has_core_registers(&self) -> bool {
        self.core.is_some()
    }

    /// Returns `true` if the vCPU has registers of SVE.
    pub fn has_sve(&self) -> bool {
        let wide = self.arrays.iter().filter(|array| array.name != "sys_regs");
        wide.flat_map(|array| &array.elements).next().is_some()
    }

    /// Iterates over the registers in the order in which Cloud Hypervisor writes them to KVM.
    ///
    /// The vector lengths are first, then core registers, SVE and system registers.
    pub fn registers(&self) -> impl Iterator<Item = (RegisterId, Value)> + '_ {
        let core = self.core.iter().flat_map(|core| {
            let places = core_registers::places(self.has_sve());
            places
                .into_iter()
                .map(move |(id, range)| (id, Value::from_le_bytes(&core.bytes[range])))
        });
        let elements = |is_first: bool| {
            let arrays = self.arrays.iter();
            let arrays =
                arrays.filter(move |array| (array.name == "pre_finalize_regs") == is_first);
            arrays
                .flat_map(|array| &array.elements)
                .map(|element| (element.id, element.value.clone()))
        };
        elements(true).chain(core).chain(elements(false))
    }

    /// Returns the vCPU in cpreg's model.
    pub(super) fn to_model(&self) -> Result<Vcpu, Error> {
        vcpu_of(self.registers())
    }

    /// Returns the text of the state with the registers of `planned`, in the stored order.
    pub(super) fn edit(&self, planned: &Registers) -> Result<String, Error> {
        let stored: BTreeSet<_> = self.registers().map(|(id, _)| id).collect();
        if let Some((id, _)) = planned.iter().find(|(id, _)| !stored.contains(id)) {
            return Err(missing_register(id));
        }
        let mut edits = Vec::new();
        if let Some(core) = &self.core {
            let new = edit_core(&core.bytes, planned, self.has_sve())?;
            if new != core.bytes {
                edits.push((core.range.clone(), byte_array(&new)));
            }
        }
        for array in &self.arrays {
            array.collect_edits(&self.text, planned, &mut edits)?;
        }
        edits.sort_by_key(|(range, _)| range.start);
        let mut text = String::with_capacity(self.text.len());
        let mut copied = 0;
        for (range, new) in edits {
            text.push_str(&self.text[copied..range.start]);
            text.push_str(&new);
            copied = range.end;
        }
        text.push_str(&self.text[copied..]);
        Ok(text)
    }
}

fn read_mp_state(members: &Members<'_>) -> Result<u32, Error> {
    #[derive(Deserialize)]
    struct Object {
        mp_state: u32,
    }
    let raw = members
        .get("mp_state")
        .ok_or_else(|| malformed("the run state of a vCPU"))?;
    let number = if raw.get().starts_with('[') {
        serde_json::from_str(raw.get()).map(u32::from_le_bytes)
    } else {
        serde_json::from_str(raw.get()).map(|object: Object| object.mp_state)
    };
    number.map_err(|error| malformed("the run state of a vCPU").with_source(error))
}

fn read_core(text: &str, members: &Members<'_>) -> Result<Option<CoreRegisters>, Error> {
    let Some(raw) = members.get("core_regs").map(|raw| raw.get()) else {
        return Err(malformed("the state of a vCPU without core_regs"));
    };
    if !raw.starts_with('[') {
        return Ok(None);
    }
    let bytes: Vec<u8> = serde_json::from_str(raw)
        .map_err(|error| malformed("the core registers of a vCPU").with_source(error))?;
    if bytes.len() != core_registers::LEN {
        return Err(malformed("the core registers of a vCPU"));
    }
    Ok(Some(CoreRegisters {
        bytes,
        range: place(text, raw)?,
    }))
}

/// Returns the core registers with the planned values. None can be removed.
fn edit_core(bytes: &[u8], planned: &Registers, has_sve: bool) -> Result<Vec<u8>, Error> {
    let mut edited = bytes.to_vec();
    for (id, range) in core_registers::places(has_sve) {
        let mut new = Vec::new();
        planned
            .get(id)
            .and_then(|value| push_value(&mut new, value, range.len()))
            .ok_or_else(|| {
                let message = format!("the core register {id} cannot be removed");
                Error::new(ErrorKind::BadEdit, message)
            })?;
        edited[range].copy_from_slice(&new);
    }
    Ok(edited)
}

fn byte_array(bytes: &[u8]) -> String {
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(","))
}

impl Array {
    fn parse(text: &str, name: &'static str, raw: &RawValue) -> Result<Self, Error> {
        let invalid = |error| malformed(name).with_source(error);
        let raws: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(invalid)?;
        let mut elements = Vec::new();
        for raw in raws {
            let (id, data) = if raw.get().starts_with('[') {
                let bytes: [u8; ONE_REG_LEN] = serde_json::from_str(raw.get()).map_err(invalid)?;
                let (id, value) = bytes.split_at(8);
                let id = id.try_into().map(u64::from_le_bytes);
                (id.unwrap_or_default(), value.to_vec())
            } else {
                let object: RegisterObject = serde_json::from_str(raw.get()).map_err(invalid)?;
                let value = object.addr.map(|value| value.to_le_bytes().to_vec());
                let data = value.or(object.data).ok_or_else(|| malformed(name))?;
                (object.id, data)
            };
            let id = RegisterId::from_raw(id);
            // A buffer may be longer than the register.
            let length = id.size_bytes().filter(|size| *size <= MAX_REGISTER_LEN);
            let value = length
                .and_then(|length| data.get(..length))
                .ok_or_else(|| malformed(name))?;
            elements.push(Element {
                id,
                value: Value::from_le_bytes(value),
                range: place(text, raw.get())?,
            });
        }
        Ok(Self {
            name,
            range: place(text, raw.get())?,
            elements,
        })
    }

    /// Adds the replacements of a text that remove elements and change values.
    fn collect_edits(
        &self,
        text: &str,
        planned: &Registers,
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), Error> {
        let is_kept = |element: &&Element| planned.get(element.id).is_some();
        let kept: Vec<_> = self.elements.iter().filter(is_kept).collect();
        let is_changed = |element: &&Element| planned.get(element.id) != Some(&element.value);
        if kept.len() == self.elements.len() {
            for element in kept.into_iter().filter(is_changed) {
                let value = planned.get(element.id).unwrap_or(&element.value);
                let new = element.with_value(&text[element.range.clone()], value)?;
                edits.push((element.range.clone(), new));
            }
            return Ok(());
        }
        let mut new = Vec::new();
        for element in kept {
            let old = &text[element.range.clone()];
            new.push(match planned.get(element.id) {
                Some(value) if *value != element.value => element.with_value(old, value)?,
                _ => old.to_owned(),
            });
        }
        edits.push((self.range.clone(), format!("[{}]", new.join(","))));
        Ok(())
    }
}

impl Element {
    /// Returns the JSON text of this register with another value.
    fn with_value(&self, old: &str, value: &Value) -> Result<String, Error> {
        let misfit = || misfit(self.id, value);
        let mut data = Vec::new();
        let length = self.id.size_bytes().unwrap_or_default();
        push_value(&mut data, value, length).ok_or_else(misfit)?;
        if old.starts_with('[') {
            let mut bytes = self.id.raw().to_le_bytes().to_vec();
            bytes.append(&mut data);
            bytes.resize(ONE_REG_LEN, 0);
            return Ok(byte_array(&bytes));
        }
        let members: Members<'_> = serde_json::from_str(old).map_err(|_| misfit())?;
        let (raw, new) = match (members.get("addr"), members.get("data")) {
            (Some(raw), _) => (raw, value.as_u64().ok_or_else(misfit)?.to_string()),
            (None, Some(raw)) => {
                let mut bytes: Vec<u8> = serde_json::from_str(raw.get()).map_err(|_| misfit())?;
                bytes[..data.len()].copy_from_slice(&data);
                (raw, byte_array(&bytes))
            }
            (None, None) => return Err(misfit()),
        };
        let range = place(old, raw.get())?;
        Ok(format!("{}{new}{}", &old[..range.start], &old[range.end..]))
    }
}
