//! Lines of a log: the statements parsed from them, the failures, and the explanations.
#![no_main]

use cpreg_explain::{LoadFailures, explain, parse_line, qemu, redact_secrets, snapshot};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let log = String::from_utf8_lossy(log);
    let mut failures = LoadFailures::default();
    for line in log.lines() {
        let statements = parse_line(line);
        let _ = qemu::looks_like_an_error(line);
        let _ = snapshot::looks_like_an_error(line);
        let _ = redact_secrets(line, &statements);
        failures.add(line, statements);
    }
    let (failures, _) = failures.finish();
    for failure in &failures {
        let _ = explain(failure);
    }
});
