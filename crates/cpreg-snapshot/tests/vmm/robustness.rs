//! Damaged files: an error, never a panic or an allocation that the file's size does not bound.

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::cloud_hypervisor;
use cpreg_snapshot::firecracker::Snapshot;

use crate::fixtures::{folder, read};

/// Bytes at both ends of a file whose every cut is tried.
const END_LEN: usize = 64 << 10;
const MUTATIONS: u32 = 10_000;

/// Files of each format.
const FIRECRACKER: [&str; 4] = [
    "firecracker/v1.10.1/6.12.107__neoverse-n1__v1.vmstate.xz",
    "firecracker/v1.14.4/6.12.107__neoverse-n1__v1.vmstate.xz",
    "firecracker/v1.16.1/6.12.107__neoverse-n1__v1.vmstate.xz",
    "firecracker/variants/v1.16.1-pcidev-v1__6.12.107__max.vmstate.xz",
];

/// Pseudo-random numbers of a fixed sequence (xorshift64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap();
        usize::try_from(self.next() % limit).unwrap()
    }
}

/// Changes up to four places of the bytes: a bit, a byte, or a number of eight bytes.
pub(crate) fn mutate(bytes: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        let offset = numbers.below(mutated.len());
        match numbers.below(4) {
            0 => mutated[offset] ^= 1 << numbers.below(8),
            1 => mutated[offset] = 0xff,
            2 => {
                let end = mutated.len().min(offset + 8);
                let values = [0, 1, u64::MAX, 1 << 32, 1 << 63, 0x7fff_ffff_ffff_ffff];
                let value = values[numbers.below(values.len())].to_le_bytes();
                mutated[offset..end].copy_from_slice(&value[..end - offset]);
            }
            _ => {
                let end = mutated.len().min(offset + 1 + numbers.below(16));
                mutated.drain(offset..end);
            }
        }
    }
    mutated
}

/// Returns a file with a correct checksum.
fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len().saturating_sub(8);
    bytes.truncate(end);
    let crc = crc::Crc::<u64>::new(&crc::CRC_64_REDIS).checksum(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn every_cut_of_a_firecracker_snapshot_is_an_error() {
    for name in FIRECRACKER {
        let bytes = read(&folder().join(name));
        for length in 0..bytes.len() {
            if length < END_LEN || bytes.len() - length < END_LEN {
                assert!(
                    Snapshot::parse(bytes[..length].to_vec()).is_err(),
                    "{name} {length}"
                );
            }
        }
    }
}

/// Parses mutated files with a correct checksum. A file that parses encodes to itself.
#[test]
fn mutated_firecracker_snapshots_are_an_error_or_encode_to_themselves() {
    for name in FIRECRACKER {
        let bytes = read(&folder().join(name));
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut parsed = 0;
        for _ in 0..MUTATIONS / 4 {
            let mutated = with_checksum(mutate(&bytes, &mut numbers));
            let Ok(snapshot) = Snapshot::parse(mutated.clone()) else {
                continue;
            };
            if let Ok(vm) = snapshot.vm() {
                assert_eq!(snapshot.convert(&vm).unwrap(), mutated);
                parsed += 1;
            }
        }
        // A mutation of a value is not visible to the parser.
        assert!(parsed > 100, "{name} {parsed}");
    }
}

#[test]
fn a_wrong_checksum_is_an_error() {
    for name in FIRECRACKER {
        let mut bytes = read(&folder().join(name));
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let error = Snapshot::parse(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.message().contains("checksum"), "{error}");
    }
}

/// A guest can imitate vCPUs in its registers. Such a file is refused.
#[test]
fn two_places_that_look_like_vcpus_are_refused() {
    let bytes = read(&folder().join(FIRECRACKER[1]));
    let state = &bytes[..bytes.len() - 8];
    let mut doubled = state.to_vec();
    doubled.extend_from_slice(&state[24..]);
    doubled.extend_from_slice(&[0; 8]);
    let error = Snapshot::parse(with_checksum(doubled)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("several"), "{error}");
}

#[test]
fn a_file_larger_than_firecracker_loads_is_refused() {
    let mut bytes = read(&folder().join(FIRECRACKER[1]));
    bytes.resize(10_000_001, 0);
    let error = Snapshot::open(&bytes.as_slice()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// A snapshot of Cloud Hypervisor with SVE.
fn cloud_hypervisor_state() -> Vec<u8> {
    read(&folder().join("cloud-hypervisor/v53.0/6.12.107__max__v1/state.json.xz"))
}

#[test]
fn every_cut_of_a_cloud_hypervisor_state_is_an_error() {
    let bytes = cloud_hypervisor_state();
    for length in 0..bytes.len() {
        let cut = bytes[..length].to_vec();
        assert!(cloud_hypervisor::Snapshot::parse(cut).is_err(), "{length}");
    }
}

#[test]
fn mutated_cloud_hypervisor_states_are_an_error_or_encode_to_themselves() {
    let bytes = cloud_hypervisor_state();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut parsed = 0;
    for _ in 0..MUTATIONS {
        let mutated = mutate(&bytes, &mut numbers);
        let Ok(snapshot) = cloud_hypervisor::Snapshot::parse(mutated.clone()) else {
            continue;
        };
        let Ok(vm) = snapshot.vm() else { continue };
        // The encoding of a string is not unique: another one is refused, not changed.
        match snapshot.convert(&vm) {
            Ok(bytes) => assert_eq!(bytes, mutated),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotAsPlanned, "{error}"),
        }
        parsed += 1;
    }
    assert!(parsed > 100, "{parsed}");
}

#[test]
fn deep_and_absurd_json_is_an_error() {
    let deep = |text: &str| text.repeat(100_000);
    for text in [
        deep("["),
        deep(r#"{"snapshots":"#),
        format!(
            r#"{{"snapshots":{{"cpu-manager":{}"#,
            deep("{\"snapshots\":")
        ),
        r#"{"snapshots":{"cpu-manager":{"snapshots":{}}}}"#.to_owned(),
        r#"{"snapshots":{"cpu-manager":{"snapshots":{"x":{}}}}}"#.to_owned(),
        r#"{"snapshots":{"cpu-manager":{"snapshots":{"0":{"snapshot_data":[256]}}}}}"#.to_owned(),
        r#"{"snapshots":{"cpu-manager":{"snapshots":{"0":{"snapshot_data":{"state":"{}"}}}}}}"#
            .to_owned(),
        "null".to_owned(),
    ] {
        assert!(cloud_hypervisor::Snapshot::parse(text.into_bytes()).is_err());
    }
    assert!(cloud_hypervisor::Snapshot::parse(vec![0xff; 64]).is_err());
}
