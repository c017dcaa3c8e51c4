//! The values that QEMU's own emulation (TCG) accepts when it loads the list.
//!
//! QEMU writes every listed register and reads the register back, in ascending order. If a register
//! reads back another value, the load fails. TCG therefore accepts a value whose bits outside the
//! register's writable bits are the emulated CPU's own. QEMU also writes a register that the input
//! lacks, from uninitialised memory: zero up to QEMU 10.0, any value from 11.0.
//!
//! The rules, with the loads that show them, are in docs/tcg-loading.md, section 3. The
//! observations are in data/tcg-acceptance.tsv.

use core::cmp::Ordering;

use super::acceptance::{Acceptance, Acceptor};
use crate::destination::{Accelerator, DestinationRegister, DestinationVcpu, Loader, Version};
use crate::register::{CoprocessorRegister, DecodedId, Naming, RegisterId, SystemRegister, Value};

/// Bits of a register that may hold any value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WritableBits {
    All,
    /// Exactly these bits.
    Bits(u64),
    /// At least these bits; more on CPUs with features that widen the register.
    AtLeast(u64),
}

/// Names of registers without state, which always read as the emulated CPU's own value.
const CONSTANT_REGISTERS: [&str; 47] = [
    "ACTLR_EL1",
    "ACTLR_EL2",
    "ACTLR_EL3",
    "AFSR0_EL1",
    "AFSR0_EL2",
    "AFSR0_EL3",
    "AFSR1_EL1",
    "AFSR1_EL2",
    "AFSR1_EL3",
    "AMAIR2_EL1",
    "AMAIR2_EL2",
    "AMAIR2_EL3",
    "AMAIR_EL1",
    "AMAIR_EL2",
    "AMAIR_EL3",
    "DBGDTRRX_EL0",
    "DBGDTR_EL0",
    "DBGVCR32_EL2",
    "ERRIDR_EL1",
    "HACR_EL2",
    "LORC_EL1",
    "LOREA_EL1",
    "LORID_EL1",
    "LORN_EL1",
    "LORSA_EL1",
    "MDCCINT_EL1",
    "MDCCSR_EL0",
    "MDRAR_EL1",
    "MECIDR_EL2",
    "OSDTRRX_EL1",
    "OSDTRTX_EL1",
    "OSECCR_EL1",
    "PMCEID0_EL0",
    "PMCEID1_EL0",
    "PMMIR_EL1",
    "RMR_EL1",
    "RMR_EL2",
    "RMR_EL3",
    "SMPRIMAP_EL2",
    "SMPRI_EL1",
    "TCO",
    "DBGDTRTX_EL0",
    "CCSIDR_EL1",
    "MIDR_EL1",
    "DCZID_EL0",
    "REVIDR_EL1",
    "AIDR_EL1",
];

/// Names of AArch32 registers without state; see [`CONSTANT_REGISTERS`].
const CONSTANT_AARCH32_REGISTERS: [&str; 40] = [
    "ACTLR",
    "ACTLR2",
    "ADFSR",
    "AIFSR",
    "AMAIR0",
    "AMAIR1",
    "DBGDCCINT",
    "DBGDEVID",
    "DBGDEVID1",
    "DBGDEVID2",
    "DBGDIDR",
    "DBGDRAR",
    "DBGDRAR_64",
    "DBGDSAR",
    "DBGDSAR_64",
    "DBGDTRRXext",
    "DBGDTRTX",
    "DBGDTRTXext",
    "DBGDTRTXint",
    "DBGOSECCR",
    "DBGVCR",
    "ERRIDR",
    "HACR",
    "HACTLR",
    "HACTLR2",
    "HADFSR",
    "HAIFSR",
    "HAMAIR0",
    "HAMAIR1",
    "JIDR",
    "JMCR",
    "JOSCR",
    "L2CTLR",
    "L2ECTLR",
    "PMCEID0",
    "PMCEID1",
    "PMCEID2",
    "PMCEID3",
    "PMMIR",
    "RMR",
];

fn writable_bits(acceptor: Acceptor, cpu: Cpu, id: RegisterId) -> WritableBits {
    let has_el3 = cpu.has_el3;
    if id == RegisterId::CPACR_EL1 || id == CPACR {
        return if cpu.is_aarch32 {
            WritableBits::Bits(CPACR_AARCH32)
        } else {
            WritableBits::All
        };
    }
    match id.decode() {
        DecodedId::SystemRegister(register)
            if has_el3
                && register.op1 == 4
                && !matches!(id, RegisterId::DACR32_EL2 | RegisterId::IFSR32_EL2) =>
        {
            match aarch64_writable_bits(acceptor, id, register) {
                WritableBits::Bits(0) => WritableBits::Bits(0),
                _ => WritableBits::AtLeast(0),
            }
        }
        DecodedId::Coprocessor(register) if has_el3 && register.opc1 >= 4 => {
            match aarch32_writable_bits(register) {
                WritableBits::Bits(0) => WritableBits::Bits(0),
                _ => WritableBits::AtLeast(0),
            }
        }
        DecodedId::SystemRegister(register) => aarch64_writable_bits(acceptor, id, register),
        DecodedId::Coprocessor(register) => aarch32_writable_bits(register),
        _ => WritableBits::All,
    }
}

fn aarch64_writable_bits(
    acceptor: Acceptor,
    id: RegisterId,
    register: SystemRegister,
) -> WritableBits {
    const NOTHING: WritableBits = WritableBits::Bits(0);
    let SystemRegister { op0, op1, crn, .. } = register;
    match (op0, op1, crn) {
        // ID registers, cache types; implementation-defined registers.
        (3, 0 | 1 | 3, 0) | (_, _, 15) | (3, _, 11) => return NOTHING,
        _ => {}
    }
    let Some(name) = id.name_in(Naming::Architectural) else {
        return WritableBits::All;
    };
    let is_oldest = acceptor.version() <= Some(Version::new(5, 2));
    match name {
        name if CONSTANT_REGISTERS.contains(&name) => NOTHING,
        "RVBAR_EL1" | "RVBAR_EL2" | "RVBAR_EL3" if is_oldest => WritableBits::AtLeast(0),
        "OSDLR_EL1" => WritableBits::Bits(1),
        "CSSELR_EL1" => WritableBits::Bits(0xf),
        "VBAR_EL1" | "VBAR_EL2" | "VBAR_EL3" => WritableBits::Bits(!0x1f),
        "FPCR" => WritableBits::AtLeast(0x7f7_0000),
        "FPSR" => WritableBits::Bits(0xf800_009f),
        "HCR_EL2" => WritableBits::AtLeast(0x3_dfff_ffff),
        "SCR_EL3" => WritableBits::AtLeast(0x3e8f),
        "TCR_EL3" => WritableBits::AtLeast(0x8000_0037),
        "VNCR_EL2" => WritableBits::Bits(!0xfff),
        "TCR2_EL1" => WritableBits::AtLeast(0x7_0012),
        "SCTLR2_EL2" | "SCTLR2_EL3" => WritableBits::AtLeast(2),
        "GCSPR_EL0" | "GCSPR_EL1" | "GCSPR_EL2" | "GCSPR_EL3" => WritableBits::Bits(!7),
        "HCRX_EL2" | "SCTLR2_EL1" | "TCR2_EL2" | "ZCR_EL2" => WritableBits::AtLeast(0),
        name if name.starts_with("PMEVCNTR") => WritableBits::AtLeast(0xffff_ffff),
        name if name.starts_with("MECID_") || name.starts_with("VMECID_") => {
            WritableBits::Bits(0xffff)
        }
        _ => WritableBits::All,
    }
}

fn aarch32_writable_bits(register: CoprocessorRegister) -> WritableBits {
    const NOTHING: WritableBits = WritableBits::Bits(0);
    let CoprocessorRegister {
        coprocessor,
        wide,
        crn,
        crm,
        opc1,
        opc2,
        ..
    } = register;
    match (coprocessor, wide, opc1, crn, crm, opc2) {
        // Listed only if it is writable: on CPUs without AArch64.
        (15, false, 0, 0, 0, 0) => return WritableBits::All,
        // L2CTLR and L2ECTLR.
        (15, false, 1, 9, 0, 2 | 3) => return NOTHING,
        (15, false, 0 | 1, 0, ..)
        | (15, false, _, 15, ..)
        | (15, true, _, _, 15, _)
        | (15, false, 0, 6, 0, 1)
        | (15, false, 6, 5, 1, 0 | 1) => return NOTHING,
        (15, false, 2, 0, 0, 0) => return WritableBits::Bits(0xf),
        _ => {}
    }
    // The two banks of a register are alike.
    let bank = RegisterId::coprocessor(CoprocessorRegister {
        secure: false,
        ..register
    });
    match bank.name() {
        Some(name) if CONSTANT_AARCH32_REGISTERS.contains(&name) => NOTHING,
        Some("DBGOSDLR" | "TEECR") => WritableBits::Bits(1),
        Some("NSACR") => WritableBits::AtLeast(0),
        Some("VBAR" | "HVBAR") => WritableBits::Bits(0xffff_ffe0),
        // With EL3 this is MVBAR, else a view of RVBAR_EL1.
        Some("RVBAR") => WritableBits::AtLeast(0xffff_ffe0),
        _ => WritableBits::All,
    }
}

/// Returns `true` if the value lacks bits that QEMU up to 7.2 always sets in SCR_EL3.
///
/// These versions read SCR_EL3 back with bits 4 and 5 set, so they refuse even the values that 5.2
/// itself saves.
pub(super) fn lacks_fixed_bits(acceptor: Acceptor, id: RegisterId, value: &Value) -> bool {
    id == SCR_EL3
        && acceptor.version() <= Some(Version::new(7, 2))
        && acceptor.version().is_some()
        && value
            .as_u64()
            .is_some_and(|value| value & SCR_FIXED != SCR_FIXED)
}

const SCR_FIXED: u64 = 0x30;

/// Properties of the emulated CPU that follow from its list of registers.
#[derive(Clone, Copy, Debug, Default)]
struct Cpu {
    /// `true` if the machine has EL3. If it also lacks EL2, EL2's registers are listed but keep no
    /// value, and the list does not show the difference.
    has_el3: bool,
    /// `true` if the CPU has no AArch64.
    is_aarch32: bool,
}

impl Cpu {
    fn from_vcpu(destination_vcpu: &DestinationVcpu) -> Self {
        Self {
            has_el3: destination_vcpu.get(SCR_EL3).is_some(),
            is_aarch32: !destination_vcpu.registers().is_empty()
                && destination_vcpu.get(RegisterId::ID_AA64MMFR0_EL1).is_none(),
        }
    }
}

const CPACR: RegisterId = RegisterId::aarch32(15, 0, 1, 0, 2);

/// Writable bits of CPACR_EL1 on a CPU without AArch64.
const CPACR_AARCH32: u64 = 0xc0f0_0000;

const SCR_EL3: RegisterId = RegisterId::sysreg(3, 6, 1, 1, 0);

/// Evaluates whether a value is accepted.
pub(super) fn evaluate(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    value: &Value,
) -> Acceptance {
    if register.id == RegisterId::PMCR_EL0 {
        return evaluate_pmcr(acceptor, register, value);
    }
    let (own, value) = (
        register.value.as_ref().and_then(Value::as_u64),
        value.as_u64(),
    );
    let (bits, is_exact) =
        match writable_bits(acceptor, Cpu::from_vcpu(destination_vcpu), register.id) {
            WritableBits::All => return Acceptance::INFERRED_TAKEN,
            WritableBits::Bits(bits) => (bits, true),
            WritableBits::AtLeast(bits) => (bits, false),
        };
    match (own, value) {
        (Some(own), Some(value)) if (own ^ value) & !bits == 0 => Acceptance::INFERRED_TAKEN,
        (Some(_), Some(_)) if is_exact => Acceptance::INFERRED_REFUSED,
        _ => Acceptance::Unknown,
    }
}

/// Evaluates a value of PMCR_EL0.
///
/// QEMU 5.2 aborts if PMCR_EL0.N is less than the CPU's number of counters. QEMU 5.2 accepts a
/// larger N, but aborts when the guest uses a counter that the CPU lacks. The function treats both
/// cases as refused.
fn evaluate_pmcr(acceptor: Acceptor, register: &DestinationRegister, value: &Value) -> Acceptance {
    match (acceptor.version(), number_of_counters(register, value)) {
        (_, Some((own, incoming))) if own == incoming => Acceptance::INFERRED_TAKEN,
        (Some(version), _) => Acceptance::new_inferred(version > Version::new(5, 2)),
        (None, _) => Acceptance::Unknown,
    }
}

/// Returns PMCR_EL0.N of the register's recorded value, then N of `value`.
fn number_of_counters(register: &DestinationRegister, value: &Value) -> Option<(u64, u64)> {
    let counters = |value: &Value| value.as_u64().map(|value| value >> 11 & 0x1f);
    Some((counters(register.value.as_ref()?)?, counters(value)?))
}

/// Mismatch between an incoming PMCR_EL0.N and the emulated CPU's number of event counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CounterMismatch {
    /// The value has fewer counters than QEMU lists and writes later in the load.
    Fewer,
    /// The value has more counters than the CPU.
    More,
}

/// Returns the mismatch if QEMU 5.2 would write a PMCR_EL0 with another number of counters.
///
/// A missing value (`None`) is compared as zero, which QEMU 5.2 writes in its place.
pub(crate) fn counter_mismatch(
    acceptor: Acceptor,
    register: &DestinationRegister,
    value: Option<&Value>,
) -> Option<CounterMismatch> {
    if register.id != RegisterId::PMCR_EL0
        || acceptor.accelerator != Some(Accelerator::Tcg)
        || acceptor.version()? > Version::new(5, 2)
    {
        return None;
    }
    let (own, incoming) = number_of_counters(register, value.unwrap_or(&Value::U64(0)))?;
    match incoming.cmp(&own) {
        Ordering::Less => Some(CounterMismatch::Fewer),
        Ordering::Equal => None,
        Ordering::Greater => Some(CounterMismatch::More),
    }
}

/// Evaluates the load of a register that the input lacks.
pub(crate) fn evaluate_missing(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
) -> Acceptance {
    if acceptor.version().is_none() {
        return Acceptance::Unknown;
    }
    if loads_missing_as_zero(acceptor, destination_vcpu) {
        return acceptor.evaluate(destination_vcpu, register, &Value::U64(0));
    }
    let own = register.value.as_ref().and_then(Value::as_u64);
    match (
        writable_bits(acceptor, Cpu::from_vcpu(destination_vcpu), register.id),
        own,
    ) {
        // A register of 32 bits may drop half of the uninitialised value, and then reads back a
        // different value.
        (WritableBits::All, _) if register.id.size_bytes() == Some(8) => Acceptance::INFERRED_TAKEN,
        // Uninitialised memory holds exactly these bits only by chance.
        (WritableBits::Bits(bits), Some(own)) if own & !bits != 0 => Acceptance::INFERRED_REFUSED,
        _ => Acceptance::Unknown,
    }
}

/// Returns `true` if a register that the input lacks is loaded as zero.
///
/// No version of QEMU clears the memory of the missing value. Up to 10.0 this memory was zero in
/// every load of a list of at most 340 registers. In 10.0 the memory was not zero with the 403
/// registers of neoverse-n2 with EL2 and EL3.
pub fn loads_missing_as_zero(acceptor: Acceptor, destination_vcpu: &DestinationVcpu) -> bool {
    /// Maximum number of registers in a list with which the memory was zero in every load.
    const MAX_ZEROED_LIST_LEN: usize = 340;
    destination_vcpu.registers().len() <= MAX_ZEROED_LIST_LEN
        && acceptor
            .version()
            .is_some_and(|version| version <= LAST_ZEROING_VERSION)
}

/// Last version in which the memory of a missing value can be zero; see [`loads_missing_as_zero`].
const LAST_ZEROING_VERSION: Version = Version::new(10, 2);

/// Returns `true` if a register has no state and only identifies the emulated CPU.
pub fn is_constant(id: RegisterId) -> bool {
    writable_bits(Acceptor::default(), Cpu::default(), id) == WritableBits::Bits(0)
}

/// Returns the accepted value nearest to `value`.
pub(crate) fn nearest_value(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    value: u64,
) -> Option<u64> {
    let own = register.value.as_ref().and_then(Value::as_u64)?;
    if register.id == RegisterId::PMCR_EL0 {
        const PMCR_N: u64 = 0x1f << 11;
        return Some(value & !PMCR_N | own & PMCR_N);
    }
    if lacks_fixed_bits(acceptor, register.id, &Value::U64(value)) {
        return Some(value | SCR_FIXED);
    }
    match writable_bits(acceptor, Cpu::from_vcpu(destination_vcpu), register.id) {
        WritableBits::All => Some(value),
        WritableBits::Bits(bits) | WritableBits::AtLeast(bits) => Some(value & bits | own & !bits),
    }
}

/// Returns `true` if the modelled loader can be the one that listed these registers.
///
/// Under TCG the list is the program's own.
pub(crate) fn can_list(
    loader: Loader,
    is_listed: impl Fn(RegisterId) -> bool,
    has_features: bool,
) -> bool {
    let generation = if has_features {
        (Version::new(0, 0), Version::new(5, 2))
    } else if !is_listed(RegisterId::ID_AA64ISAR0_EL1) && is_listed(RegisterId::ID_AA64ISAR1_EL1) {
        // 11.0 computes it at each read.
        (Version::new(11, 0), Version::new(u16::MAX, 0))
    } else if is_listed(RegisterId::DBGDTR_EL0) && is_listed(RegisterId::ID_AA64ISAR0_EL1) {
        (Version::new(10, 0), LAST_ZEROING_VERSION)
    } else if is_listed(RegisterId::DBGDTR_EL0) {
        (Version::new(10, 0), Version::new(u16::MAX, 0))
    } else {
        (Version::new(6, 0), Version::new(9, 2))
    };
    (generation.0..=generation.1).contains(&loader.version)
}

#[cfg(test)]
mod tests;
