//! Reports: a VM without RAM and secrets, as JSON.
#![no_main]

use std::io::Read as _;

use cpreg_report::vm_report::VmReport;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    let Ok(report) = VmReport::from_json(json) else {
        return;
    };
    let _ = report.redacted_registers().expect("a valid report");
    if let Ok(stream) = report.stream() {
        let mut bytes = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut bytes);
    }
    let written = report.to_json().expect("a valid report");
    VmReport::from_json(written.as_bytes()).expect("the written report");
});
