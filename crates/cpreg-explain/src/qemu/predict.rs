//! Predicted lines: what each version of QEMU prints for what it does. [`super::read`] reads them back.
//!
//! What a loader does is decided in [`cpreg::destination::load`]; this only knows how each version puts it. Lines come without
//! the program's name before them.
//!
//! | event | to 10.x | 11.0 and later |
//! |---|---|---|
//! | too many registers | two lines, the section's failure, the load's | – |
//! | only in the input | nothing | `handle_cpreg_only_in_incoming_stream: …` |
//! | only at the destination | nothing | `warning: handle_cpreg_missing_in_incoming_stream: …` |
//! | a value is refused | nothing | `Could not set register …` |
//! | the section fails | `error while loading state for instance …` | part of the last line |
//!
//! Sources: what 5.2.0, 7.2.22, 10.0.13 and 11.1.3 printed (recorded), and QEMU's `target/arm/kvm.c` of v11.0.3.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use cpreg::destination::load::{LoadEvent, LoadStep, SimulatedLoad};
use cpreg::destination::{Accelerator, Loader, Version};
use cpreg::register::{RegisterId, Value};

/// The lines that a loader would print for what it does.
pub fn predicted_lines(
    loader: Loader,
    accelerator: Accelerator,
    load: &SimulatedLoad,
) -> Vec<String> {
    let words = MessageFormatter {
        loader,
        accelerator,
    };
    load.events
        .iter()
        .flat_map(|event| words.format_event(event))
        .collect()
}

/// The first version that names registers and puts everything else into the last line.
const FIRST_WITH_REGISTER_NAMES: Version = Version::new(11, 0);

struct MessageFormatter {
    loader: Loader,
    accelerator: Accelerator,
}

impl MessageFormatter {
    fn format_event(&self, event: &LoadEvent) -> Vec<String> {
        let line = match event {
            LoadEvent::TooManyRegisters {
                incoming,
                listed: own,
                ..
            } => {
                return vec![
                    format!("Invalid value {incoming} expecting positive value <= {own}"),
                    "Failed to load cpu:cpreg_vmstate_array_len".to_owned(),
                ];
            }
            LoadEvent::OnlyInInput { id, .. } => format!(
                "handle_cpreg_only_in_incoming_stream: {} in the incoming stream but unknown on \
                 the destination: fail migration",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::OnlyAtDestination { id, .. } => format!(
                "warning: handle_cpreg_missing_in_incoming_stream: {} expected by the destination \
                 but not in the incoming stream: skip it",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::ValueNotTaken {
                id,
                value,
                current: is,
                ..
            } => format!(
                "Could not set register {} to {} (is {})",
                register_name(*id, self.accelerator),
                bare_hex(Some(value)),
                bare_hex(is.as_ref())
            ),
            LoadEvent::RegisterHidden { id, .. } => format!(
                "Could not set register {}: unknown to KVM",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::SectionFailed { vcpu } => {
                format!("error while loading state for instance {vcpu:#x} of device 'cpu'")
            }
            LoadEvent::LoadFailed { vcpu, step } => self.format_load_failed(*vcpu, step),
            // Its line number is that of one release.
            LoadEvent::AbortOnSubsection { .. } if self.loader.version == Version::new(10, 0) => {
                "migration/vmstate.c:172: vmstate_load_state: Assertion `first_elem || !n_elems \
                 || !size' failed."
                    .to_owned()
            }
            LoadEvent::AbortOnWrite { .. } if self.loader.version == Version::new(5, 2) => {
                "../../target/arm/helper.c:1948: pmevcntr_rawwrite: Assertion `counter < \
                 pmu_num_counters(env)' failed."
                    .to_owned()
            }
            LoadEvent::PutFailed => {
                "Failed to put registers after init: Invalid argument".to_owned()
            }
            _ => return Vec::new(),
        };
        vec![line]
    }

    fn format_load_failed(&self, vcpu: usize, step: &LoadStep) -> String {
        if self.loader.version >= FIRST_WITH_REGISTER_NAMES {
            let why = match step {
                LoadStep::Extension(name) => format_unknown_subsection(name),
                _ => "post load hook failed for: cpu, version_id: 22, minimum_version: 22, ret: -1"
                    .to_owned(),
            };
            return format!(
                "load of migration failed: Invalid argument: error while loading state for \
                 instance {vcpu:#x} of device 'cpu': {why}"
            );
        }
        let why = match step {
            LoadStep::Fields => "Invalid argument",
            LoadStep::Registers => "Operation not permitted",
            LoadStep::Extension(_) => "No such file or directory",
        };
        format!("load of migration failed: {why}")
    }
}

/// How 11.0 and later say that there is no such subsection: each one that it is inside of failed too.
fn format_unknown_subsection(name: &str) -> String {
    let slashes: Vec<_> = name.match_indices('/').map(|(at, _)| at).collect();
    let mut within = slashes.first().map_or(name, |at| &name[..*at]);
    let mut text = String::new();
    for at in slashes.iter().skip(1) {
        let outer = &name[..*at];
        let _ = write!(
            text,
            "Loading VM subsection '{outer}' in '{within}' failed: "
        );
        within = outer;
    }
    text + &format!("VM subsection '{name}' in '{within}' does not exist")
}

fn bare_hex(value: Option<&Value>) -> String {
    match value.and_then(Value::as_u64) {
        Some(value) => format!("{value:x}"),
        None => "?".to_owned(),
    }
}

/// A register as QEMU 11 names it.
///
/// Under TCG it prints its internal key, which it makes of whatever id arrives: the lower half, and marks for 64-bit Arm, or for
/// a wide AArch32 register and its bank. It has one bank only, and marks it as the non-secure one.
pub fn register_name(id: RegisterId, accelerator: Accelerator) -> String {
    const ARM64: u64 = 0x60;
    const WIDE: u64 = 3;
    let raw = id.raw();
    if accelerator != Accelerator::Kvm {
        let mark = match (raw >> 56, raw >> 52 & 15) {
            (ARM64, _) => 1 << 28,
            (_, WIDE) => 1 << 29 | 1 << 15,
            _ => 1 << 29,
        };
        return format!("system register {:#x}", raw & 0xffff_ffff | mark);
    }
    let low = raw & 0xffff;
    match raw >> 16 & 0xfff {
        0x13 => format!(
            "system register op0:{} op1:{} crn:{} crm:{} op2:{}",
            low >> 14 & 3,
            low >> 11 & 7,
            low >> 7 & 15,
            low >> 3 & 15,
            low & 7
        ),
        0x14 => format!("fw reg {low}"),
        0x16 => format!("fw feat reg {low}"),
        0x11 => format!("demuxed reg {raw:x}"),
        _ => format!("register {raw:x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_names_any_id_by_its_key() {
        let name = |raw| register_name(RegisterId::from_raw(raw), Accelerator::Tcg);
        for (raw, key) in [
            (0x6030_0000_0013_c030, "0x1013c030"),
            (0x6030_0000_0014_0003, "0x10140003"),
            (0x6020_0000_0011_000c, "0x1011000c"),
            (0x4020_0000_000f_0663, "0x200f0663"),
            (0x4030_0000_200f_0564, "0x200f8564"),
        ] {
            assert_eq!(name(raw), format!("system register {key}"));
        }
    }

    #[test]
    fn an_unknown_subsection_fails_what_it_is_in() {
        assert_eq!(
            format_unknown_subsection("cpu/nobody"),
            "VM subsection 'cpu/nobody' in 'cpu' does not exist"
        );
        assert_eq!(
            format_unknown_subsection("cpu/vfp/nobody"),
            "Loading VM subsection 'cpu/vfp' in 'cpu' failed: VM subsection 'cpu/vfp/nobody' in \
             'cpu/vfp' does not exist"
        );
    }
}
