//! `state.json` of Cloud Hypervisor. A state that parses encodes to itself, or is refused.
#![no_main]

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::cloud_hypervisor::Snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(snapshot) = Snapshot::parse(bytes.to_vec()) else {
        return;
    };
    let Ok(vm) = snapshot.vm() else {
        return;
    };
    match snapshot.convert(&vm) {
        Ok(written) => assert_eq!(written, bytes),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotAsPlanned),
    }
});
