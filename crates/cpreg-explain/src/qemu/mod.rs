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

pub(crate) mod assertion;
mod blocker;
mod patterns;
pub mod predict;
mod start;

use alloc::string::String;
use alloc::vec::Vec;

use crate::libvirt;
use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::{PatternTable, Scanner, unescape};
use crate::secrets;

/// Tables of QEMU's patterns.
pub(crate) const TABLES: [PatternTable; 4] = [
    table(patterns::PATTERNS),
    table(assertion::PATTERNS),
    table(blocker::PATTERNS),
    table(start::PATTERNS),
];

const fn table(patterns: &'static [crate::pattern::Pattern]) -> PatternTable {
    PatternTable {
        emitter: Emitter::QEMU,
        patterns,
    }
}

/// Parses the statements in a line, in order. Returns an empty list for an unknown line.
///
/// One line may contain several lines that a logger has joined.
pub fn parse(line: &str) -> Vec<Statement> {
    static SCANNER: Scanner =
        Scanner::new(&[TABLES[0], TABLES[1], TABLES[2], TABLES[3], libvirt::TABLE]);
    let line = unescape(line);
    let mut statements = SCANNER.scan(&line);
    statements.extend(assertion::parse_glibc(&line));
    statements.retain(|(_, statement)| is_plausible(&line, &statement.symptom));
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

/// Returns `false` if the words of the statement are common to many programs, and the line shows no
/// sign of QEMU.
pub(crate) fn is_plausible(line: &str, symptom: &Symptom) -> bool {
    const QEMU_SIGNS: [&str; 3] = ["qemu", "QEMU", "kvm: "];
    const QEMU_PATHS: [&str; 7] = [
        "target/arm/",
        "migration/",
        "hw/",
        "accel/",
        "softmmu/",
        "system/",
        "machine.c",
    ];
    let has_sign = || QEMU_SIGNS.iter().any(|sign| line.contains(sign));
    match symptom {
        Symptom::FieldFailed { section, .. } => {
            section == "cpu" || has_sign() || line.trim_start().starts_with("Failed to load ")
        }
        Symptom::Aborted { .. } => has_sign() || QEMU_PATHS.iter().any(|path| line.contains(path)),
        _ => true,
    }
}

/// Words that begin an error of QEMU or libvirt.
pub(crate) const ERROR_WORDS: [&str; 8] = [
    "qemu-system-aarch64: ",
    "qemu-system-arm: ",
    "qemu-kvm: ",
    "QEMU[",
    "kvm: ",
    "libvirt: ",
    "error: ",
    "internal error: ",
];

/// Returns `true` if a line has the form of an error of QEMU or libvirt, even if cpreg does not
/// know the line.
pub fn looks_like_an_error(line: &str) -> bool {
    const HARMLESS: [&str; 5] = [
        "kernel: ",
        "warning: ",
        "info: ",
        ": terminating on signal",
        "deprecated",
    ];
    let has_emitter = ERROR_WORDS.iter().any(|words| match *words {
        // A kernel's line `kvm: …` has a time in front, and other programs' lines have `error: `.
        "error: " => line.starts_with(words),
        "kvm: " => line.starts_with(words) || line.contains(" kvm: "),
        words => line.contains(words),
    });
    has_emitter && !HARMLESS.iter().any(|words| line.contains(words))
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
