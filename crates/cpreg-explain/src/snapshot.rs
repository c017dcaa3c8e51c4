//! VMMs with their own snapshot formats: Firecracker and Cloud Hypervisor.

use alloc::vec::Vec;

use crate::message::Statement;
use crate::pattern::unescape;
use crate::{cloud_hypervisor, firecracker};

/// Parses the statements in a line of any of them, in order. Returns none if the line is unknown.
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

/// Returns `true` if a line looks like an error of one of them, known or not.
pub fn looks_like_an_error(line: &str) -> bool {
    const ERRORS: [&str; 8] = [
        "fault_message",
        "Load snapshot error",
        "Cannot restore microVM",
        "[anonymous-instance:main:ERROR",
        "cloud-hypervisor: ",
        "InternalServerError: ",
        "Error running command: ",
        "Server responded with an error",
    ];
    ERRORS.iter().any(|words| line.contains(words))
}
