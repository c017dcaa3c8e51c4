//! Seeds of documents and messages.

use std::fs;
use std::path::Path;

use cpreg::destination::Features;
use cpreg::destination::loader::Program;
use cpreg_hosts::{HostIndex, HostRecord};
use cpreg_report::vm_report::{RedactedRegister, Redactions, StreamSummary, VmReport};
use wheels::Result;

use super::seed::Seed;

/// Maximum number of registers of each guest in a seed.
const MAX_REGISTERS: usize = 24;

/// Returns recorded hosts with few registers.
fn hosts() -> Result<Vec<HostRecord>> {
    let index = HostIndex::built_in()?;
    let shortened = index.hosts().into_iter().map(|host| {
        let mut record = host.record();
        while record.guests.len() > 2 {
            record.guests.pop_last();
        }
        for guest in record.guests.values_mut() {
            // Take registers from all over the list, so that all classes occur.
            let step = guest.registers.len().div_ceil(MAX_REGISTERS).max(1);
            guest.registers = guest.registers.iter().step_by(step).cloned().collect();
        }
        record
    });
    Ok(shortened.step_by(8).collect())
}

pub(super) fn host_records() -> Result<Vec<Seed>> {
    let texts = hosts()?.into_iter().map(|host| host.to_json());
    Ok(texts
        .map(|text| text.map(String::into_bytes))
        .collect::<std::result::Result<_, _>>()?)
}

pub(super) fn profiles() -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for host in hosts()? {
        let features = host.guests.keys().next().copied();
        let features = features.unwrap_or(Features::NONE);
        let profile = host.profile(features, Program::QEMU)?;
        seeds.push(profile.to_json()?.into_bytes());
    }
    Ok(seeds)
}

pub(super) fn reports(streams: &[Seed]) -> Result<Vec<Seed>> {
    let redactions = Redactions {
        registers: vec![RedactedRegister {
            id: "0x603000000013c108".to_owned(),
            name: "APIAKEYLO_EL1".to_owned(),
        }],
        ..Redactions::default()
    };
    let mut seeds = Vec::new();
    for stream in streams.iter().step_by(8) {
        let part = &stream[..stream.len().min(2048)];
        let report = VmReport::new("0.1.0", StreamSummary::default(), redactions.clone(), part)?;
        seeds.push(report.to_json()?.into_bytes());
    }
    Ok(seeds)
}

/// Returns the messages of recorded and reported logs: each paragraph of the files is a seed.
pub(super) fn messages(root: &Path) -> Result<Vec<Seed>> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(root.join("tests/fixtures/words"))? {
        let text = fs::read_to_string(entry?.path())?;
        for part in text.split("\n\n") {
            let lines = part.lines().filter(|line| !line.starts_with('#'));
            let lines: Vec<&str> = lines.collect();
            if !lines.is_empty() {
                seeds.push(lines.join("\n").into_bytes());
            }
        }
    }
    seeds.sort();
    seeds.dedup();
    Ok(seeds)
}

pub(super) fn qmp() -> Vec<Seed> {
    const GREETING: &str = concat!(
        r#"{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "#,
        r#""package": "Debian 1:10.0.13+ds-0+deb13u1"}, "capabilities": ["oob"]}}"#,
    );
    const EVENT: &str = concat!(
        r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "#,
        r#""data": {"status": "active"}}"#,
    );
    let negotiated = r#"{"return": {}, "id": 1}"#;
    let status = r#"{"return": {"status": "running", "running": true}, "id": 2}"#;
    let refused = r#"{"id": 3, "error": {"class": "GenericError", "desc": "no"}}"#;
    let messages: [&[&str]; 4] = [
        &[GREETING, negotiated, status, refused, EVENT],
        &[GREETING, EVENT, negotiated, EVENT, status, ""],
        &[GREETING, negotiated, refused],
        &["SSH-2.0-OpenSSH"],
    ];
    messages
        .map(|lines| (lines.join("\r\n") + "\r\n").into_bytes())
        .to_vec()
}

pub(super) fn return_paths() -> Vec<Seed> {
    // PONG 1, a request for a page, SHUT 0.
    const MESSAGES: &[u8] =
        b"\0\x02\0\x04\0\0\0\x01\0\x04\0\x0c\0\0\0\0\0\0\x10\0\0\0\x10\0\0\x01\0\x04\0\0\0\0";
    [0, 2, 255]
        .map(|size| [&[size][..], MESSAGES].concat())
        .to_vec()
}

pub(super) fn tolerances() -> Vec<Seed> {
    const FILE: &str = r#"
[[tolerance]]
registers = ["TCR2_EL1", "0x603000000013c103"]
difference = "source-only"
handling = "ignore"
when = { value = "0x0", mask = "0xffff" }
accelerator = "kvm"
reason = "our guests never set it"

[[tolerance]]
registers = ["S3_0_C2_C0_3"]
difference = "value-not-accepted"
handling = "set 0x10"
when = { register = "ID_AA64MMFR3_EL1", value = "0x0", mask = "0xf" }
reason = "no guest has it"
advice = "upgrade the kernel"
"#;
    vec![FILE.as_bytes().to_vec()]
}
