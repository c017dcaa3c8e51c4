//! Positions of fields and values of enumerations, from `arch/arm64/tools/sysreg`.

use std::collections::BTreeMap;

/// Encodings of system registers, and positions and values of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sysregs {
    /// op0, op1, CRn, CRm, op2 by name.
    pub(super) encodings: BTreeMap<String, [u8; 5]>,
    /// Lowest bit by name of the field: `REGISTER_FIELD`.
    lsbs: BTreeMap<String, u8>,
    /// Named values by name: `REGISTER_FIELD_VALUE`.
    values: BTreeMap<String, u64>,
}

impl Sysregs {
    /// Parses the file.
    pub(super) fn parse(text: &str) -> Self {
        let mut sysregs = Self::default();
        let mut register = "";
        let mut field = "";
        for line in text.lines() {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let words: Vec<&str> = line.split_whitespace().collect();
            match *words.as_slice() {
                ["Sysreg", name, ref encoding @ ..] => {
                    register = name;
                    let parts: Vec<u8> = encoding.iter().flat_map(|part| part.parse()).collect();
                    if let Ok(encoding) = parts.try_into() {
                        sysregs.encodings.insert(name.to_owned(), encoding);
                    }
                }
                ["SysregFields", name] => register = name,
                ["Field" | "Enum" | "UnsignedEnum" | "SignedEnum", bits, name] => {
                    field = name;
                    let lsb = bits.rsplit(':').next().unwrap_or(bits);
                    if let Ok(lsb) = lsb.parse() {
                        sysregs.lsbs.insert(format!("{register}_{name}"), lsb);
                    }
                }
                [value, name] => {
                    let digits = value.strip_prefix("0b").unwrap_or_default();
                    if let Ok(value) = u64::from_str_radix(digits, 2) {
                        let name = format!("{register}_{field}_{name}");
                        sysregs.values.insert(name, value);
                    }
                }
                _ => {}
            }
        }
        sysregs
    }

    /// Returns the value of a number, of a macro `…_SHIFT` or of a named value.
    pub(super) fn evaluate(&self, text: &str) -> Option<u64> {
        if let Some(digits) = text.strip_prefix("0x") {
            return u64::from_str_radix(digits, 16).ok();
        }
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        match text.strip_suffix("_SHIFT") {
            Some(field) => self.lsbs.get(field).map(|lsb| u64::from(*lsb)),
            None => self.values.get(text).copied(),
        }
    }
}
