//! Parser of QEMU's lines, of all versions. [`predict`] is the inverse.
//!
//! `migration/vmstate-types.c`, `migration/vmstate.c`:
//! - `Invalid value N expecting positive value <= M`: up to 10.2.
//! - `Failed to load SECTION:FIELD`: any version.
//! - `pre load hook failed for: …`, `post load hook …`, `VM subsection 'S' in 'D' does not exist`:
//!   10.2 and later.
//!
//! `target/arm/machine.c`, `target/arm/kvm.c`:
//! - `handle_cpreg_only_in_incoming_stream: …`, `…_missing_…`: 11.0 and later.
//! - `Could not set register …`: 10.2 and later; with `system register` since 11.0.
//!
//! `accel/kvm/kvm-all.c`, any version:
//! - `Failed to put registers after STAGE: …`, `Putting registers after …`.
//! - `KVM_SET_DEVICE_ATTR failed: …`.
//!
//! `migration/savevm.c`, `migration/migration.c`, any version:
//! - `error while loading state for instance N of device 'D'`: since 11.0 appended to the line
//!   `load of migration failed`.
//! - `load of migration failed: …`, `Error N while loading VM state`.
//! - `Unknown savevm section or instance …`, `savevm: unsupported version …`, `Missing section
//!   footer for …`.
//! - `Machine type received is …`, `Capability … but received capability is …`.
//!
//! Other files, any version:
//! - `Size mismatch: …`, `Length mismatch: …`, `Unknown ramblock …`, `Mismatched RAM page size …`:
//!   `system/physmem.c`, `migration/ram.c`.
//! - `Features 0x… unsupported. Allowed features: …`: `hw/virtio/virtio.c`.
//! - `FUNCTION: Assertion …`: the C library.
//!
//! Sources: the recorded outcomes of 5.2 to 11.1, QEMU's sources of 5.2 to 11.0.3 and lines in
//! public reports. [`crate::libvirt`] parses the text that libvirt adds.

pub mod predict;

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use cpreg::errno::Errno;

use crate::libvirt;
use crate::message::{Emitter, NamedRegister, Statement, Symptom};
use crate::pattern::{Cursor, MAX_STATEMENTS_PER_LINE, Pattern, scan, to_name, truncate, unescape};
use crate::secrets;

/// Parses the statements in a line, in order. Returns an empty list for an unknown line.
///
/// One line may contain several lines that a logger has joined.
pub fn parse(line: &str) -> Vec<Statement> {
    let line = unescape(line);
    let mut statements = scan(&line, Emitter::QEMU, PATTERNS);
    statements.extend(parse_assertions(&line));
    statements.extend(libvirt::parse(&line));
    statements.sort_by_key(|(at, _)| *at);
    statements
        .into_iter()
        .map(|(_, statement)| statement)
        .collect()
}

/// Redacts the guest's keys in QEMU's standard error, line by line
/// ([`redact_secrets`](secrets::redact_secrets)).
pub fn redact_secrets(stderr: &str) -> String {
    let lines = stderr
        .lines()
        .map(|line| secrets::redact_secrets(line, &parse(line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns `true` if a line has the form of an error of QEMU or libvirt, even if cpreg does not
/// know the line.
pub fn looks_like_an_error(line: &str) -> bool {
    const NAMES: [&str; 6] = [
        "qemu-system-aarch64: ",
        "qemu-system-arm: ",
        "qemu-kvm: ",
        "QEMU[",
        " kvm: ",
        "libvirt: ",
    ];
    const HARMLESS: [&str; 4] = [
        "warning: ",
        "info: ",
        ": terminating on signal",
        "deprecated",
    ];
    let has_emitter = NAMES.iter().any(|name| line.contains(name))
        || line.starts_with("kvm: ")
        || line.starts_with("error: ")
        || line.contains("internal error: ");
    has_emitter && !HARMLESS.iter().any(|words| line.contains(words))
}

/// Maximum length of a device name, in bytes. QEMU allows 255 bytes.
const MAX_DEVICE_NAME_LEN: usize = 256;

const PATTERNS: &[Pattern] = &[
    Pattern {
        prefix: "Invalid value ",
        versions: VersionRange::with_last(10, 2),
        parse: parse_too_many_registers,
    },
    Pattern::for_any_version("Failed to load ", field_failed),
    Pattern {
        prefix: "handle_cpreg_only_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: source_only,
    },
    Pattern {
        prefix: "handle_cpreg_missing_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: destination_only,
    },
    Pattern {
        prefix: "Could not set register ",
        versions: VersionRange::with_first(10, 2),
        parse: could_not_set,
    },
    Pattern::for_any_version("Failed to put registers after ", put_failed),
    Pattern::for_any_version("Putting registers after ", put_failed),
    Pattern::for_any_version("error while loading state for instance ", section_failed),
    Pattern::for_any_version("error while loading state section id ", live_section_failed),
    Pattern::for_any_version("load of migration failed", |rest| Some(load_failed(rest))),
    Pattern::for_any_version("Error ", snapshot_failed),
    Pattern {
        prefix: "post load hook failed for: ",
        versions: VersionRange::with_first(10, 2),
        parse: |rest| hook_failed(rest, false),
    },
    Pattern {
        prefix: "pre load hook failed for: ",
        versions: VersionRange::with_first(10, 2),
        parse: |rest| hook_failed(rest, true),
    },
    Pattern {
        prefix: "VM subsection '",
        versions: VersionRange::with_first(10, 2),
        parse: unknown_subsection,
    },
    Pattern::for_any_version("Unknown savevm section or instance '", unknown_section),
    Pattern::for_any_version("savevm: unsupported version ", section_version),
    Pattern::for_any_version("unsupported version ", section_version),
    Pattern::for_any_version("is too new for local version_id ", |rest| {
        Some(Symptom::SectionVersion {
            device: "a part of the state".to_owned(),
            incoming: None,
            local: Some(rest.parse_u32()?),
        })
    }),
    Pattern::for_any_version("Missing section footer for ", |rest| {
        Some(Symptom::MissingFooter {
            device: Some(to_name(device(rest)?)),
        })
    }),
    Pattern::for_any_version("Read section footer failed", |_| {
        Some(Symptom::MissingFooter { device: None })
    }),
    Pattern::for_any_version("Assertion failed: (", |rest| {
        let assertion = to_name(rest.take_until("), function ")?);
        Some(Symptom::Aborted {
            function: to_name(rest.parse_name()?),
            assertion,
        })
    }),
    Pattern::for_any_version("Size mismatch: ", |rest| ram_size(rest, " != ")),
    Pattern::for_any_version("Length mismatch: ", |rest| ram_size(rest, " in != ")),
    Pattern::for_any_version("Size too large: ", |rest| ram_size(rest, " > ")),
    Pattern::for_any_version("Mismatched RAM page size ", ram_page_size),
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
    Pattern::for_any_version("Received TARGET_PAGE_BITS is ", |_| {
        Some(Symptom::Capability {
            name: "the size of a target page".to_owned(),
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
    Pattern::for_any_version("_DEVICE_ATTR failed: Group ", device_attribute),
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

/// Parses glibc's ``FILE:LINE: FUNCTION: Assertion `WHAT' failed.``
///
/// glibc prints the function's name before the fixed text, so a [`Pattern`], which begins with
/// fixed text, cannot match. macOS prints the name after the fixed text.
fn parse_assertions(line: &str) -> Vec<(usize, Statement)> {
    line.match_indices(": Assertion `")
        .take(MAX_STATEMENTS_PER_LINE)
        .filter_map(|(at, words)| {
            // A C++ compiler prints the types too: `int f(State *)`. The parameters stay.
            let before = line[..at].rsplit(": ").next()?;
            let name = before.split('(').next()?.rsplit([' ', ':']).next()?;
            let function = before.get(before.find(name)?..)?;
            let assertion = Cursor(&line[at + words.len()..]).take_until("' failed")?;
            let statement = Statement {
                symptom: Symptom::Aborted {
                    function: to_name(function),
                    assertion: to_name(assertion),
                },
                emitter: Emitter::QEMU,
                versions: VersionRange::ANY,
            };
            (!function.is_empty()).then_some((at, statement))
        })
        .collect()
}

fn parse_too_many_registers(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_i64()?;
    rest.expect(" expecting positive value <= ")?;
    Some(Symptom::TooManyRegisters {
        incoming,
        local: rest.parse_i64()?,
    })
}

/// Parses `cpu:cpreg_vmstate_array_len`, `0000:00:02.0/virtio-net:virtio` or `cpu:regs[3]`.
fn field_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let (section, field) = device(rest)?.rsplit_once(':')?;
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
fn device<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let end = rest
        .0
        .find(|character: char| character.is_whitespace() || "'\"\\,;()".contains(character))
        .unwrap_or(rest.0.len());
    let name = truncate(&rest.0[..end], MAX_DEVICE_NAME_LEN).trim_end_matches([':', '.']);
    rest.0 = &rest.0[name.len()..];
    (!name.is_empty()).then_some(name)
}

fn source_only(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" in the incoming stream")?);
    Some(Symptom::SourceOnly { register })
}

fn destination_only(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" expected by the destination")?);
    Some(Symptom::DestinationOnly { register })
}

/// Parses `REG: unknown to KVM`, `REG to VALUE (is VALUE)`, `REG to VALUE: ERROR` or `REG: ERROR`.
/// The values are hexadecimal without `0x`.
fn could_not_set(rest: &mut Cursor<'_>) -> Option<Symptom> {
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

fn put_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let stage = to_name(rest.take_until(": ")?);
    Some(Symptom::PutFailed {
        stage,
        error: rest.parse_errno(),
    })
}

fn section_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let instance = rest.parse_hex().and_then(|it| u32::try_from(it).ok());
    rest.expect(" of device '")?;
    Some(Symptom::SectionFailed {
        device: to_name(rest.take_until("'")?),
        instance,
    })
}

/// Parses `2(ram)`: the id and the name of a section that QEMU sends in parts.
fn live_section_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    rest.parse_i64()?;
    rest.expect("(")?;
    Some(Symptom::SectionFailed {
        device: to_name(rest.take_until(")")?),
        instance: None,
    })
}

fn load_failed(rest: &mut Cursor<'_>) -> Symptom {
    let error = rest.expect(": ").and_then(|()| rest.parse_errno());
    Symptom::LoadFailed { error }
}

/// Parses `-22 while loading VM state`, which `loadvm` prints.
fn snapshot_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let number = rest.parse_i64()?;
    rest.expect(" while loading VM state")?;
    let error = number
        .checked_neg()
        .and_then(|number| u16::try_from(number).ok())
        .map(Errno);
    Some(Symptom::LoadFailed { error })
}

fn hook_failed(rest: &mut Cursor<'_>, is_pre_load: bool) -> Option<Symptom> {
    // Some versions quote the name.
    let _ = rest.expect("'");
    Some(Symptom::HookFailed {
        section: to_name(rest.parse_name()?),
        is_pre_load,
    })
}

fn unknown_subsection(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let name = to_name(rest.take_until("' in '")?);
    let section = to_name(rest.take_until("'")?);
    rest.expect(" does not exist")?;
    Some(Symptom::UnknownSubsection { name, section })
}

fn unknown_section(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let device = to_name(rest.take_until("'")?);
    let instance = rest.expect(" ").and_then(|()| rest.parse_u32());
    Some(Symptom::UnknownSection { device, instance })
}

/// Parses `22 for 'cpu' v21`.
fn section_version(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_u32();
    rest.expect(" for '")?;
    let device = to_name(rest.take_until("'")?);
    let local = rest.expect(" v").and_then(|()| rest.parse_u32());
    Some(Symptom::SectionVersion {
        device,
        incoming,
        local,
    })
}

fn ram_size(rest: &mut Cursor<'_>, separator: &str) -> Option<Symptom> {
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
fn ram_page_size(rest: &mut Cursor<'_>) -> Option<Symptom> {
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
fn device_attribute(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let group = rest.parse_u32()?;
    rest.expect(" attr ")?;
    let attribute = rest.parse_hex()?;
    let error = rest.expect(": ").and_then(|()| rest.parse_errno());
    Some(Symptom::DeviceAttribute {
        group,
        attribute,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No recorded QEMU prints a pointer-authentication key in an error, but a later one may.
    #[test]
    fn keys_are_redacted_line_by_line() {
        let stderr = "Could not set register system register op0:3 op1:0 crn:2 crm:1 op2:0 to 5ec2e7 (is 7)\n\
            Could not set register system register 0x1013c108 to 5ec2e8: Invalid argument\n\
            Could not set register system register op0:3 op1:0 crn:1 crm:0 op2:0 to 5ec2e9 (is 7)";
        let redacted = redact_secrets(stderr);
        assert!(
            !redacted.contains("5ec2e7") && !redacted.contains("5ec2e8"),
            "{redacted}"
        );
        assert!(redacted.contains("to 5ec2e9 (is 7)") && redacted.lines().count() == 3);
    }
}
