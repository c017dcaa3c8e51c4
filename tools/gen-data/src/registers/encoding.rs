//! Parsing of the numbers and register ids in the files.

/// Bits that all ids of 64-bit system registers have, without the encoding.
pub(crate) const SYSREG: u64 = 0x6030_0000_0013_0000;

/// Result of parsing, with the cause of an error.
pub(crate) type Result<T> = std::result::Result<T, String>;

pub(crate) fn number(text: &str) -> Result<u64> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| format!("{text} is not a hexadecimal number"))
}

pub(crate) fn parse_u8(text: &str, max: u8) -> Result<u8> {
    text.parse()
        .ok()
        .filter(|value| *value <= max)
        .ok_or_else(|| format!("{text} is not a number up to {max}"))
}

pub(crate) fn system_register(encoding: [&str; 5]) -> Result<u64> {
    let [op0, op1, crn, crm, op2] = encoding;
    Ok(SYSREG
        | u64::from(parse_u8(op0, 3)?) << 14
        | u64::from(parse_u8(op1, 7)?) << 11
        | u64::from(parse_u8(crn, 15)?) << 7
        | u64::from(parse_u8(crm, 15)?) << 3
        | u64::from(parse_u8(op2, 7)?))
}

/// Returns the id of a nameless register, written `S3_0_C15_C2_0`.
pub(crate) fn generic_name(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.strip_prefix('S')?.split('_').collect();
    let &[op0, op1, crn, crm, op2] = parts.as_slice() else {
        return None;
    };
    system_register([
        op0,
        op1,
        crn.strip_prefix('C')?,
        crm.strip_prefix('C')?,
        op2,
    ])
    .ok()
}

/// Returns QEMU's id of an AArch32 register that is not the Secure instance.
pub(crate) fn coprocessor(width: &str, encoding: [&str; 5]) -> Result<u64> {
    let [cp, opc1, crn, crm, opc2] = encoding;
    let size = match width {
        "32" => 2_u64,
        "64" => 3,
        _ => return Err(format!("unknown width {width}")),
    };
    let cp = parse_u8(cp, 15)?;
    if !matches!(cp, 14 | 15) {
        return Err(format!("unknown coprocessor {cp}"));
    }
    Ok(0x4000_0000_2000_0000
        | size << 52
        | u64::from(cp) << 16
        | u64::from(parse_u8(crn, 15)?) << 11
        | u64::from(parse_u8(crm, 15)?) << 7
        | u64::from(parse_u8(opc1, 15)?) << 3
        | u64::from(parse_u8(opc2, 7)?))
}
