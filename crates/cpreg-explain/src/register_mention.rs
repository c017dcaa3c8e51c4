//! Register ids in the lines of any program: strace, gem5, crosvm, kvmtool, KVM's self-tests,
//! traces and debug prints.
//!
//! | form | example |
//! |---|---|
//! | hexadecimal id | `0x603000000013c510`, `603000000013c510` |
//! | decimal id of a register with a name | `6931039826524241168` |
//! | bytes of an id | `\x10\xc5\x13\x00\x00\x00\x30\x60`, `10c5 1300 0000 3060` |
//! | encoding | `Op0: 3, Op1: 0, CRn: 10, CRm: 2, Op2: 0`, `Op0( 3), …`, `op0:3 op1:0 …` |
//! | macro of the self-tests | `ARM64_SYS_REG(3, 0, 10, 2, 0)` |
//!
//! 16 digits that begin with an architecture, a size and zeros are no address and no time, so the
//! form alone is enough. Other forms need the name of the register or the words around it.

use alloc::vec::Vec;

use cpreg::errno::Errno;
use cpreg::register::{DecodedId, Naming, RegisterId};

use crate::message::{Emitter, NamedRegister, Statement, Symptom};
use crate::pattern::{Cursor, PrefixIndex};
use cpreg::destination::VersionRange;

/// Maximum number of registers that one line mentions.
const MAX_MENTIONS: usize = 16;
/// Number of hexadecimal digits of an id.
const ID_DIGITS: usize = 16;
/// Number of decimal digits of an id.
const DECIMAL_DIGITS: usize = 19;

/// First words of all forms.
pub(crate) const WORDS: &[&str] = &[
    "0x60",
    "0X60",
    "0x40",
    "6020",
    "6030",
    "6040",
    "6050",
    "6060",
    "6080",
    "4020",
    "4030",
    // Decimal ids of these architectures and sizes.
    "6926",
    "6931",
    "6935",
    "6940",
    "6944",
    "6953",
    "4620",
    "4625",
    // Bytes of an id with 64 or 32 bits, at its end.
    "\\x60",
    "3060",
    "2060",
    " 60 ",
    "Op0:",
    "Op0(",
    "Op0 ",
    "op0:",
    "op0=",
    "op0 ",
    "ARM64_SYS_REG(",
];

/// Parses the registers in a line, each with its byte offset.
pub(crate) fn parse(line: &str) -> Vec<(usize, Statement)> {
    static INDEX: PrefixIndex = {
        let mut index = PrefixIndex::new();
        index.add_words(WORDS);
        index
    };
    if !INDEX.may_occur(line.as_bytes()) {
        return Vec::new();
    }
    let mut found: Vec<(usize, RegisterId, usize)> = find_numbers(line);
    found.extend(find_bytes(line));
    found.extend(find_encodings(line));
    found.sort_by_key(|(at, ..)| *at);
    let mut statements: Vec<(usize, Statement)> = Vec::new();
    for (at, id, end) in found {
        let after = line.get(end..).unwrap_or("");
        let text = line.get(at..end).unwrap_or("");
        let register = NamedRegister::from_id(id, text);
        let is_new = statements
            .iter()
            .all(|(_, it)| it.symptom.register().and_then(|it| it.id) != Some(id));
        if !is_new || statements.len() >= MAX_MENTIONS {
            continue;
        }
        let statement = Statement {
            symptom: Symptom::RegisterMention {
                register,
                value: parse_value(after),
                error: parse_error(after),
            },
            emitter: program(line),
            versions: VersionRange::ANY,
        };
        statements.push((at, statement));
    }
    statements
}

/// Returns the program that printed the line.
fn program(line: &str) -> Emitter {
    const PROGRAMS: [(&str, Emitter); 10] = [
        ("qemu-system-", Emitter::QEMU),
        ("qemu-kvm", Emitter::QEMU),
        ("crosvm", Emitter::CROSVM),
        ("AArch64SysRegId", Emitter::CROSVM),
        ("lkvm", Emitter::KVMTOOL),
        ("kvmtool", Emitter::KVMTOOL),
        ("panic: KVM", Emitter::GEM5),
        ("gem5", Emitter::GEM5),
        ("warn: KVM", Emitter::GEM5),
        ("ioctl(", Emitter::STRACE),
    ];
    PROGRAMS
        .into_iter()
        .find_map(|(word, emitter)| line.contains(word).then_some(emitter))
        .unwrap_or(Emitter::UNNAMED)
}

/// Finds hexadecimal and decimal ids. Returns their start, id and end.
fn find_numbers(line: &str) -> Vec<(usize, RegisterId, usize)> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() && found.len() < MAX_MENTIONS {
        if !bytes[at].is_ascii_hexdigit() {
            at += 1;
            continue;
        }
        let length = bytes[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        let end = at + length;
        let follows_word = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        let has_prefix = at > 0 && matches!(bytes[at - 1], b'x' | b'X');
        let precedes_word = bytes.get(end).is_some_and(u8::is_ascii_alphabetic);
        if !precedes_word && (!follows_word || has_prefix) {
            let digits = &line[at..end];
            let id = match length {
                ID_DIGITS => parse_hex_id(digits),
                DECIMAL_DIGITS if !has_prefix => parse_decimal_id(digits),
                _ => None,
            };
            if let Some(id) = id {
                let start = if has_prefix { at - 2 } else { at };
                found.push((start, id, end));
            }
        }
        at = end;
    }
    found
}

fn parse_hex_id(digits: &str) -> Option<RegisterId> {
    let raw = u64::from_str_radix(digits, 16).ok()?;
    let id = RegisterId::from_raw(raw);
    match id.decode() {
        DecodedId::Unknown => None,
        // The ids of AArch32 registers have a form that other numbers share.
        DecodedId::Coprocessor(_) => id.name().map(|_| id),
        _ => Some(id),
    }
}

fn parse_decimal_id(digits: &str) -> Option<RegisterId> {
    let id = RegisterId::from_raw(digits.parse().ok()?);
    let has_name = id.name_in(Naming::Kvm).is_some() && id.decode() != DecodedId::Unknown;
    has_name.then_some(id)
}

/// Finds the eight bytes of an id, least significant first, as strace -x or a hexadecimal dump
/// prints them.
fn find_bytes(line: &str) -> Vec<(usize, RegisterId, usize)> {
    const BYTES: usize = 8;
    let mut found = Vec::new();
    let mut bytes: Vec<(usize, u8, usize)> = Vec::new();
    let text = line.as_bytes();
    let mut at = 0;
    while at + 1 < text.len() && found.len() < MAX_MENTIONS {
        let start = if text[at..].starts_with(b"\\x") {
            at + 2
        } else {
            at
        };
        let pair = line.get(start..start + 2);
        let is_pair = pair.is_some_and(|pair| pair.bytes().all(|it| it.is_ascii_hexdigit()));
        if !is_pair {
            // A blank separates groups; any other character ends the dump.
            if text[at] != b' ' {
                bytes.clear();
            }
            at += 1;
            continue;
        }
        let value = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push((at, value.unwrap_or(0), start + 2));
        at = start + 2;
        if let Some(last) = bytes.last_chunk::<BYTES>() {
            let raw = u64::from_le_bytes(last.map(|(_, value, _)| value));
            let id = RegisterId::from_raw(raw);
            if id.name_in(Naming::Kvm).is_some() && id.decode() != DecodedId::Unknown {
                found.push((last[0].0, id, last[BYTES - 1].2));
                bytes.clear();
            }
        }
    }
    found
}

/// Finds encodings: `Op0: 3, Op1: 0, …` and `ARM64_SYS_REG(3, 0, 10, 2, 0)`.
fn find_encodings(line: &str) -> Vec<(usize, RegisterId, usize)> {
    const STARTS: [&str; 3] = ["Op0", "op0", "ARM64_SYS_REG("];
    let mut found = Vec::new();
    for start in STARTS {
        for (at, _) in line.match_indices(start).take(MAX_MENTIONS) {
            let mut rest = Cursor(&line[at + start.len()..]);
            let id = if start == "ARM64_SYS_REG(" {
                parse_arguments(&mut rest)
            } else {
                parse_encoding(&mut rest)
            };
            if let Some(id) = id {
                found.push((at, id, line.len() - rest.0.len()));
            }
        }
    }
    found
}

/// Parses the five numbers after `Op0`, each after the name of its part.
pub(crate) fn parse_encoding(rest: &mut Cursor<'_>) -> Option<RegisterId> {
    let mut numbers = [0; 5];
    for (number, name) in numbers.iter_mut().zip(["", "op1", "crn", "crm", "op2"]) {
        skip_separators(rest);
        let head = rest.0.get(..name.len())?;
        if !head.eq_ignore_ascii_case(name) {
            return None;
        }
        rest.0 = &rest.0[name.len()..];
        skip_separators(rest);
        *number = u8::try_from(rest.parse_u32()?).ok()?;
    }
    encoding(numbers)
}

fn parse_arguments(rest: &mut Cursor<'_>) -> Option<RegisterId> {
    let mut numbers = [0; 5];
    for number in &mut numbers {
        skip_separators(rest);
        *number = u8::try_from(rest.parse_u32()?).ok()?;
    }
    encoding(numbers)
}

fn skip_separators(rest: &mut Cursor<'_>) {
    rest.0 = rest.0.trim_start_matches([' ', ',', ':', '=', '(', ')']);
}

fn encoding([op0, op1, crn, crm, op2]: [u8; 5]) -> Option<RegisterId> {
    let is_valid = op0 < 4 && op1 < 8 && crn < 16 && crm < 16 && op2 < 8;
    is_valid.then(|| RegisterId::sysreg(op0, op1, crn, crm, op2))
}

/// Parses the value after an id: `(0x11)`, `to value 0x11`, `value: 0x11`, `= 0x11`, `to 11`.
fn parse_value(after: &str) -> Option<u64> {
    const WORDS: [&str; 10] = [
        "(0x",
        "value 0x",
        "value: 0x",
        "value=0x",
        "val 0x",
        "val: 0x",
        "val=0x",
        "data=0x",
        "= 0x",
        "to 0x",
    ];
    const MAX_DISTANCE: usize = 32;
    let near = crate::pattern::truncate(after, MAX_DISTANCE);
    let (at, word) = WORDS
        .into_iter()
        .filter_map(|word| near.find(word).map(|at| (at, word)))
        .min()?;
    Cursor(&after[at + word.len()..]).parse_hex()
}

/// Parses the error after an id: `errno: 22`, `-1 ENOENT`, `os error 22`, `Invalid argument`.
fn parse_error(after: &str) -> Option<Errno> {
    const NUMBERS: [&str; 8] = [
        "errno: ",
        "errno:",
        "errno = ",
        "errno=",
        "errno ",
        "os error ",
        "ret=-",
        "ret = -",
    ];
    const NAMES: [(&str, Errno); 6] = [
        ("ENOENT", Errno::ENOENT),
        ("EINVAL", Errno::EINVAL),
        ("EBUSY", Errno::EBUSY),
        ("EPERM", Errno::EPERM),
        ("ENOEXEC", Errno::ENOEXEC),
        ("E2BIG", Errno::E2BIG),
    ];
    let line = Cursor(after).rest_of_line();
    let number = NUMBERS.into_iter().find_map(|word| {
        let (_, rest) = line.split_once(word)?;
        u16::try_from(Cursor(rest).parse_u32()?).ok().map(Errno)
    });
    let name = || {
        NAMES
            .into_iter()
            .find_map(|(name, errno)| line.contains(name).then_some(errno))
    };
    let message = || {
        line.match_indices(": ")
            .find_map(|(at, _)| Errno::parse_prefix(&line[at + 2..]).map(|(errno, _)| errno))
    };
    number.or_else(name).or_else(message)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use core::fmt::Write as _;

    use super::*;

    fn mentions(line: &str) -> Vec<(RegisterId, Option<u64>, Option<u16>)> {
        let statements = parse(line).into_iter();
        statements
            .map(|(_, it)| match it.symptom {
                Symptom::RegisterMention {
                    register,
                    value,
                    error,
                } => (register.id.expect("an id"), value, error.map(|it| it.0)),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn every_form_is_parsed() {
        let vbar = RegisterId::VBAR_EL1;
        let raw = vbar.raw();
        let bytes = raw.to_le_bytes();
        let mut escaped = String::new();
        let mut dump = String::new();
        let mut separate = String::new();
        for byte in bytes {
            let _ = write!(escaped, "\\x{byte:02x}");
            let _ = write!(separate, "{byte:02x} ");
        }
        for pair in bytes.chunks(2) {
            let _ = write!(dump, "{:02x}{:02x} ", pair[0], pair[1]);
        }
        for (line, value, error) in [
            (
                alloc::format!("set {raw:#x} value 0x12 (errno: 22)"),
                Some(0x12),
                Some(22),
            ),
            (alloc::format!("set {raw:x}(0x7) failed"), Some(7), None),
            (
                alloc::format!("reg id {raw}: Invalid argument (os error 22)"),
                None,
                Some(22),
            ),
            (
                alloc::format!("ioctl(3, X, {{id={raw:#x}, addr=0xfff0}}) = -1 ENOENT (No)"),
                None,
                Some(2),
            ),
            (
                alloc::format!("ioctl(3, X, \"{escaped}\\x00\\x01\") = -1 EBUSY"),
                None,
                Some(16),
            ),
            (alloc::format!("0000: {dump} 0000"), None, None),
            (alloc::format!("0000:  {separate}"), None, None),
            (
                "AArch64SysRegId { Op0: 3, Op1: 0, CRn: 12, CRm: 0, Op2: 0 }".into(),
                None,
                None,
            ),
            ("op0=3 op1=0 crn=12 crm=0 op2=0 = 0x5".into(), Some(5), None),
            ("ARM64_SYS_REG(3, 0, 12, 0, 0),".into(), None, None),
        ] {
            assert_eq!(mentions(&line), [(vbar, value, error)], "{line}");
        }
    }

    #[test]
    fn other_numbers_are_no_registers() {
        for line in [
            "0xffff603000000013c510 0x603000000013c5100",
            "at 6030000000130000000 and 4020000000000000",
            "uuid 60300000-0013-c510-8000-000000000000",
            "1764349201000000000 6931039826523193344",
            "x603000000013c510y",
            "Op0: 9, Op1: 0, CRn: 12, CRm: 0, Op2: 0",
            "30 60 00 00 00 00 00 00 00",
        ] {
            assert_eq!(mentions(line), [], "{line}");
        }
    }

    #[test]
    fn repeated_registers_are_mentioned_once() {
        let line = "0x603000000013c600 0x603000000013c600 ".repeat(100);
        assert_eq!(mentions(&line).len(), 1);
    }
}
