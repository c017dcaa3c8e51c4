//! [`Cpu`]: the bytes of a section and the offsets of its fields.

use std::fmt;
use std::ops::Range;

use cpreg::register::RegisterId;

use crate::element::Section;

/// Version of the section's format; the only one on Arm.
pub(crate) const VERSION: u32 = 22;
/// Maximum number of registers; KVM lists about 500 with all features enabled.
pub(crate) const MAX_REGISTERS: usize = 4096;
/// Maximum length of a section, which has up to 64 KiB of registers, 64 KiB of SME, 5 KiB of the
/// rest.
pub(crate) const MAX_SECTION_LEN: u64 = 1 << 20;

/// Offset of the register count.
pub(crate) const COUNT_OFFSET: usize = 568;
/// Offset of the register list.
pub(crate) const LIST_OFFSET: usize = COUNT_OFFSET + 4;
/// Bytes between the register list and the subsections.
pub(crate) const TRAILING_FIELDS_LEN: usize = 65;
/// Offset of `features` in the trailing fields.
pub(crate) const FEATURES_OFFSET: usize = 24;

/// Section of one vCPU.
#[derive(Clone, PartialEq, Eq)]
pub struct Cpu {
    pub(super) section: Section,
    pub(super) bytes: Vec<u8>,
    pub(super) count: usize,
    pub(super) subsections: Vec<Subsection>,
}

/// Subsection: a part of the state that only some streams have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subsection {
    /// QEMU's name (`cpu/sve`).
    pub name: String,
    /// Version of the subsection's format.
    pub version: u32,
    /// Range of all bytes of the subsection in the payload, from its marker to its last
    /// subsection's end.
    pub(crate) range: Range<usize>,
    /// Range of the subsection's own fields in the payload, without its nested subsections.
    pub(crate) content_range: Range<usize>,
    /// Nested subsections (`cpu/vfp/fpcr_fpsr`).
    pub subsections: Vec<Self>,
}

/// Fields in front of the register list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are QEMU's and the architecture's")]
pub struct CoreFields {
    pub regs: [u32; 16],
    /// General registers X0 to X30, and the current SP in `x[31]`.
    pub x: [u64; 32],
    pub pc: u64,
    /// PSTATE, or CPSR in AArch32 state.
    pub pstate: u32,
    pub spsr: u32,
    pub banked_spsr: [u64; 8],
    pub banked_r13: [u32; 8],
    pub banked_r14: [u32; 8],
    pub usr_regs: [u32; 5],
    pub fiq_regs: [u32; 5],
    /// ELR_EL0 (unused) to ELR_EL3.
    pub elr_el: [u64; 4],
    /// SP_EL0 to SP_EL3.
    pub sp_el: [u64; 4],
}

/// Fields that follow the register list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrailingFields {
    /// Address that the exclusive monitor marks; all ones if the monitor is clear.
    pub exclusive_address: u64,
    /// Value that the guest loaded from the exclusive monitor's address.
    pub exclusive_value: u64,
    /// Upper half of the loaded value, if the guest loaded a pair.
    pub exclusive_high: u64,
    /// QEMU 5.2's internal feature bits; 0 in streams of later versions.
    pub features: u64,
    /// Syndrome of a pending exception.
    pub syndrome: u32,
    /// Fault status of a pending exception (AArch32).
    pub fault_status: u32,
    /// Address of a pending exception.
    pub fault_address: u64,
    /// Expiry of the physical timer, in nanoseconds of QEMU's virtual clock; all ones if idle.
    pub physical_timer: u64,
    /// Expiry of the virtual timer, in nanoseconds of QEMU's virtual clock; all ones if idle.
    pub virtual_timer: u64,
    /// PSCI power state: 0 on, 1 off, 2 being switched on.
    pub power_state: u8,
}

impl fmt::Debug for Cpu {
    /// Formats without values, because some of them are the guest's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu")
            .field("section", &self.section)
            .field("registers", &self.count)
            .field("subsections", &self.subsections)
            .finish_non_exhaustive()
    }
}

impl Cpu {
    /// Returns the section and its place in the file.
    pub fn section(&self) -> &Section {
        &self.section
    }

    /// Returns the payload of the section as stored in the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of registers in the list.
    pub fn register_count(&self) -> usize {
        self.count
    }

    /// Returns the registers and their values in the order of the file: ascending by id, or the
    /// [order](cpreg::destination::hvf) of HVF.
    pub fn registers(&self) -> impl ExactSizeIterator<Item = (RegisterId, u64)> + '_ {
        let values = LIST_OFFSET + 8 * self.count;
        let numbers =
            |range: Range<usize>| self.bytes.get(range).unwrap_or_default().chunks_exact(8);
        let ids = numbers(LIST_OFFSET..values);
        let values = numbers(values..values + 8 * self.count);
        ids.zip(values)
            .map(|(id, value)| (RegisterId::from_raw(be64(id, 0)), be64(value, 0)))
    }

    /// Returns the fields in front of the register list.
    pub fn core_fields(&self) -> CoreFields {
        let bytes = &self.bytes;
        CoreFields {
            regs: words(bytes, 0),
            x: doubles(bytes, 64),
            pc: be64(bytes, 320),
            pstate: be32(bytes, 328),
            spsr: be32(bytes, 332),
            banked_spsr: doubles(bytes, 336),
            banked_r13: words(bytes, 400),
            banked_r14: words(bytes, 432),
            usr_regs: words(bytes, 464),
            fiq_regs: words(bytes, 484),
            elr_el: doubles(bytes, 504),
            sp_el: doubles(bytes, 536),
        }
    }

    /// Returns the fields that follow the register list.
    pub fn trailing_fields(&self) -> TrailingFields {
        let bytes = &self.bytes[self.trailing_fields_start()..];
        TrailingFields {
            exclusive_address: be64(bytes, 0),
            exclusive_value: be64(bytes, 8),
            exclusive_high: be64(bytes, 16),
            features: be64(bytes, FEATURES_OFFSET),
            syndrome: be32(bytes, 32),
            fault_status: be32(bytes, 36),
            fault_address: be64(bytes, 40),
            physical_timer: be64(bytes, 48),
            virtual_timer: be64(bytes, 56),
            power_state: bytes[64],
        }
    }

    /// Returns the offset of the trailing fields in the payload.
    pub(crate) fn trailing_fields_start(&self) -> usize {
        LIST_OFFSET + 16 * self.count
    }

    /// Returns the outermost subsections in the order of the file.
    pub fn subsections(&self) -> &[Subsection] {
        &self.subsections
    }

    /// Returns all subsections; a subsection precedes those nested in it.
    pub fn all_subsections(&self) -> Vec<&Subsection> {
        fn collect<'a>(from: &'a [Subsection], to: &mut Vec<&'a Subsection>) {
            for subsection in from {
                to.push(subsection);
                collect(&subsection.subsections, to);
            }
        }
        let mut all = Vec::new();
        collect(&self.subsections, &mut all);
        all
    }

    /// Returns a subsection's content, without its nested subsections.
    pub fn content(&self, subsection: &Subsection) -> &[u8] {
        self.bytes
            .get(subsection.content_range.clone())
            .unwrap_or_default()
    }
}

pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

pub(super) fn be64(bytes: &[u8], at: usize) -> u64 {
    let mut double = [0; 8];
    double.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(double)
}

fn words<const N: usize>(bytes: &[u8], at: usize) -> [u32; N] {
    std::array::from_fn(|index| be32(bytes, at + 4 * index))
}

fn doubles<const N: usize>(bytes: &[u8], at: usize) -> [u64; N] {
    std::array::from_fn(|index| be64(bytes, at + 8 * index))
}
