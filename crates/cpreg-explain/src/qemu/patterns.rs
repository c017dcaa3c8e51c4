//! Patterns of QEMU's lines about a load, with their parsers.

use alloc::borrow::ToOwned;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::message::{AttributeAccess, LENGTH_FIELD, LoadInput, NamedRegister, Symptom};
use crate::pattern::{Cursor, Pattern, to_name, truncate};

/// Maximum length of a device name, in bytes. QEMU allows 255 bytes.
const MAX_DEVICE_NAME_LEN: usize = 256;

/// Patterns of lines about a load.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        prefix: "Invalid value ",
        versions: VersionRange::with_last(10, 2),
        parse: parse_too_many_registers,
    },
    Pattern::for_any_version("Failed to load ", parse_failed_field),
    Pattern {
        prefix: "handle_cpreg_only_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: parse_source_only,
    },
    Pattern {
        prefix: "handle_cpreg_missing_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: parse_destination_only,
    },
    Pattern {
        prefix: "Could not set register ",
        versions: VersionRange::with_first(10, 2),
        parse: parse_refused_register,
    },
    Pattern::for_any_version("Failed to put registers after ", parse_failed_put),
    Pattern::for_any_version("Putting registers after ", parse_failed_put),
    Pattern::for_any_version(
        "error while loading state for instance ",
        parse_failed_section,
    ),
    Pattern::for_any_version(
        "error while loading state section id ",
        parse_failed_live_section,
    ),
    Pattern::for_any_version("load of migration failed", |rest| {
        Some(parse_failed_load(rest))
    }),
    Pattern::for_any_version("Error ", parse_failed_snapshot_load),
    Pattern {
        prefix: "post load hook failed for: ",
        versions: VersionRange::with_first(10, 2),
        parse: |rest| parse_failed_hook(rest, false),
    },
    Pattern {
        prefix: "pre load hook failed for: ",
        versions: VersionRange::with_first(10, 2),
        parse: |rest| parse_failed_hook(rest, true),
    },
    Pattern {
        prefix: "VM subsection '",
        versions: VersionRange::with_first(10, 2),
        parse: parse_unknown_subsection,
    },
    Pattern::for_any_version(
        "Unknown savevm section or instance '",
        parse_unknown_section,
    ),
    Pattern::for_any_version("savevm: unsupported version ", parse_section_version),
    Pattern::for_any_version("unsupported version ", parse_section_version),
    Pattern::for_any_version("is too new for local version_id ", |rest| {
        Some(Symptom::SectionVersion {
            device: "a part of the state".to_owned(),
            incoming: None,
            local: Some(rest.parse_u32()?),
        })
    }),
    Pattern::for_any_version("is too old for local minimum version_id ", |rest| {
        let _ = rest.expect(" ");
        Some(Symptom::SectionVersion {
            device: "a part of the state".to_owned(),
            incoming: None,
            local: Some(rest.parse_u32()?),
        })
    }),
    Pattern::for_any_version("Missing section footer for ", |rest| {
        Some(Symptom::MissingFooter {
            device: Some(to_name(parse_device_name(rest)?)),
        })
    }),
    Pattern::for_any_version("Read section footer failed", |_| {
        Some(Symptom::MissingFooter { device: None })
    }),
    Pattern::for_any_version("Size mismatch: ", |rest| parse_ram_size(rest, " != ")),
    Pattern::for_any_version("Length mismatch: ", |rest| parse_ram_size(rest, " in != ")),
    Pattern::for_any_version("Size too large: ", |rest| parse_ram_size(rest, " > ")),
    Pattern::for_any_version("Mismatched RAM page size ", parse_ram_page_size),
    Pattern::for_any_version("Unknown ramblock \"", |rest| {
        Some(Symptom::UnknownRamBlock {
            block: to_name(rest.take_until("\"")?),
        })
    }),
    Pattern::for_any_version("Machine type received is '", |rest| {
        let incoming = to_name(rest.take_until("' and local is '")?);
        Some(Symptom::MachineType {
            incoming,
            local: to_name(rest.take_until("'")?),
        })
    }),
    Pattern::for_any_version("Capability ", |rest| {
        let name = to_name(rest.take_until(" is ")?);
        rest.take_until(", but received capability is ")?;
        Some(Symptom::Capability { name })
    }),
    Pattern::for_any_version("Received TARGET_PAGE_BITS is ", |rest| {
        let incoming = rest.parse_u32()?;
        rest.expect(" but local is ")?;
        Some(Symptom::TargetPageBits {
            incoming,
            local: rest.parse_u32()?,
        })
    }),
    Pattern::for_any_version("Features 0x", |rest| {
        let incoming = rest.parse_hex()?;
        rest.expect(" unsupported. Allowed features: ")?;
        Some(Symptom::VirtioFeatures {
            incoming,
            allowed: rest.parse_hex()?,
        })
    }),
    Pattern::for_any_version("get_pci_config_device: Bad config data", |rest| {
        let offset = rest.expect(": i=0x").and_then(|()| rest.parse_hex());
        Some(Symptom::PciConfig { offset })
    }),
    Pattern::for_any_version("KVM_SET_DEVICE_ATTR failed: Group ", |rest| {
        parse_device_attribute(rest, AttributeAccess::Set)
    }),
    Pattern::for_any_version("KVM_GET_DEVICE_ATTR failed: Group ", |rest| {
        parse_device_attribute(rest, AttributeAccess::Get)
    }),
    Pattern::for_any_version("Not a migration stream", |_| Some(Symptom::NotAStream)),
    Pattern::for_any_version("Unsupported migration stream version", |_| {
        Some(Symptom::NotAStream)
    }),
    Pattern {
        prefix: "KVM in this kernel does not support PSCI version ",
        versions: VersionRange::with_first(11, 0),
        parse: |rest| {
            Some(Symptom::NoSuchPsci {
                version: to_name(rest.parse_name()?.trim_end_matches('.')),
            })
        },
    },
    Pattern {
        prefix: "Consider setting the kvm-psci-version property on the migration source",
        versions: VersionRange::with_first(11, 0),
        parse: |_| Some(Symptom::PsciHint),
    },
    Pattern::for_any_version("kvm_arch_init_vcpu failed (", |rest| {
        rest.take_until("): ")?;
        Some(Symptom::VcpuInit {
            error: rest.parse_errno(),
        })
    }),
];

fn parse_too_many_registers(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_i64()?;
    rest.expect(" expecting positive value <= ")?;
    Some(Symptom::TooManyRegisters {
        incoming,
        local: parse_last_count(rest)?,
    })
}

/// Parses the number at the end of a line. The next line, joined without a blank, may begin with a
/// date: `2562026-11-21T22:14:01` is 256 and a date.
fn parse_last_count(rest: &mut Cursor<'_>) -> Option<i64> {
    const YEAR_LEN: usize = 4;
    let digits = rest.0.find(|character: char| !character.is_ascii_digit());
    let digits = digits.unwrap_or(rest.0.len());
    let after = rest.0.get(digits..).unwrap_or("").as_bytes();
    let is_date =
        matches!(after, [b'-', a, b, b'-', ..] if a.is_ascii_digit() && b.is_ascii_digit());
    if is_date && digits > YEAR_LEN {
        let (number, date) = rest.0.split_at(digits - YEAR_LEN);
        rest.0 = date;
        return number.parse().ok();
    }
    rest.parse_i64()
}

/// Parses `cpu:cpreg_vmstate_array_len`, `0000:00:02.0/virtio-net:virtio` or `cpu:regs[3]`.
fn parse_failed_field(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let (section, field) = parse_device_name(rest)?.rsplit_once(':')?;
    // A logger that joins lines leaves no blank after the field's name.
    let field = if field.starts_with(LENGTH_FIELD) {
        LENGTH_FIELD
    } else {
        field
    };
    let is_field = field.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && !section.is_empty()
        && !section.contains("//")
        && !section.starts_with('/');
    is_field.then(|| Symptom::FieldFailed {
        section: to_name(section),
        field: to_name(field),
    })
}

/// Parses QEMU's name of a device. The name may contain colons, but not at its end.
fn parse_device_name<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let end = rest
        .0
        .find(|character: char| character.is_whitespace() || "'\"\\,;()".contains(character))
        .unwrap_or(rest.0.len());
    let name = truncate(&rest.0[..end], MAX_DEVICE_NAME_LEN).trim_end_matches([':', '.']);
    rest.0 = &rest.0[name.len()..];
    (!name.is_empty()).then_some(name)
}

fn parse_source_only(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" in the incoming stream")?);
    Some(Symptom::SourceOnly { register })
}

fn parse_destination_only(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" expected by the destination")?);
    Some(Symptom::DestinationOnly { register })
}

/// Parses `REG: unknown to KVM`, `REG to VALUE (is VALUE)`, `REG to VALUE: ERROR` or `REG: ERROR`.
/// The values are hexadecimal without `0x`.
fn parse_refused_register(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let mut cursor = *rest;
    if let Some(name) = cursor.take_until(": unknown to KVM") {
        return Some(Symptom::UnknownToKvm {
            register: NamedRegister::parse(name),
            value: None,
        });
    }
    let mut cursor = *rest;
    if let Some(name) = cursor.take_until(" to ") {
        let register = NamedRegister::parse(name);
        let value = cursor.parse_hex();
        let current = cursor.take_until("(is ").and_then(|_| cursor.parse_hex());
        let error = match current {
            Some(_) => Some(Errno::EINVAL),
            None => cursor.take_until(": ").and_then(|_| cursor.parse_errno()),
        };
        return Some(Symptom::ValueNotAccepted {
            register,
            value,
            current,
            error,
        });
    }
    // Colons inside a name have no space after them.
    let name = rest.take_until(": ")?;
    Some(Symptom::ValueNotAccepted {
        register: NamedRegister::parse(name),
        value: None,
        current: None,
        error: rest.parse_errno(),
    })
}

fn parse_failed_put(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let stage = to_name(rest.take_until(": ")?);
    Some(Symptom::PutFailed {
        stage,
        error: rest.parse_errno(),
    })
}

fn parse_failed_section(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let instance = rest.parse_hex().and_then(|it| u32::try_from(it).ok());
    rest.expect(" of device '")?;
    Some(Symptom::SectionFailed {
        device: to_name(rest.take_until("'")?),
        instance,
    })
}

/// Parses `2(ram)`: the id and the name of a section that QEMU sends in parts.
fn parse_failed_live_section(rest: &mut Cursor<'_>) -> Option<Symptom> {
    rest.parse_i64()?;
    rest.expect("(")?;
    Some(Symptom::SectionFailed {
        device: to_name(rest.take_until(")")?),
        instance: None,
    })
}

fn parse_failed_load(rest: &mut Cursor<'_>) -> Symptom {
    let error = rest.expect(": ").and_then(|()| rest.parse_errno());
    Symptom::LoadFailed {
        input: LoadInput::Stream,
        error,
    }
}

/// Parses `-22 while loading VM state`, which `loadvm` prints.
fn parse_failed_snapshot_load(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let number = rest.parse_i64()?;
    rest.expect(" while loading VM state")?;
    let error = number
        .checked_neg()
        .and_then(|number| u16::try_from(number).ok())
        .map(Errno);
    Some(Symptom::LoadFailed {
        input: LoadInput::Snapshot,
        error,
    })
}

fn parse_failed_hook(rest: &mut Cursor<'_>, is_pre_load: bool) -> Option<Symptom> {
    // Some versions quote the name.
    let _ = rest.expect("'");
    Some(Symptom::HookFailed {
        section: to_name(rest.parse_name()?),
        is_pre_load,
    })
}

fn parse_unknown_subsection(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let name = to_name(rest.take_until("' in '")?);
    let section = to_name(rest.take_until("'")?);
    rest.expect(" does not exist")?;
    Some(Symptom::UnknownSubsection { name, section })
}

fn parse_unknown_section(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let device = to_name(rest.take_until("'")?);
    let instance = rest.expect(" ").and_then(|()| rest.parse_u32());
    Some(Symptom::UnknownSection { device, instance })
}

/// Parses `22 for 'cpu' v21`.
fn parse_section_version(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_u32();
    rest.expect(" for '")?;
    let device = to_name(rest.take_until("'")?);
    rest.expect(" v")?;
    let local = rest.parse_u32();
    Some(Symptom::SectionVersion {
        device,
        incoming,
        local,
    })
}

fn parse_ram_size(rest: &mut Cursor<'_>, separator: &str) -> Option<Symptom> {
    let block = to_name(rest.take_until(": ")?);
    let incoming = rest.parse_hex()?;
    rest.expect(separator)?;
    Some(Symptom::RamSize {
        block,
        incoming,
        local: rest.parse_hex()?,
    })
}

/// Parses `mach-virt.ram (local) 4096 != 65536`.
fn parse_ram_page_size(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let block = to_name(rest.take_until(" (local) ")?);
    let local = rest.parse_u64()?;
    rest.expect(" != ")?;
    Some(Symptom::RamPageSize {
        block,
        incoming: rest.parse_u64()?,
        local,
    })
}

/// Parses `4 attr 0x0000000000000001: Invalid argument`.
fn parse_device_attribute(rest: &mut Cursor<'_>, access: AttributeAccess) -> Option<Symptom> {
    let group = rest.parse_u32()?;
    rest.expect(" attr ")?;
    let attribute = rest.parse_hex()?;
    let error = rest.expect(": ").and_then(|()| rest.parse_errno());
    Some(Symptom::DeviceAttribute {
        access,
        group,
        attribute,
        error,
    })
}
