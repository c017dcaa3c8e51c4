//! Parsing of a [`RegisterId`].
//!
//! The parser accepts every spelling that [`super::name`] prints, in upper or lower case, and also:
//!
//! | spelling | register |
//! |---|---|
//! | `SYSREG_CNTVCT_EL0`, `SYS_…` | a system register by its encoding, not by KVM's use of the id |
//! | `KVM_REG_ARM_TIMER_CTL`, `STD_BMAP` | KVM's macro names, with or without `KVM_REG_ARM_` |
//! | `CORE_FPSR` | a core register |
//! | `PRRR`, `ICV_PMR_EL1`, `DBGDTRTX_EL0` | second names of one encoding |
//! | `CPUPWRCTLR_EL1` | an IMPLEMENTATION DEFINED register, if the name has only one encoding |
//! | `op0=3,op1=0,crn=2,crm=0,op2=3`, `op0:3 op1:0 …` | a system register, parts in any order |
//! | `p15,0,c0,c1,2`, `p15,0,c7` | an AArch32 register |
//! | `603000000013c103` | an id of exactly 16 digits |
//! | `system register op0:3 op1:0 crn:2 crm:0 op2:3` | QEMU 11's spelling under KVM |
//! | `system register 0x200e3c86`, `0x1013c030` | QEMU 11's spelling under TCG, up to 8 digits |
//! | `fw reg 0`, `fw feat reg 3`, `demuxed reg …`, `core reg …` | QEMU 11's other spellings |

use alloc::borrow::ToOwned;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::str::FromStr;

use crate::error::{Error, ErrorKind, MAX_TEXT_LEN};
use crate::register::coprocessor::CoprocessorRegister;
use crate::register::id::{DecodedId, RegisterClass, RegisterId};
use crate::register::name::{FIRMWARE, FIRMWARE_BITMAP, Naming, SECURE, compare_names};
use crate::register::suggestion::suggest;
use crate::register::tables;

impl RegisterId {
    /// Parses any of the spellings that the module lists.
    ///
    /// # Errors
    ///
    /// Returns an error if the text has none of these spellings.
    pub fn parse_in(text: &str, naming: Naming) -> Result<Self, Error> {
        let error = |kind| Error::new(text, kind);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(error(ErrorKind::Empty));
        }
        // No spelling is longer, and the rest of this function is slow for long texts.
        if trimmed.len() > MAX_TEXT_LEN {
            return Err(error(ErrorKind::UnknownName));
        }
        let upper = trimmed.to_ascii_uppercase();
        if let Some(rest) = upper.strip_prefix("SYSTEM REGISTER ") {
            let rest = rest.trim();
            return match rest.strip_prefix("0X") {
                Some(digits) => parse_hexadecimal(digits)
                    .ok()
                    .filter(|id| id.qemu_key().is_some())
                    .ok_or_else(|| error(ErrorKind::BadHexadecimal)),
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
        if let Some(parsed) = parse_name(&upper, naming) {
            return Ok(parsed);
        }
        if let Some(parsed) = parse_generic(&upper) {
            return parsed.map_err(error);
        }
        if let Some(parsed) = parse_numbered(&upper) {
            return parsed.map_err(error);
        }
        parse_implementation_defined(&upper)
            .ok_or_else(|| {
                error(ErrorKind::UnknownName).with_suggestions(suggest(
                    &upper,
                    tables::IDS_BY_NAME.iter().map(|(name, _)| *name),
                ))
            })?
            .map_err(|ids| {
                error(ErrorKind::Ambiguous)
                    .with_suggestions(ids.iter().map(|id| id.display_in(naming).to_string()))
            })
    }
}

impl FromStr for RegisterId {
    type Err = Error;

    /// Parses any of the spellings of [`RegisterId::parse_in`], with KVM's meaning of names.
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

/// Parses a name of the tables, with or without a prefix or suffix.
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
    Some(RegisterId::coprocessor(CoprocessorRegister {
        secure: true,
        ..register
    }))
}

type Parsed = Result<RegisterId, ErrorKind>;

/// Parses `S3_0_C2_C0_3`, `P15_0_C0_C1_2` or `P15_0_C7`, also with commas.
///
/// Returns `None` for any other form.
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
    let coprocessor = |wide, crn: &str, crm: &str, opc1: &str, opc2: &str, max_opc1| {
        let coprocessor = parse_number(first.get(1..).unwrap_or_default(), "the coprocessor", 15)?;
        if coprocessor < 14 {
            return Err(ErrorKind::UnknownName);
        }
        Ok(RegisterId::coprocessor(CoprocessorRegister {
            coprocessor,
            wide,
            secure,
            crn: parse_number(crn, "CRn", 15)?,
            crm: parse_number(crm, "CRm", 15)?,
            opc1: parse_number(opc1, "opc1", max_opc1)?,
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

/// Parses `op0=3,op1=0,crn=2,crm=0,op2=3` in any order, also with `:` for `=` and blanks for
/// commas.
fn parse_parts(upper: &str) -> Parsed {
    const NAMES: [&str; 5] = ["OP0", "OP1", "CRN", "CRM", "OP2"];
    const DISPLAY_NAMES: [&str; 5] = ["op0", "op1", "crn", "crm", "op2"];
    let mut values = [None; 5];
    for part in upper
        .split([',', ' ', '\t'])
        .filter(|part| !part.is_empty())
    {
        let (name, value) = part.split_once(['=', ':']).ok_or(ErrorKind::UnknownName)?;
        let index = NAMES.iter().position(|known| *known == name.trim());
        let slot = index.and_then(|index| values.get_mut(index));
        let slot = slot.ok_or(ErrorKind::UnknownName)?;
        if slot.replace(value.trim()).is_some() {
            return Err(ErrorKind::UnknownName);
        }
    }
    for (value, part) in values.iter().zip(DISPLAY_NAMES) {
        if value.is_none() {
            return Err(ErrorKind::Missing { part });
        }
    }
    system_register(values.map(Option::unwrap_or_default))
}

/// Parses `CCSIDR_EL1[20]`, `Z3[1]` or `KVM_REG_ARM_FW_REG(9)`.
///
/// Returns `None` for any other form.
fn parse_numbered(upper: &str) -> Option<Parsed> {
    for (prefix, from_number) in [
        (FIRMWARE, RegisterId::firmware as fn(u16) -> RegisterId),
        (FIRMWARE_BITMAP, RegisterId::firmware_bitmap),
    ] {
        if let Some(number) = upper
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(')'))
        {
            return Some(parse_number(number, "the number", u16::MAX).map(from_number));
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

/// Parses a name of the IMPLEMENTATION DEFINED table. Returns an error with all encodings if the
/// name has several.
fn parse_implementation_defined(upper: &str) -> Option<Result<RegisterId, Vec<RegisterId>>> {
    let parsed: Vec<RegisterId> = tables::IMPLEMENTATION_DEFINED
        .iter()
        .filter(|(_, name, _)| name.eq_ignore_ascii_case(upper))
        .map(|(id, _, _)| RegisterId::from_raw(*id))
        .collect();
    match *parsed.as_slice() {
        [] => None,
        [id] => Some(Ok(id)),
        _ => Some(Err(parsed)),
    }
}

fn parse_number<N>(text: &str, part: &'static str, max: N) -> Result<N, ErrorKind>
where
    N: FromStr + PartialOrd + Into<u32> + Copy,
{
    let text = text.trim();
    if text.is_empty() {
        return Err(ErrorKind::Missing { part });
    }
    // `FromStr` would accept a sign.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .filter(|value| *value <= max)
        .ok_or(ErrorKind::OutOfRange {
            part,
            max: max.into(),
        })
}

fn parse_hexadecimal(digits: &str) -> Parsed {
    let valid =
        (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !valid {
        return Err(ErrorKind::BadHexadecimal);
    }
    let number = u64::from_str_radix(digits, 16);
    let number = number.map_err(|_| ErrorKind::BadHexadecimal)?;
    // An id is printed with 16 digits, so a text of up to 8 digits is one of QEMU's keys.
    Ok(u32::try_from(number)
        .ok()
        .filter(|_| digits.len() <= 8)
        .and_then(RegisterId::from_qemu_key)
        .unwrap_or(RegisterId::from_raw(number)))
}

#[cfg(test)]
mod tests;
