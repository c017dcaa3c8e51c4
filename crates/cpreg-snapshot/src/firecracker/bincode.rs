//! vCPUs in snapshot versions 1.0.0 to 8.0.0, found by their structure.
//!
//! Firecracker 1.7 to 1.14 write their state in the format of bincode with fixed little-endian
//! integers. The state begins with parts that differ between versions, so this module searches for
//! the vector of vCPUs. All versions store a vCPU in nearly the same way:
//!
//! | part | bytes |
//! |---|---|
//! | number of vCPUs, once | u64 |
//! | `struct kvm_mp_state` | u64 length 4, 4 bytes; in 1.0.0 the 4 bytes only |
//! | ids of the registers | u64 number, u64 each |
//! | values of the registers | u64 length, bytes |
//! | MPIDR | u64 |
//! | `struct kvm_vcpu_init` | u64 length 32, 32 bytes; in 1.0.0 a byte 1 in place of the length |
//! | address of stolen time, 8.0.0 only | a byte 0, or a byte 1 and a u64 |
//!
//! A guest controls a part of the bytes and could imitate such a vector. Exactly one place must
//! match, or the file is refused.

use std::ops::Range;

use super::vcpu::{INIT_LEN, MP_STATE_LEN, SavedVcpu, value_len};
use crate::error::{Error, ErrorKind};

/// Largest number of vCPUs of a VM in Firecracker.
const MAX_VCPUS: u64 = 32;

/// vCPU with the place of its registers.
#[derive(Clone, Debug)]
pub(super) struct PlacedVcpu {
    pub(super) vcpu: SavedVcpu,
    /// Place of both vectors with their lengths.
    pub(super) registers: Range<usize>,
}

/// Layout of a vCPU, by snapshot version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// `true` if KVM's structures have their length in front.
    has_lengths: bool,
    has_stolen_time: bool,
}

impl Layout {
    /// Returns the layout of a version, or `None` for a version of another format.
    pub(super) fn from_major(major: u16) -> Option<Self> {
        matches!(major, 1..=6 | 8).then_some(Self {
            has_lengths: major > 1,
            has_stolen_time: major == 8,
        })
    }
}

/// Finds the vCPUs in the bytes from `start` on.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if no place or several places match.
pub(super) fn find_vcpus(
    bytes: &[u8],
    start: usize,
    layout: Layout,
) -> Result<Vec<PlacedVcpu>, Error> {
    let mut matches = (start..bytes.len()).filter_map(|offset| read_vcpus(bytes, offset, layout));
    let hint = "edit the file with snapshot-editor of the Firecracker that wrote it";
    let found = matches.next().ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            "the state has no vCPUs in the known layout",
        )
        .with_hint(hint)
    })?;
    match matches.next() {
        None => Ok(found),
        Some(_) => Err(Error::new(
            ErrorKind::Unsupported,
            "several parts of the state look like vCPUs",
        )
        .with_hint(hint)),
    }
}

/// Reads a vector of vCPUs at this offset. Returns `None` for other bytes.
fn read_vcpus(bytes: &[u8], offset: usize, layout: Layout) -> Option<Vec<PlacedVcpu>> {
    let mut cursor = Cursor { bytes, offset };
    let count = cursor.number()?;
    if !(1..=MAX_VCPUS).contains(&count) {
        return None;
    }
    (0..count).map(|_| read_vcpu(&mut cursor, layout)).collect()
}

fn read_vcpu(cursor: &mut Cursor<'_>, layout: Layout) -> Option<PlacedVcpu> {
    let mp_state = cursor.structure(MP_STATE_LEN, layout.has_lengths.then_some(4))?;
    let start = cursor.offset;
    let count = usize::try_from(cursor.number()?).ok()?;
    if count == 0 || count > cursor.remaining() / 8 {
        return None;
    }
    let mut ids = Vec::new();
    let mut total = 0;
    for _ in 0..count {
        let id = cursor.number()?;
        total += value_len(id)?;
        ids.push(id);
    }
    let length = usize::try_from(cursor.number()?).ok()?;
    if length != total {
        return None;
    }
    let data = cursor.take(length)?.to_vec();
    let registers = start..cursor.offset;
    let _mpidr = cursor.number()?;
    let init = if layout.has_lengths {
        cursor.structure(INIT_LEN, Some(32))?
    } else {
        (cursor.take(1)? == [1]).then_some(())?;
        cursor.take(INIT_LEN)?
    };
    if layout.has_stolen_time {
        match cursor.take(1)? {
            [0] => {}
            [1] => {
                cursor.number()?;
            }
            _ => return None,
        }
    }
    let vcpu = SavedVcpu::from_parts(mp_state, ids, data, init).ok()?;
    Some(PlacedVcpu { vcpu, registers })
}

/// Encodes both vectors of a vCPU's registers with their lengths.
pub(super) fn encode_registers(vcpu: &SavedVcpu) -> Vec<u8> {
    let (ids, data) = (vcpu.ids(), vcpu.data());
    let mut bytes = Vec::with_capacity(16 + 8 * ids.len() + data.len());
    bytes.extend_from_slice(&(ids.len() as u64).to_le_bytes());
    for id in ids {
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes.extend_from_slice(&(data.len() as u64).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

struct Cursor<'b> {
    bytes: &'b [u8],
    offset: usize,
}

impl<'b> Cursor<'b> {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let end = self.offset.checked_add(length)?;
        let bytes = self.bytes.get(self.offset..end)?;
        self.offset = end;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let bytes = self.take(8)?.try_into().ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Takes one of KVM's structures, with its length in front if `length` is given.
    fn structure(&mut self, size: usize, length: Option<u64>) -> Option<&'b [u8]> {
        if let Some(length) = length
            && self.number()? != length
        {
            return None;
        }
        self.take(size)
    }
}
