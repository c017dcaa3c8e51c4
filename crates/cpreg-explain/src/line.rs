//! Parser of a line, whichever program printed it.

use alloc::vec::Vec;

use crate::message::{Statement, Symptom};
use crate::pattern::{PrefixIndex, Scanner, unescape};
use crate::{
    cloud_hypervisor, command_line, firecracker, front_end, gem5, kernel_log, libvirt, qemu,
    register_mention, snapshot, virtualization,
};
use crate::{pattern::PatternTable, qemu::assertion};

const TABLES: &[PatternTable] = &[
    qemu::TABLES[0],
    qemu::TABLES[1],
    qemu::TABLES[2],
    qemu::TABLES[3],
    libvirt::TABLE,
    firecracker::TABLE,
    cloud_hypervisor::TABLE,
    command_line::TABLE,
    kernel_log::TABLE,
    virtualization::TABLE,
    gem5::TABLE,
];

/// Parses the statements in a line, in order, whichever program printed the line. Returns an empty
/// list for an unknown line.
///
/// # Examples
///
/// ```
/// use cpreg_explain::{Symptom, parse_line};
///
/// let statements = parse_line("panic: KVM: Failed to set register (0x603000000013808c)");
/// assert!(matches!(statements[0].symptom, Symptom::RegisterMention { .. }));
/// ```
pub fn parse_line(line: &str) -> Vec<Statement> {
    static SCANNER: Scanner = Scanner::new(TABLES);
    let line = unescape(line);
    let mut statements = SCANNER.scan(&line);
    statements.extend(assertion::parse_glibc(&line));
    statements.retain(|(_, statement)| qemu::is_plausible(&line, &statement.symptom));
    statements.extend(front_end::parse(&line));
    let names_register = statements
        .iter()
        .any(|(_, statement)| statement.symptom.register().is_some());
    if !names_register {
        statements.extend(register_mention::parse(&line));
    }
    statements.sort_by_key(|(at, _)| *at);
    statements
        .into_iter()
        .map(|(_, statement)| statement)
        .collect()
}

/// Returns `true` if a line may contain a statement, or the form of an error of a VMM.
///
/// The check is much faster than [`parse_line`], and needs no valid UTF-8. Most lines of a log fail
/// it.
pub fn may_matter(line: &[u8]) -> bool {
    static INDEX: PrefixIndex = {
        let mut index = PrefixIndex::new();
        index.add_tables(TABLES);
        index.add_words(register_mention::WORDS);
        index.add_words(&[assertion::GLIBC]);
        index.add_words(&qemu::ERROR_WORDS);
        index.add_words(&snapshot::ERROR_WORDS);
        front_end::add_words(&mut index);
        index
    };
    INDEX.may_occur(line)
}

/// Returns `true` if the statements only state settings, which are no failure.
pub fn is_setting_only(statements: &[Statement]) -> bool {
    statements
        .iter()
        .all(|statement| matches!(statement.symptom, Symptom::Setting(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::redact_secrets;

    /// A line of an unknown form keeps no number that may be a key.
    #[test]
    fn mentioned_keys_are_redacted() {
        for (line, expected) in [
            (
                "set 0x603000000013c108 to 0x1234567890abcdef",
                "set 0x603000000013c108 to (secret)",
            ),
            (
                "603000000013c108=81985529216486895",
                "603000000013c108=(secret)",
            ),
            (
                "603000000013c108=1234567890abcdef01",
                "603000000013c108=(secret)",
            ),
            (
                "603000000013c108: 12345678 0",
                "603000000013c108: (secret) 0",
            ),
        ] {
            let statements = parse_line(line);
            assert!(!statements.is_empty(), "{line}");
            assert_eq!(redact_secrets(line, &statements), expected, "{line}");
        }
        let other = "set 0x603000000013c600 to 0x1234567890abcdef";
        assert_eq!(redact_secrets(other, &parse_line(other)), other);
    }

    #[test]
    fn every_parsed_line_matters() {
        for line in [
            "x: Invalid value 258 expecting positive value <= 256",
            "ERROR:../target/arm/machine.c:1:cpu_pre_load: assertion failed: (x)",
            "a.c:1: f: Assertion `x' failed.",
            "TASK ERROR: start failed: QEMU exited with code 1",
            "reg 6931039826523241728 x",
            "qemu-kvm: -device x: no such device",
        ] {
            assert!(may_matter(line.as_bytes()), "{line}");
        }
        assert!(!may_matter(
            b"Nov 22 22:14:03 host systemd[1]: Started Session 5 of User root."
        ));
    }
}
