//! Lines of a log: what they say, which failures they make, what those mean.
#![no_main]

use cpreg_explain::{Failures, explain, qemu, snapshot, without_secrets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let log = String::from_utf8_lossy(log);
    let mut failures = Failures::default();
    for line in log.lines() {
        let mut said = qemu::read(line);
        said.extend(snapshot::read(line));
        let _ = qemu::looks_like_an_error(line);
        let _ = snapshot::looks_like_an_error(line);
        let _ = without_secrets(line, &said);
        failures.add(line, said);
    }
    let (failures, _) = failures.finish();
    for failure in &failures {
        let _ = explain(failure);
    }
});
