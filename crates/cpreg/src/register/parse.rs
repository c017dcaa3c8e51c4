//! Reading a [`RegisterId`].
//!
//! Everything that [`super::name`] prints is read, whatever the case of its letters, and besides:
//!
//! | spelling | of |
//! |---|---|
//! | `SYSREG_CNTVCT_EL0`, `SYS_…` | a system register by its encoding, whatever KVM means by it |
//! | `KVM_REG_ARM_TIMER_CTL`, `TIMER_CTL`, `STD_BMAP` | KVM's macro names, with and without `KVM_REG_ARM_` |
//! | `CORE_FPSR` | a core register |
//! | `PRRR`, `ICV_PMR_EL1`, `DBGDTRTX_EL0` | second names of one encoding |
//! | `CPUPWRCTLR_EL1` | an IMPLEMENTATION DEFINED register, if the name means but one encoding |
//! | `op0=3,op1=0,crn=2,crm=0,op2=3`, `op0:3 op1:0 …` | a system register, parts in any order |
//! | `p15,0,c0,c1,2`, `p15,0,c7` | an AArch32 register |
//! | `603000000013c103` | an id of exactly 16 digits |
//! | `system register op0:3 op1:0 crn:2 crm:0 op2:3` | as QEMU 11 prints it under KVM |
//! | `system register 0x200e3c86`, `0x1013c030` | as QEMU 11 prints it under TCG, up to 8 digits |
//! | `fw reg 0`, `fw feat reg 3`, `demuxed reg …`, `core reg …` | as QEMU 11 prints them |

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::str::FromStr;

use super::aarch32::Coprocessor;
use super::id::{DecodedId, RegisterClass, RegisterId};
use super::name::{FIRMWARE, FIRMWARE_BITMAP, Naming, SECURE, compare_names};
use super::parse_error::{LONGEST, ParseRegisterError, ParseRegisterErrorKind, nearest};
use super::tables;

impl RegisterId {
    /// Reads any of the spellings that the module lists.
    ///
    /// # Errors
    ///
    /// If the text is none of them.
    pub fn parse_in(text: &str, naming: Naming) -> Result<Self, ParseRegisterError> {
        let error = |kind| ParseRegisterError::new(text, kind);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(error(ParseRegisterErrorKind::Empty));
        }
        // No spelling is longer; what follows need not be quick for anything else.
        if trimmed.len() > LONGEST {
            return Err(error(ParseRegisterErrorKind::UnknownName));
        }
        let upper = trimmed.to_ascii_uppercase();
        if let Some(rest) = upper.strip_prefix("SYSTEM REGISTER ") {
            let rest = rest.trim();
            return match rest.strip_prefix("0X") {
                Some(digits) => parse_hexadecimal(digits)
                    .ok()
                    .filter(|id| id.qemu_key().is_some())
                    .ok_or_else(|| error(ParseRegisterErrorKind::BadHexadecimal)),
                None => parse_parts(rest).map_err(error),
            };
        }
        for prefix in ["DEMUXED REG ", "CORE REG "] {
            if let Some(digits) = upper.strip_prefix(prefix) {
                let digits = digits.trim();
                return parse_hexadecimal(digits.strip_prefix("0X").unwrap_or(digits))
                    .map_err(error);
            }
        }
        if let Some(number) = upper.strip_prefix("FW REG ") {
            return parse_number(number, "fw reg", u16::MAX)
                .map(Self::firmware)
                .map_err(error);
        }
        if let Some(number) = upper.strip_prefix("FW FEAT REG ") {
            return parse_number(number, "fw feat reg", u16::MAX)
                .map(Self::firmware_bitmap)
                .map_err(error);
        }
        if let Some(digits) = upper.strip_prefix("0X") {
            return parse_hexadecimal(digits).map_err(error);
        }
        if upper.len() == 16 && upper.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return parse_hexadecimal(&upper).map_err(error);
        }
        if upper.starts_with("OP0") || upper.contains("CRN") && upper.contains(['=', ':']) {
            return parse_parts(&upper).map_err(error);
        }
        if let Some(found) = parse_name(&upper, naming) {
            return Ok(found);
        }
        if let Some(found) = parse_generic(&upper) {
            return found.map_err(error);
        }
        if let Some(found) = parse_numbered(&upper) {
            return found.map_err(error);
        }
        parse_implementation_defined(&upper)
            .ok_or_else(|| {
                error(ParseRegisterErrorKind::UnknownName).suggesting(nearest(
                    &upper,
                    tables::IDS_BY_NAME.iter().map(|(name, _)| *name),
                ))
            })?
            .map_err(|ids| {
                error(ParseRegisterErrorKind::Ambiguous)
                    .suggesting(ids.iter().map(|id| id.display_in(naming).to_string()))
            })
    }
}

impl FromStr for RegisterId {
    type Err = ParseRegisterError;

    /// Reads any of the spellings that [`RegisterId::parse_in`] does, with KVM's meaning of names.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_in(text, Naming::Kvm)
    }
}

fn find_by_name(upper: &str) -> Option<RegisterId> {
    let table = tables::IDS_BY_NAME;
    let index = table
        .binary_search_by(|(name, _)| compare_names(name, upper))
        .ok()?;
    table.get(index).map(|(_, id)| RegisterId::from_raw(*id))
}

/// A name of the tables, with or without prefix or suffix.
fn parse_name(upper: &str, naming: Naming) -> Option<RegisterId> {
    if naming == Naming::Architectural {
        let mut exceptions = tables::ARCHITECTURAL_BY_ID.iter();
        if let Some((id, _)) = exceptions.find(|(_, name)| name.eq_ignore_ascii_case(upper)) {
            return Some(RegisterId::from_raw(*id));
        }
    }
    if let Some(id) = find_by_name(upper) {
        return Some(id);
    }
    for prefix in ["SYSREG_", "SYS_"] {
        if let Some(id) = upper
            .strip_prefix(prefix)
            .and_then(|rest| parse_name(rest, Naming::Architectural))
            .filter(|id| id.class() == RegisterClass::SystemRegister)
        {
            return Some(id);
        }
    }
    let DecodedId::Coprocessor(register) = find_by_name(upper.strip_suffix(SECURE)?)?.decode()
    else {
        return None;
    };
    Some(RegisterId::coprocessor(Coprocessor {
        secure: true,
        ..register
    }))
}

type Parsed = Result<RegisterId, ParseRegisterErrorKind>;

/// `S3_0_C2_C0_3`, `P15_0_C0_C1_2`, `P15_0_C7`, with commas as well, or nothing of the kind.
fn parse_generic(upper: &str) -> Option<Parsed> {
    let (upper, secure) = match upper.strip_suffix(SECURE) {
        Some(rest) if upper.starts_with('P') => (rest, true),
        _ => (upper, false),
    };
    let parts: Vec<&str> = upper.split(['_', ',']).map(str::trim).collect();
    let (&first, rest) = parts.split_first()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let after = |text: &str, letter| {
        text.strip_prefix(letter)
            .filter(|rest| digits(rest))
            .map(str::to_owned)
    };
    let coprocessor = |wide, crn: &str, crm: &str, opc1: &str, opc2: &str, opc1_most| {
        let coprocessor = parse_number(first.get(1..).unwrap_or_default(), "the coprocessor", 15)?;
        if coprocessor < 14 {
            return Err(ParseRegisterErrorKind::UnknownName);
        }
        Ok(RegisterId::coprocessor(Coprocessor {
            coprocessor,
            wide,
            secure,
            crn: parse_number(crn, "CRn", 15)?,
            crm: parse_number(crm, "CRm", 15)?,
            opc1: parse_number(opc1, "opc1", opc1_most)?,
            opc2: parse_number(opc2, "opc2", 7)?,
        }))
    };
    match *rest {
        [op1, crn, crm, op2] if digits(op1) && digits(op2) => {
            let (crn, crm) = (after(crn, 'C')?, after(crm, 'C')?);
            if let Some(op0) = after(first, 'S') {
                Some(system_register([&op0, op1, &crn, &crm, op2]))
            } else {
                after(first, 'P')?;
                Some(coprocessor(false, &crn, &crm, op1, op2, 7))
            }
        }
        [opc1, crm] if digits(opc1) => {
            after(first, 'P')?;
            let crm = after(crm, 'C')?;
            Some(coprocessor(true, "0", &crm, opc1, "0", 15))
        }
        _ => None,
    }
}

fn system_register([op0, op1, crn, crm, op2]: [&str; 5]) -> Parsed {
    Ok(RegisterId::sysreg(
        parse_number(op0, "op0", 3)?,
        parse_number(op1, "op1", 7)?,
        parse_number(crn, "CRn", 15)?,
        parse_number(crm, "CRm", 15)?,
        parse_number(op2, "op2", 7)?,
    ))
}

/// `op0=3,op1=0,crn=2,crm=0,op2=3`, with `:` for `=` and blanks for commas, in any order.
fn parse_parts(upper: &str) -> Parsed {
    const NAMES: [&str; 5] = ["OP0", "OP1", "CRN", "CRM", "OP2"];
    const SHOWN: [&str; 5] = ["op0", "op1", "crn", "crm", "op2"];
    let mut values = [None; 5];
    for part in upper
        .split([',', ' ', '\t'])
        .filter(|part| !part.is_empty())
    {
        let (name, value) = part
            .split_once(['=', ':'])
            .ok_or(ParseRegisterErrorKind::UnknownName)?;
        let index = NAMES.iter().position(|known| *known == name.trim());
        let slot = index.and_then(|index| values.get_mut(index));
        let slot = slot.ok_or(ParseRegisterErrorKind::UnknownName)?;
        if slot.replace(value.trim()).is_some() {
            return Err(ParseRegisterErrorKind::UnknownName);
        }
    }
    for (value, part) in values.iter().zip(SHOWN) {
        if value.is_none() {
            return Err(ParseRegisterErrorKind::Missing { part });
        }
    }
    system_register(values.map(Option::unwrap_or_default))
}

/// `CCSIDR_EL1[20]`, `Z3[1]`, `KVM_REG_ARM_FW_REG(9)`, or nothing of the kind.
fn parse_numbered(upper: &str) -> Option<Parsed> {
    for (prefix, make) in [
        (FIRMWARE, RegisterId::firmware as fn(u16) -> RegisterId),
        (FIRMWARE_BITMAP, RegisterId::firmware_bitmap),
    ] {
        if let Some(number) = upper
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(')'))
        {
            return Some(parse_number(number, "the number", u16::MAX).map(make));
        }
    }
    let (name, index) = upper.strip_suffix(']')?.split_once('[')?;
    if name == "CCSIDR_EL1" {
        return Some(parse_number(index, "the selector", u8::MAX).map(RegisterId::ccsidr));
    }
    let register = find_by_name(name)?.decode();
    if !matches!(
        register,
        DecodedId::SveZ { .. } | DecodedId::SveP { .. } | DecodedId::SveFfr { .. }
    ) {
        return None;
    }
    Some(
        parse_number(index, "the slice", 31).map(|slice| match register {
            DecodedId::SveZ { register, .. } => RegisterId::sve_z(register, slice),
            DecodedId::SveP { register, .. } => RegisterId::sve_p(register, slice),
            _ => RegisterId::sve_ffr(slice),
        }),
    )
}

/// A name of the IMPLEMENTATION DEFINED table; all encodings if there are several.
fn parse_implementation_defined(upper: &str) -> Option<Result<RegisterId, Vec<RegisterId>>> {
    let found: Vec<RegisterId> = tables::IMPLEMENTATION_DEFINED
        .iter()
        .filter(|(_, known, _)| known.eq_ignore_ascii_case(upper))
        .map(|(id, _, _)| RegisterId::from_raw(*id))
        .collect();
    match *found.as_slice() {
        [] => None,
        [id] => Some(Ok(id)),
        _ => Some(Err(found)),
    }
}

fn parse_number<N>(text: &str, part: &'static str, most: N) -> Result<N, ParseRegisterErrorKind>
where
    N: FromStr + PartialOrd + Into<u32> + Copy,
{
    let text = text.trim();
    if text.is_empty() {
        return Err(ParseRegisterErrorKind::Missing { part });
    }
    // `FromStr` would take a sign.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|value| *value <= most)
        .ok_or(ParseRegisterErrorKind::OutOfRange {
            part,
            most: most.into(),
        })
}

fn parse_hexadecimal(digits: &str) -> Parsed {
    let valid =
        (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !valid {
        return Err(ParseRegisterErrorKind::BadHexadecimal);
    }
    let number = u64::from_str_radix(digits, 16);
    let number = number.map_err(|_| ParseRegisterErrorKind::BadHexadecimal)?;
    // An id is printed with 16 digits, so few of them can be taken for what QEMU prints.
    Ok(u32::try_from(number)
        .ok()
        .filter(|_| digits.len() <= 8)
        .and_then(RegisterId::from_qemu_key)
        .unwrap_or(RegisterId::from_raw(number)))
}

#[cfg(test)]
mod tests {
    use super::super::known::KNOWN;
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn parse(text: &str) -> RegisterId {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn fail(text: &str) -> ParseRegisterError {
        text.parse::<RegisterId>().expect_err(text)
    }

    #[test]
    fn every_name_in_the_tables_is_printed_and_read() {
        for naming in [Naming::Kvm, Naming::Architectural] {
            for (id, _) in tables::NAMES_BY_ID {
                let id = RegisterId::from_raw(*id);
                let name = id.name_in(naming).expect("it is in the table");
                assert_eq!(RegisterId::parse_in(name, naming), Ok(id), "{name}");
                assert_eq!(id.display_in(naming).to_string(), name);
            }
        }
        for (name, id) in tables::IDS_BY_NAME {
            assert_eq!(parse(name).raw(), *id, "{name}");
        }
        // 1153 encodings of sysregs.tsv and then some.
        assert!(tables::NAMES_BY_ID.len() > 1500);
    }

    #[test]
    fn constants_are_what_they_are_called() {
        for (constant, id) in KNOWN {
            let name = constant.strip_prefix("AARCH32_").unwrap_or(constant);
            assert_eq!(parse(name), *id, "{constant}");
        }
    }

    #[test]
    fn every_spelling_of_tcr2() {
        for text in [
            "TCR2_EL1",
            "tcr2_el1",
            " TCR2_EL1 ",
            "SYSREG_TCR2_EL1",
            "SYS_TCR2_EL1",
            "S3_0_C2_C0_3",
            "s3_0_c2_c0_3",
            "op0=3,op1=0,crn=2,crm=0,op2=3",
            "op0=3, op1=0, crn=2, crm=0, op2=3",
            "op0:3 op1:0 crn:2 crm:0 op2:3",
            "crn=2,crm=0,op0=3,op1=0,op2=3",
            "system register op0:3 op1:0 crn:2 crm:0 op2:3",
            "system register 0x1013c103",
            "0x1013c103",
            "0x603000000013c103",
            "0X603000000013C103",
            "603000000013c103",
        ] {
            assert_eq!(parse(text), RegisterId::TCR2_EL1, "{text}");
        }
        assert_eq!(RegisterId::TCR2_EL1.to_string(), "TCR2_EL1");
    }

    #[test]
    fn spellings_of_other_classes() {
        for (text, raw, printed) in [
            ("psci_version", 0x6030_0000_0014_0000, "PSCI_VERSION"),
            (
                "KVM_REG_ARM_PSCI_VERSION",
                0x6030_0000_0014_0000,
                "PSCI_VERSION",
            ),
            ("fw reg 0", 0x6030_0000_0014_0000, "PSCI_VERSION"),
            (
                "SMCCC_ARCH_WORKAROUND_2",
                0x6030_0000_0014_0002,
                "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
            ),
            (
                "fw feat reg 3",
                0x6030_0000_0016_0003,
                "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
            ),
            (
                "VENDOR_HYP_BMAP_2",
                0x6030_0000_0016_0003,
                "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
            ),
            (
                "0x6030000000140009",
                0x6030_0000_0014_0009,
                "KVM_REG_ARM_FW_REG(9)",
            ),
            (
                "demuxed reg 6020000000110002",
                0x6020_0000_0011_0002,
                "CCSIDR_EL1[2]",
            ),
            ("ccsidr_el1[200]", 0x6020_0000_0011_00c8, "CCSIDR_EL1[200]"),
            ("CCSIDR_EL1", 0x6030_0000_0013_c800, "CCSIDR_EL1"),
            ("x30", 0x6030_0000_0010_003c, "X30"),
            ("PC", 0x6030_0000_0010_0040, "PC"),
            ("SP_EL0", 0x6030_0000_0010_003e, "SP_EL0"),
            ("SYSREG_SP_EL0", 0x6030_0000_0013_c208, "SYSREG_SP_EL0"),
            ("V31", 0x6040_0000_0010_00d0, "V31"),
            ("FPSR", 0x6020_0000_0010_00d4, "FPSR"),
            ("Z31", 0x6080_0000_0015_03e0, "Z31"),
            ("Z31[1]", 0x6080_0000_0015_03e1, "Z31[1]"),
            ("P15[0]", 0x6050_0000_0015_05e0, "P15"),
            ("FFR", 0x6050_0000_0015_0600, "FFR"),
            ("SVE_VLS", 0x6060_0000_0015_ffff, "KVM_REG_ARM64_SVE_VLS"),
            ("ID_DFR0", 0x4020_0000_200f_0082, "ID_DFR0"),
            ("p15,0,c0,c1,2", 0x4020_0000_200f_0082, "ID_DFR0"),
            ("DBGDTRTX", 0x4020_0000_200e_0298, "DBGDTRTX"),
            ("CONTEXTIDR_S", 0x4020_0000_000f_6801, "CONTEXTIDR_S"),
            ("P15_0_C0_C3_0", 0x4020_0000_200f_0180, "P15_0_C0_C3_0"),
            ("p15,0,c15", 0x4030_0000_200f_0780, "P15_0_C15"),
            ("PRRR", 0x4020_0000_200f_5100, "MAIR0"),
            ("L2CTLR_EL1", 0x6030_0000_0013_cd82, "S3_1_C11_C0_2"),
            ("0x0", 0, "0x0000000000000000"),
            // What kernels before v5.2 listed: an offset in the middle of X0.
            (
                "0x6030000000100001",
                0x6030_0000_0010_0001,
                "0x6030000000100001",
            ),
        ] {
            assert_eq!(parse(text).raw(), raw, "{text}");
            assert_eq!(parse(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn the_swapped_timers() {
        let (df1a, df02) = (RegisterId::TIMER_CNT, RegisterId::TIMER_CVAL);
        for (text, kvm, architectural) in [
            ("CNTVCT_EL0", df1a, df02),
            ("CNTV_CVAL_EL0", df02, df1a),
            ("KVM_REG_ARM_TIMER_CNT", df1a, df1a),
            ("TIMER_CVAL", df02, df02),
            // An encoding is an encoding.
            ("S3_3_C14_C3_2", df1a, df1a),
            ("SYSREG_CNTVCT_EL0", df02, df02),
            (
                "KVM_REG_ARM_TIMER_CTL",
                RegisterId::TIMER_CTL,
                RegisterId::TIMER_CTL,
            ),
            ("PTIMER_CNT", RegisterId::PTIMER_CNT, RegisterId::PTIMER_CNT),
        ] {
            assert_eq!(RegisterId::parse_in(text, Naming::Kvm), Ok(kvm), "{text}");
            let parsed = RegisterId::parse_in(text, Naming::Architectural);
            assert_eq!(parsed, Ok(architectural), "{text}");
        }
        assert_eq!(df1a.to_string(), "KVM_REG_ARM_TIMER_CNT");
        assert_eq!(df02.to_string(), "KVM_REG_ARM_TIMER_CVAL");
        assert_eq!(
            df1a.display_in(Naming::Architectural).to_string(),
            "CNTV_CVAL_EL0"
        );
        assert_eq!(
            df02.display_in(Naming::Architectural).to_string(),
            "CNTVCT_EL0"
        );
        assert_eq!(RegisterId::PTIMER_CTL.to_string(), "CNTP_CTL_EL0");
        assert!(df1a.is_counter(Naming::Kvm) && !df1a.is_counter(Naming::Architectural));
        assert!(df02.is_counter(Naming::Architectural) && !df02.is_counter(Naming::Kvm));
        assert!(RegisterId::PTIMER_CNT.is_counter(Naming::Kvm));
        assert!(!RegisterId::PTIMER_CVAL.is_counter(Naming::Kvm));
    }

    #[test]
    fn core_and_system_registers_of_one_name() {
        let system = RegisterId::sysreg(3, 3, 4, 4, 1);
        let core = RegisterId::CORE_FPSR;
        assert_eq!(parse("FPSR"), core);
        assert_eq!(parse("CORE_FPSR"), core);
        assert_eq!(system.to_string(), "SYSREG_FPSR");
        assert_eq!(
            RegisterId::parse_in("FPSR", Naming::Architectural),
            Ok(system)
        );
        assert_eq!(
            core.display_in(Naming::Architectural).to_string(),
            "CORE_FPSR"
        );
    }

    #[test]
    fn implementation_defined_names_may_be_ambiguous() {
        let error = fail("CPUECTLR_EL1");
        assert_eq!(error.kind(), ParseRegisterErrorKind::Ambiguous);
        assert_eq!(error.suggestions(), ["S3_0_C15_C1_4", "S3_1_C15_C2_1"]);
        let names: Vec<_> = parse("S3_0_C15_C1_4")
            .implementation_defined_names()
            .collect();
        assert_eq!(names, [("CPUECTLR_EL1", "neoverse-n1,neoverse-v1")]);
    }

    #[test]
    fn errors_say_what_was_not_understood() {
        for (text, message) in [
            ("", "no register is named"),
            ("TCR3_EL1", "no register is called `TCR3_EL1`"),
            (
                "S3_8_C2_C0_3",
                "`S3_8_C2_C0_3`: op1 must be a number up to 7",
            ),
            (
                "S3_0_C16_C0_3",
                "`S3_0_C16_C0_3`: CRn must be a number up to 15",
            ),
            (
                "op0=3,op1=0,crn=2,crm=0",
                "`op0=3,op1=0,crn=2,crm=0`: op2 is missing",
            ),
            (
                "op0=3,op1=0,crn=,crm=0,op2=1",
                "`op0=3,op1=0,crn=,crm=0,op2=1`: CRn is missing",
            ),
            ("0x", "`0x` is no register id in hexadecimal"),
            (
                "0x1603000000013c103",
                "`0x1603000000013c103` is no register id in hexadecimal",
            ),
            ("0x+1", "`0x+1` is no register id in hexadecimal"),
            (
                "system register 0x1014c103",
                "`system register 0x1014c103` is no register id in hexadecimal",
            ),
            (
                "fw reg 65536",
                "`fw reg 65536`: fw reg must be a number up to 65535",
            ),
            (
                "CCSIDR_EL1[256]",
                "`CCSIDR_EL1[256]`: the selector must be a number up to 255",
            ),
            ("Z0[32]", "`Z0[32]`: the slice must be a number up to 31"),
            (
                "CPUECTLR_EL1",
                "`CPUECTLR_EL1` is a different register on different CPUs",
            ),
            ("P13_0_C0_C0_0", "no register is called `P13_0_C0_C0_0`"),
        ] {
            assert_eq!(fail(text).to_string(), message);
        }
        let long = "A".repeat(1 << 20);
        assert!(fail(&long).to_string().len() < 200);
        for text in [
            "TCR2_EL1_S",
            "X31",
            "V32",
            "P16",
            "S3_0_C2_C0",
            "op0=3,op0=3",
            "SYS_X0",
        ] {
            fail(text);
        }
    }

    /// Ids as streams hold them: any low bits of each class, and anything at all.
    fn any_id() -> impl Strategy<Value = u64> {
        let head = prop_oneof![
            Just(0x6030_0000_0010_0000_u64),
            Just(0x6020_0000_0010_0000),
            Just(0x6040_0000_0010_0000),
            Just(0x6020_0000_0011_0000),
            Just(0x6030_0000_0013_0000),
            Just(0x6030_0000_0014_0000),
            Just(0x6080_0000_0015_0000),
            Just(0x6050_0000_0015_0000),
            Just(0x6060_0000_0015_0000),
            Just(0x6030_0000_0016_0000),
            Just(0x4020_0000_200f_0000),
            Just(0x4020_0000_000f_0000),
            Just(0x4030_0000_200f_0000),
            Just(0x4030_0000_000e_0000),
        ];
        prop_oneof![
            (head, any::<u16>()).prop_map(|(head, low)| head | u64::from(low)),
            any::<u64>(),
            any::<u32>().prop_map(u64::from),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_printed_reads_as_the_same_id(raw in any_id()) {
            let id = RegisterId::from_raw(raw);
            for naming in [Naming::Kvm, Naming::Architectural] {
                let text = id.display_in(naming).to_string();
                prop_assert_eq!(RegisterId::parse_in(&text, naming), Ok(id), "{}", text);
                let lower = text.to_lowercase();
                prop_assert_eq!(RegisterId::parse_in(&lower, naming), Ok(id), "{}", lower);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_register_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<RegisterId>();
        }

        #[test]
        fn almost_a_register_is_a_register_or_an_error(
            text in "(SYSREG_|KVM_REG_ARM_|system register |fw reg |0x|op0=|S|p15,)?[0-9A-Fc,=:_\\[\\]() ]{0,24}"
        ) {
            if let Ok(id) = text.parse::<RegisterId>() {
                prop_assert_eq!(id.to_string().parse::<RegisterId>(), Ok(id));
            }
        }
    }
}
