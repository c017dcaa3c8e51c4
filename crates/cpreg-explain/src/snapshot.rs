//! VMMs that keep snapshots of their own: Firecracker and Cloud Hypervisor.

use alloc::vec::Vec;

use crate::message::Statement;
use crate::pattern::unescape;
use crate::{cloud_hypervisor, firecracker};

/// What a line of any of them says, in its order; nothing if none of it is known.
pub fn parse(line: &str) -> Vec<Statement> {
    let line = unescape(line);
    let mut found = firecracker::parse(&line);
    found.extend(cloud_hypervisor::parse(&line));
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, said)| said).collect()
}

/// Whether a line looks like an error of one of them, understood or not.
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
