//! Firecracker and Cloud Hypervisor, the VMMs with their own snapshot formats.

use alloc::vec::Vec;

use crate::message::Statement;
use crate::pattern::unescape;
use crate::{cloud_hypervisor, firecracker};

/// Words of an error of either VMM.
pub(crate) const ERROR_WORDS: [&str; 8] = [
    "fault_message",
    "Load snapshot error",
    "Cannot restore microVM",
    "[anonymous-instance:main:ERROR",
    "cloud-hypervisor: ",
    "InternalServerError: ",
    "Error running command: ",
    "Server responded with an error",
];

/// Parses the statements of both VMMs in a line, in order. Returns an empty list for an unknown
/// line.
pub fn parse(line: &str) -> Vec<Statement> {
    let line = unescape(line);
    let mut statements = firecracker::parse(&line);
    statements.extend(cloud_hypervisor::parse(&line));
    statements.sort_by_key(|(at, _)| *at);
    statements
        .into_iter()
        .map(|(_, statement)| statement)
        .collect()
}

/// Returns `true` if a line has the form of an error of either VMM, even if cpreg does not know the
/// line.
pub fn looks_like_an_error(line: &str) -> bool {
    ERROR_WORDS.iter().any(|words| line.contains(words))
}
