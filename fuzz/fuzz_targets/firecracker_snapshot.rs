//! Snapshots of Firecracker. A snapshot that parses encodes to itself.
#![no_main]

use cpreg_snapshot::firecracker::Snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|state: &[u8]| {
    // The fuzzer changes the state; a wrong checksum would end each run.
    let mut bytes = state.to_vec();
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    let Ok(snapshot) = Snapshot::parse(bytes.clone()) else {
        return;
    };
    if let Ok(vm) = snapshot.vm() {
        assert_eq!(snapshot.convert(&vm).expect("no change"), bytes);
    }
});
