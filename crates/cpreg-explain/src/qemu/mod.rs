//! QEMU's lines of every generation: what each of them says. [`predict`] has the way back.
//!
//! | words | versions | from |
//! |---|---|---|
//! | `Invalid value N expecting positive value <= M` | to 10.2 | migration/vmstate-types.c |
//! | `Failed to load SECTION:FIELD` | any | migration/vmstate.c |
//! | `handle_cpreg_only_in_incoming_stream: …`, `…_missing_…` | 11.0 | target/arm/machine.c |
//! | `Could not set register …` | 10.2; names with `system register` from 11.0 | target/arm/kvm.c |
//! | `Failed to put registers after STAGE: …`, `Putting registers after …` | any | accel/kvm/kvm-all.c |
//! | `error while loading state for instance N of device 'D'` | any; from 11.0 part of the last line | migration/savevm.c |
//! | `load of migration failed: …`, `Error N while loading VM state` | any | migration/migration.c, savevm.c |
//! | `pre load hook failed for: …`, `post load hook …`, `VM subsection 'S' in 'D' does not exist` | 10.2, 11.0 | migration/vmstate.c |
//! | `Unknown savevm section or instance …`, `savevm: unsupported version …`, `Missing section footer for …` | any | migration/savevm.c |
//! | `Size mismatch: …`, `Length mismatch: …`, `Unknown ramblock …`, `Mismatched RAM page size …` | any | system/physmem.c, migration/ram.c |
//! | `Machine type received is …`, `Capability … but received capability is …` | any | migration/savevm.c |
//! | `Features 0x… unsupported. Allowed features: …` | any | hw/virtio/virtio.c |
//! | `KVM_SET_DEVICE_ATTR failed: …` | any | accel/kvm/kvm-all.c |
//! | `FUNCTION: Assertion …` | any | the C library |
//!
//! Sources: the recorded outcomes of 5.2 to 11.1, QEMU's sources of 5.2 to 11.0.3 and lines in public reports. What libvirt puts around
//! them is [`crate::libvirt`]'s.

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

/// What a line says, in its order; nothing if none of it is known. A line may be several that a logger put into one.
pub fn parse(line: &str) -> Vec<Statement> {
    let line = unescape(line);
    let mut found = scan(&line, Emitter::QEMU, PATTERNS);
    found.extend(assertions(&line));
    found.extend(libvirt::parse(&line));
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, said)| said).collect()
}

/// What QEMU said, with the guest's keys blotted out ([`redact_secrets`](secrets::without_secrets)).
pub fn redact_secrets(said: &str) -> String {
    let lines = said
        .lines()
        .map(|line| secrets::redact_secrets(line, &parse(line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether a line looks like an error of QEMU or libvirt, understood or not.
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
    let said_by = NAMES.iter().any(|name| line.contains(name))
        || line.starts_with("kvm: ")
        || line.starts_with("error: ")
        || line.contains("internal error: ");
    said_by && !HARMLESS.iter().any(|words| line.contains(words))
}

/// QEMU itself allows 255 bytes.
const MAX_DEVICE_NAME_LEN: usize = 256;

const PATTERNS: &[Pattern] = &[
    Pattern {
        prefix: "Invalid value ",
        versions: VersionRange::with_last(10, 2),
        parse: too_many,
    },
    Pattern {
        prefix: "Failed to load ",
        versions: VersionRange::ANY,
        parse: field_failed,
    },
    Pattern {
        prefix: "handle_cpreg_only_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: only_in_input,
    },
    Pattern {
        prefix: "handle_cpreg_missing_in_incoming_stream: ",
        versions: VersionRange::with_first(11, 0),
        parse: only_at_destination,
    },
    Pattern {
        prefix: "Could not set register ",
        versions: VersionRange::with_first(10, 2),
        parse: could_not_set,
    },
    Pattern {
        prefix: "Failed to put registers after ",
        versions: VersionRange::ANY,
        parse: put_failed,
    },
    Pattern {
        prefix: "Putting registers after ",
        versions: VersionRange::ANY,
        parse: put_failed,
    },
    Pattern {
        prefix: "error while loading state for instance ",
        versions: VersionRange::ANY,
        parse: section_failed,
    },
    Pattern {
        prefix: "error while loading state section id ",
        versions: VersionRange::ANY,
        parse: live_section_failed,
    },
    Pattern {
        prefix: "load of migration failed",
        versions: VersionRange::ANY,
        parse: |rest| Some(load_failed(rest)),
    },
    Pattern {
        prefix: "Error ",
        versions: VersionRange::ANY,
        parse: snapshot_failed,
    },
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
    Pattern {
        prefix: "Unknown savevm section or instance '",
        versions: VersionRange::ANY,
        parse: unknown_section,
    },
    Pattern {
        prefix: "savevm: unsupported version ",
        versions: VersionRange::ANY,
        parse: section_version,
    },
    Pattern {
        prefix: "unsupported version ",
        versions: VersionRange::ANY,
        parse: section_version,
    },
    Pattern {
        prefix: "is too new for local version_id ",
        versions: VersionRange::ANY,
        parse: |rest| {
            Some(Symptom::SectionVersion {
                device: "a part of the state".to_owned(),
                incoming: None,
                local: Some(rest.parse_u32()?),
            })
        },
    },
    Pattern {
        prefix: "Missing section footer for ",
        versions: VersionRange::ANY,
        parse: |rest| {
            Some(Symptom::MissingFooter {
                device: Some(to_name(device(rest)?)),
            })
        },
    },
    Pattern {
        prefix: "Read section footer failed",
        versions: VersionRange::ANY,
        parse: |_| Some(Symptom::MissingFooter { device: None }),
    },
    Pattern {
        prefix: "Assertion failed: (",
        versions: VersionRange::ANY,
        parse: |rest| {
            let assertion = to_name(rest.take_until("), function ")?);
            Some(Symptom::Aborted {
                function: to_name(rest.parse_name()?),
                assertion,
            })
        },
    },
    Pattern {
        prefix: "Size mismatch: ",
        versions: VersionRange::ANY,
        parse: |rest| ram_size(rest, " != "),
    },
    Pattern {
        prefix: "Length mismatch: ",
        versions: VersionRange::ANY,
        parse: |rest| ram_size(rest, " in != "),
    },
    Pattern {
        prefix: "Size too large: ",
        versions: VersionRange::ANY,
        parse: |rest| ram_size(rest, " > "),
    },
    Pattern {
        prefix: "Mismatched RAM page size ",
        versions: VersionRange::ANY,
        parse: ram_page_size,
    },
    Pattern {
        prefix: "Unknown ramblock \"",
        versions: VersionRange::ANY,
        parse: |rest| {
            Some(Symptom::UnknownRamBlock {
                block: to_name(rest.take_until("\"")?),
            })
        },
    },
    Pattern {
        prefix: "Machine type received is '",
        versions: VersionRange::ANY,
        parse: |rest| {
            let incoming = to_name(rest.take_until("' and local is '")?);
            Some(Symptom::MachineType {
                incoming,
                local: to_name(rest.take_until("'")?),
            })
        },
    },
    Pattern {
        prefix: "Capability ",
        versions: VersionRange::ANY,
        parse: |rest| {
            let name = to_name(rest.take_until(" is ")?);
            rest.take_until(", but received capability is ")?;
            Some(Symptom::Capability { name })
        },
    },
    Pattern {
        prefix: "Received TARGET_PAGE_BITS is ",
        versions: VersionRange::ANY,
        parse: |_| {
            Some(Symptom::Capability {
                name: "the size of a target page".to_owned(),
            })
        },
    },
    Pattern {
        prefix: "Features 0x",
        versions: VersionRange::ANY,
        parse: |rest| {
            let incoming = rest.parse_hex()?;
            rest.expect(" unsupported. Allowed features: ")?;
            Some(Symptom::VirtioFeatures {
                incoming,
                allowed: rest.parse_hex()?,
            })
        },
    },
    Pattern {
        prefix: "get_pci_config_device: Bad config data",
        versions: VersionRange::ANY,
        parse: |rest| {
            let offset = rest.expect(": i=0x").and_then(|()| rest.parse_hex());
            Some(Symptom::PciConfig { offset })
        },
    },
    Pattern {
        prefix: "_DEVICE_ATTR failed: Group ",
        versions: VersionRange::ANY,
        parse: device_attribute,
    },
    Pattern {
        prefix: "Not a migration stream",
        versions: VersionRange::ANY,
        parse: |_| Some(Symptom::NotAStream),
    },
    Pattern {
        prefix: "Unsupported migration stream version",
        versions: VersionRange::ANY,
        parse: |_| Some(Symptom::NotAStream),
    },
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
    Pattern {
        prefix: "kvm_arch_init_vcpu failed (",
        versions: VersionRange::ANY,
        parse: |rest| {
            rest.take_until("): ")?;
            Some(Symptom::VcpuInit {
                error: rest.parse_errno(),
            })
        },
    },
];

/// ``FILE:LINE: FUNCTION: Assertion `WHAT' failed.``: glibc's, whose function stands before the words. macOS's is a phrase.
fn assertions(line: &str) -> Vec<(usize, Statement)> {
    line.match_indices(": Assertion `")
        .take(MAX_STATEMENTS_PER_LINE)
        .filter_map(|(at, words)| {
            // A C++ compiler's function has its types, `int f(State *)`.
            let before = line[..at].rsplit(": ").next()?;
            let name = before.split('(').next()?.rsplit([' ', ':']).next()?;
            let function = before.get(before.find(name)?..)?;
            let assertion = Cursor(&line[at + words.len()..]).take_until("' failed")?;
            let said = Statement {
                symptom: Symptom::Aborted {
                    function: to_name(function),
                    assertion: to_name(assertion),
                },
                emitter: Emitter::QEMU,
                versions: VersionRange::ANY,
            };
            (!function.is_empty()).then_some((at, said))
        })
        .collect()
}

fn too_many(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_i64()?;
    rest.expect(" expecting positive value <= ")?;
    Some(Symptom::TooManyRegisters {
        incoming,
        local: rest.parse_i64()?,
    })
}

/// `cpu:cpreg_vmstate_array_len`, `0000:00:02.0/virtio-net:virtio`, `cpu:regs[3]`
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

/// QEMU's name of a device, which may have colons; not those behind it.
fn device<'a>(rest: &mut Cursor<'a>) -> Option<&'a str> {
    let end = rest
        .0
        .find(|character: char| character.is_whitespace() || "'\"\\,;()".contains(character))
        .unwrap_or(rest.0.len());
    let name = truncate(&rest.0[..end], MAX_DEVICE_NAME_LEN).trim_end_matches([':', '.']);
    rest.0 = &rest.0[name.len()..];
    (!name.is_empty()).then_some(name)
}

fn only_in_input(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" in the incoming stream")?);
    Some(Symptom::OnlyInInput { register })
}

fn only_at_destination(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let register = NamedRegister::parse(rest.take_until(" expected by the destination")?);
    Some(Symptom::OnlyAtDestination { register })
}

/// `REG: unknown to KVM`, `REG to VALUE (is VALUE)`, `REG to VALUE: ERROR`, `REG: ERROR`; values without 0x.
fn could_not_set(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let mut ahead = *rest;
    if let Some(name) = ahead.take_until(": unknown to KVM") {
        return Some(Symptom::UnknownToKvm {
            register: NamedRegister::parse(name),
            value: None,
        });
    }
    let mut ahead = *rest;
    if let Some(name) = ahead.take_until(" to ") {
        let register = NamedRegister::parse(name);
        let value = ahead.parse_hex();
        let is = ahead.take_until("(is ").and_then(|_| ahead.parse_hex());
        let error = match is {
            Some(_) => Some(Errno::EINVAL),
            None => ahead.take_until(": ").and_then(|_| ahead.parse_errno()),
        };
        return Some(Symptom::ValueNotTaken {
            register,
            value,
            current: is,
            error,
        });
    }
    // Parts of a name have colons too, without a space behind.
    let name = rest.take_until(": ")?;
    Some(Symptom::ValueNotTaken {
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

/// `2(ram)`: of a section that comes in parts.
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

/// Of `loadvm`: `-22 while loading VM state`.
fn snapshot_failed(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let number = rest.parse_i64()?;
    rest.expect(" while loading VM state")?;
    let error = number
        .checked_neg()
        .and_then(|number| u16::try_from(number).ok())
        .map(Errno);
    Some(Symptom::LoadFailed { error })
}

fn hook_failed(rest: &mut Cursor<'_>, before: bool) -> Option<Symptom> {
    // The name has quotes in some versions.
    let _ = rest.expect("'");
    Some(Symptom::HookFailed {
        section: to_name(rest.parse_name()?),
        is_pre_load: before,
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

/// `22 for 'cpu' v21`
fn section_version(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let incoming = rest.parse_u32();
    rest.expect(" for '")?;
    let device = to_name(rest.take_until("'")?);
    let own = rest.expect(" v").and_then(|()| rest.parse_u32());
    Some(Symptom::SectionVersion {
        device,
        incoming,
        local: own,
    })
}

fn ram_size(rest: &mut Cursor<'_>, between: &str) -> Option<Symptom> {
    let block = to_name(rest.take_until(": ")?);
    let incoming = rest.parse_hex()?;
    rest.expect(between)?;
    Some(Symptom::RamSize {
        block,
        incoming,
        local: rest.parse_hex()?,
    })
}

/// `mach-virt.ram (local) 4096 != 65536`
fn ram_page_size(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let block = to_name(rest.take_until(" (local) ")?);
    let own = rest.parse_u64()?;
    rest.expect(" != ")?;
    Some(Symptom::RamPageSize {
        block,
        incoming: rest.parse_u64()?,
        local: own,
    })
}

/// `4 attr 0x0000000000000001: Invalid argument`
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

    /// No QEMU refuses a key that was seen; whoever passes its words on cannot know that.
    #[test]
    fn keys_are_blotted_out_line_by_line() {
        let said = "Could not set register system register op0:3 op1:0 crn:2 crm:1 op2:0 to 5ec2e7 (is 7)\n\
            Could not set register system register 0x1013c108 to 5ec2e8: Invalid argument\n\
            Could not set register system register op0:3 op1:0 crn:1 crm:0 op2:0 to 5ec2e9 (is 7)";
        let without = redact_secrets(said);
        assert!(
            !without.contains("5ec2e7") && !without.contains("5ec2e8"),
            "{without}"
        );
        assert!(without.contains("to 5ec2e9 (is 7)") && without.lines().count() == 3);
    }
}
