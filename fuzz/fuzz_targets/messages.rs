//! Lines of a log: what they say, which failures they make, what those mean.
#![no_main]

use cpreg_explain::{LoadFailures, explain, qemu, snapshot, redact_secrets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let log = String::from_utf8_lossy(log);
    let mut failures = LoadFailures::default();
    for line in log.lines() {
        let mut said = qemu::parse(line);
        said.extend(snapshot::parse(line));
        let _ = qemu::looks_like_an_error(line);
        let _ = snapshot::looks_like_an_error(line);
        let _ = redact_secrets(line, &said);
        failures.add(line, said);
    }
    let (failures, _) = failures.finish();
    for failure in &failures {
        let _ = explain(failure);
    }
});
