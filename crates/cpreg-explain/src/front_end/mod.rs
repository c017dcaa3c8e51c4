//! Lines of front ends: libvirt's tools, Proxmox VE, Incus, Multipass, UTM, OpenStack, KubeVirt,
//! Kata Containers and the Android emulator.

pub mod reports;

use alloc::vec::Vec;

use cpreg::destination::VersionRange;
use reports::REPORTS;

use crate::message::{Emitter, Statement, Symptom};
use crate::pattern::PrefixIndex;

/// Adds the first words of all reports to an index.
pub(crate) const fn add_words(index: &mut PrefixIndex) {
    let mut next = 0;
    while next < REPORTS.len() {
        index.add_words(&[REPORTS[next].prefix]);
        next += 1;
    }
}

/// Parses the reports of front ends in a line, each with its byte offset.
///
/// A line has at most one report of each front end.
pub(crate) fn parse(line: &str) -> Vec<(usize, Statement)> {
    static REPORT_INDEX: PrefixIndex = {
        let mut index = PrefixIndex::new();
        add_words(&mut index);
        index
    };
    let mut statements: Vec<(usize, Statement)> = Vec::new();
    for at in REPORT_INDEX.candidates(line.as_bytes()) {
        let Some(rest) = line.get(at..) else {
            continue;
        };
        for report in REPORTS {
            if !rest.starts_with(report.prefix) || !report.is_in(line) {
                continue;
            }
            let emitter = Emitter::front_end(report.front_end.name);
            if statements.iter().all(|(_, it)| it.emitter != emitter) {
                let statement = Statement {
                    symptom: Symptom::FrontEnd { report },
                    emitter,
                    versions: VersionRange::ANY,
                };
                statements.push((at, statement));
            }
        }
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_parsed() {
        for report in REPORTS {
            let word = report.context.first().copied().unwrap_or("x");
            let line = alloc::format!("12:00 {word}: {}", report.prefix);
            let found = parse(&line);
            assert!(
                found
                    .iter()
                    .any(|(_, it)| it.symptom == Symptom::FrontEnd { report }),
                "{line}"
            );
        }
    }
}
