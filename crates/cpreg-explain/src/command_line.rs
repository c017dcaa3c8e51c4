//! Options of QEMU's command line in a log, which decide the list of registers.
//!
//! libvirt writes QEMU's command line to the VM's log; users paste it with the error.

use cpreg::destination::Accelerator;

use crate::message::{Emitter, Setting, Symptom};
use crate::pattern::{Cursor, Pattern, PatternTable, to_name};

/// Table of the options.
pub(crate) const TABLE: PatternTable = PatternTable {
    emitter: Emitter::QEMU,
    patterns: PATTERNS,
};

const PATTERNS: &[Pattern] = &[
    Pattern::for_any_version("-accel ", parse_accelerator),
    Pattern::for_any_version("accel=", parse_accelerator),
    Pattern::for_any_version("-enable-kvm", |_| Some(accelerator(Accelerator::Kvm))),
    Pattern::for_any_version("-cpu ", parse_cpu_model),
    // QEMU's program for 32-bit guests runs under TCG only on arm64 hosts.
    Pattern::for_any_version("qemu-system-arm: ", |_| Some(accelerator(Accelerator::Tcg))),
    Pattern::for_any_version("qemu-kvm: ", |_| Some(accelerator(Accelerator::Kvm))),
];

/// Parses `kvm`, `tcg,thread=multi` or `hvf`. A list, `kvm:tcg`, decides nothing.
fn parse_accelerator(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let name = rest.parse_name()?;
    if rest.0.starts_with(':') {
        return None;
    }
    Some(accelerator(match name {
        "kvm" => Accelerator::Kvm,
        "tcg" => Accelerator::Tcg,
        "hvf" => Accelerator::Hvf,
        _ => return None,
    }))
}

fn parse_cpu_model(rest: &mut Cursor<'_>) -> Option<Symptom> {
    let name = rest.parse_name()?;
    let is_model = name.starts_with(|first: char| first.is_ascii_lowercase());
    is_model.then(|| Symptom::Setting(Setting::CpuModel(to_name(name))))
}

const fn accelerator(accelerator: Accelerator) -> Symptom {
    Symptom::Setting(Setting::Accelerator(accelerator))
}
