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

use cpreg::destination::Versions;
use cpreg::errno::Errno;

use crate::libvirt;
use crate::message::{NamedRegister, Said, Speaker, Symptom};
use crate::pattern::{MOST_IN_A_LINE, Phrase, Rest, cut, owned, plain, scan};
use crate::secrets;

/// What a line says, in its order; nothing if none of it is known. A line may be several that a logger put into one.
pub fn read(line: &str) -> Vec<Said> {
    let line = plain(line);
    let mut found = scan(&line, Speaker::QEMU, PHRASES);
    found.extend(assertions(&line));
    found.extend(libvirt::read(&line));
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, said)| said).collect()
}

/// What QEMU said, with the guest's keys blotted out ([`without_secrets`](secrets::without_secrets)).
pub fn without_secrets(said: &str) -> String {
    let lines = said
        .lines()
        .map(|line| secrets::without_secrets(line, &read(line)));
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
const LONGEST_DEVICE: usize = 256;

const PHRASES: &[Phrase] = &[
    Phrase {
        begins: "Invalid value ",
        versions: Versions::until(10, 2),
        read: too_many,
    },
    Phrase {
        begins: "Failed to load ",
        versions: Versions::ANY,
        read: field_failed,
    },
    Phrase {
        begins: "handle_cpreg_only_in_incoming_stream: ",
        versions: Versions::since(11, 0),
        read: only_in_input,
    },
    Phrase {
        begins: "handle_cpreg_missing_in_incoming_stream: ",
        versions: Versions::since(11, 0),
        read: only_at_destination,
    },
    Phrase {
        begins: "Could not set register ",
        versions: Versions::since(10, 2),
        read: could_not_set,
    },
    Phrase {
        begins: "Failed to put registers after ",
        versions: Versions::ANY,
        read: put_failed,
    },
    Phrase {
        begins: "Putting registers after ",
        versions: Versions::ANY,
        read: put_failed,
    },
    Phrase {
        begins: "error while loading state for instance ",
        versions: Versions::ANY,
        read: section_failed,
    },
    Phrase {
        begins: "error while loading state section id ",
        versions: Versions::ANY,
        read: live_section_failed,
    },
    Phrase {
        begins: "load of migration failed",
        versions: Versions::ANY,
        read: |rest| Some(load_failed(rest)),
    },
    Phrase {
        begins: "Error ",
        versions: Versions::ANY,
        read: snapshot_failed,
    },
    Phrase {
        begins: "post load hook failed for: ",
        versions: Versions::since(10, 2),
        read: |rest| hook_failed(rest, false),
    },
    Phrase {
        begins: "pre load hook failed for: ",
        versions: Versions::since(10, 2),
        read: |rest| hook_failed(rest, true),
    },
    Phrase {
        begins: "VM subsection '",
        versions: Versions::since(10, 2),
        read: unknown_subsection,
    },
    Phrase {
        begins: "Unknown savevm section or instance '",
        versions: Versions::ANY,
        read: unknown_section,
    },
    Phrase {
        begins: "savevm: unsupported version ",
        versions: Versions::ANY,
        read: section_version,
    },
    Phrase {
        begins: "unsupported version ",
        versions: Versions::ANY,
        read: section_version,
    },
    Phrase {
        begins: "is too new for local version_id ",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::SectionVersion {
                device: "a part of the state".to_owned(),
                incoming: None,
                own: Some(rest.small()?),
            })
        },
    },
    Phrase {
        begins: "Missing section footer for ",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::MissingFooter {
                device: Some(owned(device(rest)?)),
            })
        },
    },
    Phrase {
        begins: "Read section footer failed",
        versions: Versions::ANY,
        read: |_| Some(Symptom::MissingFooter { device: None }),
    },
    Phrase {
        begins: "Assertion failed: (",
        versions: Versions::ANY,
        read: |rest| {
            let assertion = owned(rest.until("), function ")?);
            Some(Symptom::Aborted {
                function: owned(rest.name()?),
                assertion,
            })
        },
    },
    Phrase {
        begins: "Size mismatch: ",
        versions: Versions::ANY,
        read: |rest| ram_size(rest, " != "),
    },
    Phrase {
        begins: "Length mismatch: ",
        versions: Versions::ANY,
        read: |rest| ram_size(rest, " in != "),
    },
    Phrase {
        begins: "Size too large: ",
        versions: Versions::ANY,
        read: |rest| ram_size(rest, " > "),
    },
    Phrase {
        begins: "Mismatched RAM page size ",
        versions: Versions::ANY,
        read: ram_page_size,
    },
    Phrase {
        begins: "Unknown ramblock \"",
        versions: Versions::ANY,
        read: |rest| {
            Some(Symptom::UnknownRamBlock {
                block: owned(rest.until("\"")?),
            })
        },
    },
    Phrase {
        begins: "Machine type received is '",
        versions: Versions::ANY,
        read: |rest| {
            let incoming = owned(rest.until("' and local is '")?);
            Some(Symptom::MachineType {
                incoming,
                own: owned(rest.until("'")?),
            })
        },
    },
    Phrase {
        begins: "Capability ",
        versions: Versions::ANY,
        read: |rest| {
            let name = owned(rest.until(" is ")?);
            rest.until(", but received capability is ")?;
            Some(Symptom::Capability { name })
        },
    },
    Phrase {
        begins: "Received TARGET_PAGE_BITS is ",
        versions: Versions::ANY,
        read: |_| {
            Some(Symptom::Capability {
                name: "the size of a target page".to_owned(),
            })
        },
    },
    Phrase {
        begins: "Features 0x",
        versions: Versions::ANY,
        read: |rest| {
            let incoming = rest.hexadecimal()?;
            rest.eat(" unsupported. Allowed features: ")?;
            Some(Symptom::VirtioFeatures {
                incoming,
                allowed: rest.hexadecimal()?,
            })
        },
    },
    Phrase {
        begins: "get_pci_config_device: Bad config data",
        versions: Versions::ANY,
        read: |rest| {
            let offset = rest.eat(": i=0x").and_then(|()| rest.hexadecimal());
            Some(Symptom::PciConfig { offset })
        },
    },
    Phrase {
        begins: "_DEVICE_ATTR failed: Group ",
        versions: Versions::ANY,
        read: device_attribute,
    },
    Phrase {
        begins: "Not a migration stream",
        versions: Versions::ANY,
        read: |_| Some(Symptom::NotAStream),
    },
    Phrase {
        begins: "Unsupported migration stream version",
        versions: Versions::ANY,
        read: |_| Some(Symptom::NotAStream),
    },
    Phrase {
        begins: "KVM in this kernel does not support PSCI version ",
        versions: Versions::since(11, 0),
        read: |rest| {
            Some(Symptom::NoSuchPsci {
                version: owned(rest.name()?.trim_end_matches('.')),
            })
        },
    },
    Phrase {
        begins: "Consider setting the kvm-psci-version property on the migration source",
        versions: Versions::since(11, 0),
        read: |_| Some(Symptom::PsciHint),
    },
    Phrase {
        begins: "kvm_arch_init_vcpu failed (",
        versions: Versions::ANY,
        read: |rest| {
            rest.until("): ")?;
            Some(Symptom::VcpuInit {
                error: rest.error(),
            })
        },
    },
];

/// ``FILE:LINE: FUNCTION: Assertion `WHAT' failed.``: glibc's, whose function stands before the words. macOS's is a phrase.
fn assertions(line: &str) -> Vec<(usize, Said)> {
    line.match_indices(": Assertion `")
        .take(MOST_IN_A_LINE)
        .filter_map(|(at, words)| {
            // A C++ compiler's function has its types, `int f(State *)`.
            let before = line[..at].rsplit(": ").next()?;
            let name = before.split('(').next()?.rsplit([' ', ':']).next()?;
            let function = before.get(before.find(name)?..)?;
            let assertion = Rest(&line[at + words.len()..]).until("' failed")?;
            let said = Said {
                symptom: Symptom::Aborted {
                    function: owned(function),
                    assertion: owned(assertion),
                },
                speaker: Speaker::QEMU,
                versions: Versions::ANY,
            };
            (!function.is_empty()).then_some((at, said))
        })
        .collect()
}

fn too_many(rest: &mut Rest<'_>) -> Option<Symptom> {
    let incoming = rest.number()?;
    rest.eat(" expecting positive value <= ")?;
    Some(Symptom::TooMany {
        incoming,
        own: rest.number()?,
    })
}

/// `cpu:cpreg_vmstate_array_len`, `0000:00:02.0/virtio-net:virtio`, `cpu:regs[3]`
fn field_failed(rest: &mut Rest<'_>) -> Option<Symptom> {
    let (section, field) = device(rest)?.rsplit_once(':')?;
    let is_field = field.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && !section.is_empty()
        && !section.contains("//")
        && !section.starts_with('/');
    is_field.then(|| Symptom::FieldFailed {
        section: owned(section),
        field: owned(field),
    })
}

/// QEMU's name of a device, which may have colons; not those behind it.
fn device<'a>(rest: &mut Rest<'a>) -> Option<&'a str> {
    let end = rest
        .0
        .find(|character: char| character.is_whitespace() || "'\"\\,;()".contains(character))
        .unwrap_or(rest.0.len());
    let name = cut(&rest.0[..end], LONGEST_DEVICE).trim_end_matches([':', '.']);
    rest.0 = &rest.0[name.len()..];
    (!name.is_empty()).then_some(name)
}

fn only_in_input(rest: &mut Rest<'_>) -> Option<Symptom> {
    let register = NamedRegister::read(rest.until(" in the incoming stream")?);
    Some(Symptom::OnlyInInput { register })
}

fn only_at_destination(rest: &mut Rest<'_>) -> Option<Symptom> {
    let register = NamedRegister::read(rest.until(" expected by the destination")?);
    Some(Symptom::OnlyAtDestination { register })
}

/// `REG: unknown to KVM`, `REG to VALUE (is VALUE)`, `REG to VALUE: ERROR`, `REG: ERROR`; values without 0x.
fn could_not_set(rest: &mut Rest<'_>) -> Option<Symptom> {
    let mut ahead = *rest;
    if let Some(name) = ahead.until(": unknown to KVM") {
        return Some(Symptom::UnknownToKvm {
            register: NamedRegister::read(name),
            value: None,
        });
    }
    let mut ahead = *rest;
    if let Some(name) = ahead.until(" to ") {
        let register = NamedRegister::read(name);
        let value = ahead.hexadecimal();
        let is = ahead.until("(is ").and_then(|_| ahead.hexadecimal());
        let error = match is {
            Some(_) => Some(Errno::EINVAL),
            None => ahead.until(": ").and_then(|_| ahead.error()),
        };
        return Some(Symptom::NotTaken {
            register,
            value,
            is,
            error,
        });
    }
    // Parts of a name have colons too, without a space behind.
    let name = rest.until(": ")?;
    Some(Symptom::NotTaken {
        register: NamedRegister::read(name),
        value: None,
        is: None,
        error: rest.error(),
    })
}

fn put_failed(rest: &mut Rest<'_>) -> Option<Symptom> {
    let stage = owned(rest.until(": ")?);
    Some(Symptom::PutFailed {
        stage,
        error: rest.error(),
    })
}

fn section_failed(rest: &mut Rest<'_>) -> Option<Symptom> {
    let instance = rest.hexadecimal().and_then(|it| u32::try_from(it).ok());
    rest.eat(" of device '")?;
    Some(Symptom::SectionFailed {
        device: owned(rest.until("'")?),
        instance,
    })
}

/// `2(ram)`: of a section that comes in parts.
fn live_section_failed(rest: &mut Rest<'_>) -> Option<Symptom> {
    rest.number()?;
    rest.eat("(")?;
    Some(Symptom::SectionFailed {
        device: owned(rest.until(")")?),
        instance: None,
    })
}

fn load_failed(rest: &mut Rest<'_>) -> Symptom {
    let error = rest.eat(": ").and_then(|()| rest.error());
    Symptom::LoadFailed { error }
}

/// Of `loadvm`: `-22 while loading VM state`.
fn snapshot_failed(rest: &mut Rest<'_>) -> Option<Symptom> {
    let number = rest.number()?;
    rest.eat(" while loading VM state")?;
    let error = number
        .checked_neg()
        .and_then(|number| u16::try_from(number).ok())
        .map(Errno);
    Some(Symptom::LoadFailed { error })
}

fn hook_failed(rest: &mut Rest<'_>, before: bool) -> Option<Symptom> {
    // The name has quotes in some versions.
    let _ = rest.eat("'");
    Some(Symptom::HookFailed {
        section: owned(rest.name()?),
        before,
    })
}

fn unknown_subsection(rest: &mut Rest<'_>) -> Option<Symptom> {
    let name = owned(rest.until("' in '")?);
    let section = owned(rest.until("'")?);
    rest.eat(" does not exist")?;
    Some(Symptom::UnknownSubsection { name, section })
}

fn unknown_section(rest: &mut Rest<'_>) -> Option<Symptom> {
    let device = owned(rest.until("'")?);
    let instance = rest.eat(" ").and_then(|()| rest.small());
    Some(Symptom::UnknownSection { device, instance })
}

/// `22 for 'cpu' v21`
fn section_version(rest: &mut Rest<'_>) -> Option<Symptom> {
    let incoming = rest.small();
    rest.eat(" for '")?;
    let device = owned(rest.until("'")?);
    let own = rest.eat(" v").and_then(|()| rest.small());
    Some(Symptom::SectionVersion {
        device,
        incoming,
        own,
    })
}

fn ram_size(rest: &mut Rest<'_>, between: &str) -> Option<Symptom> {
    let block = owned(rest.until(": ")?);
    let incoming = rest.hexadecimal()?;
    rest.eat(between)?;
    Some(Symptom::RamSize {
        block,
        incoming,
        own: rest.hexadecimal()?,
    })
}

/// `mach-virt.ram (local) 4096 != 65536`
fn ram_page_size(rest: &mut Rest<'_>) -> Option<Symptom> {
    let block = owned(rest.until(" (local) ")?);
    let own = rest.unsigned()?;
    rest.eat(" != ")?;
    Some(Symptom::RamPageSize {
        block,
        incoming: rest.unsigned()?,
        own,
    })
}

/// `4 attr 0x0000000000000001: Invalid argument`
fn device_attribute(rest: &mut Rest<'_>) -> Option<Symptom> {
    let group = rest.small()?;
    rest.eat(" attr ")?;
    let attribute = rest.hexadecimal()?;
    let error = rest.eat(": ").and_then(|()| rest.error());
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
        let without = without_secrets(said);
        assert!(
            !without.contains("5ec2e7") && !without.contains("5ec2e8"),
            "{without}"
        );
        assert!(without.contains("to 5ec2e9 (is 7)") && without.lines().count() == 3);
    }
}
