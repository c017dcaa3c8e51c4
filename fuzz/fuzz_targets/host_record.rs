//! Recorded hosts, as `cpreg probe kvm` writes them.
#![no_main]

use cpreg::destination::Features;
use cpreg::destination::loader::Program;
use cpreg_hosts::HostRecord;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(record) = HostRecord::from_json(json) else {
        return;
    };
    let _ = record.identity.name();
    let _ = record.destination(Features::NONE, Program::QEMU);
    let written = record.to_json().expect("a valid record");
    let reread = HostRecord::from_json(written.as_bytes()).expect("the written record");
    assert_eq!(reread, record);
});
