//! Prediction of the lines that each version of QEMU prints for a load. [`super::parse`] is the
//! inverse.
//!
//! [`cpreg::destination::load`] simulates the load. This module adds only the messages of each
//! version. The lines do not begin with a program name.
//!
//! | event | to 10.x | 11.0 and later |
//! |---|---|---|
//! | too many registers | two lines, the section's failure, the load's | – |
//! | source only | nothing | `handle_cpreg_only_in_incoming_stream: …` |
//! | destination only | nothing | `warning: handle_cpreg_missing_in_incoming_stream: …` |
//! | a value is refused | nothing | `Could not set register …` |
//! | the section fails | `error while loading state for instance …` | part of the last line |
//!
//! Sources: recorded lines of 5.2.0, 7.2.22, 10.0.13 and 11.1.3, and QEMU's `target/arm/kvm.c` of
//! v11.0.3.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write as _;

use cpreg::destination::load::{LoadEvent, LoadStep, SimulatedLoad};
use cpreg::destination::{Accelerator, Loader, Version};
use cpreg::register::{RegisterId, Value};

/// Returns the lines that a loader would print during the simulated load.
pub fn predicted_lines(
    loader: Loader,
    accelerator: Accelerator,
    load: &SimulatedLoad,
) -> Vec<String> {
    let formatter = MessageFormatter {
        loader,
        accelerator,
    };
    load.events
        .iter()
        .flat_map(|event| formatter.format_event(event))
        .collect()
}

/// First version that names registers in messages, and prints all else in the last line.
const FIRST_WITH_REGISTER_NAMES: Version = Version::new(11, 0);

struct MessageFormatter {
    loader: Loader,
    accelerator: Accelerator,
}

impl MessageFormatter {
    fn format_event(&self, event: &LoadEvent) -> Vec<String> {
        let line = match event {
            LoadEvent::TooManyRegisters {
                incoming, listed, ..
            } => {
                return vec![
                    format!("Invalid value {incoming} expecting positive value <= {listed}"),
                    "Failed to load cpu:cpreg_vmstate_array_len".to_owned(),
                ];
            }
            LoadEvent::SourceOnly { id, .. } => format!(
                "handle_cpreg_only_in_incoming_stream: {} in the incoming stream but unknown on \
                 the destination: fail migration",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::DestinationOnly { id, .. } => format!(
                "warning: handle_cpreg_missing_in_incoming_stream: {} expected by the destination \
                 but not in the incoming stream: skip it",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::ValueNotAccepted {
                id, value, current, ..
            } => format!(
                "Could not set register {} to {} (is {})",
                register_name(*id, self.accelerator),
                bare_hex(Some(value)),
                bare_hex(current.as_ref())
            ),
            LoadEvent::RegisterHidden { id, .. } => format!(
                "Could not set register {}: unknown to KVM",
                register_name(*id, self.accelerator)
            ),
            LoadEvent::SectionFailed { vcpu } => {
                format!("error while loading state for instance {vcpu:#x} of device 'cpu'")
            }
            LoadEvent::LoadFailed { vcpu, step } => self.format_load_failed(*vcpu, step),
            // The line number in the message is that of one 10.0 release.
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
            // Group KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, S3_0_C12_C12_4 of vCPU 0.
            LoadEvent::AbortOnGic => {
                "KVM_SET_DEVICE_ATTR failed: Group 6 attr 0x000000000000c664: Invalid argument"
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
            let reason = match step {
                LoadStep::Extension(name) => format_unknown_subsection(name),
                _ => "post load hook failed for: cpu, version_id: 22, minimum_version: 22, ret: -1"
                    .to_owned(),
            };
            return format!(
                "load of migration failed: Invalid argument: error while loading state for \
                 instance {vcpu:#x} of device 'cpu': {reason}"
            );
        }
        let reason = match step {
            LoadStep::Fields => "Invalid argument",
            LoadStep::Registers => "Operation not permitted",
            LoadStep::Extension(_) => "No such file or directory",
        };
        format!("load of migration failed: {reason}")
    }
}

/// Returns the message of 11.0 and later about an unknown subsection. Every enclosing subsection
/// fails too, and adds to the message.
fn format_unknown_subsection(name: &str) -> String {
    let slashes: Vec<_> = name.match_indices('/').map(|(at, _)| at).collect();
    let mut parent = slashes.first().map_or(name, |at| &name[..*at]);
    let mut text = String::new();
    for at in slashes.iter().skip(1) {
        let outer = &name[..*at];
        let _ = write!(
            text,
            "Loading VM subsection '{outer}' in '{parent}' failed: "
        );
        parent = outer;
    }
    text + &format!("VM subsection '{name}' in '{parent}' does not exist")
}

fn bare_hex(value: Option<&Value>) -> String {
    match value.and_then(Value::as_u64) {
        Some(value) => format!("{value:x}"),
        None => "?".to_owned(),
    }
}

/// Returns QEMU 11's name of a register.
///
/// Under TCG QEMU prints its internal key, which QEMU derives from the id. The key is the lower
/// half of the id, with marks for 64-bit Arm, or for a wide AArch32 register and its bank. QEMU has
/// only one bank, and marks it as the non-secure bank.
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
    fn tcg_names_registers_by_key() {
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
    fn unknown_subsection_fails_enclosing_subsections() {
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
