//! Streams of every shape, opened by both methods, and the number of bytes read.

use crate::common::synthetic::SyntheticStream;
use crate::common::{Sparse, bytes, fixture};
use cpreg::destination::Accelerator;
use cpreg_stream::{CountingSource, OpenMethod, ReadAt};
use cpreg_stream::{ErrorKind, Stream};
use proptest::prelude::*;

#[test]
fn bytes_read_do_not_depend_on_ram() {
    let read = |mebibytes: u64| {
        let synthetic = SyntheticStream {
            pages: mebibytes * 256,
            ..SyntheticStream::default()
        };
        let stream = CountingSource::new(synthetic.source());
        let opened = Stream::open(&stream).unwrap();
        assert_eq!(*opened.open_method(), OpenMethod::Description);
        assert_eq!(opened.ram_blocks()[0].length, mebibytes << 20);
        (stream.bytes(), stream.calls())
    };
    let (small, calls) = read(64);
    assert!(small < 256 << 10, "{small} bytes read");
    assert!(calls < 100, "{calls} reads");
    for mebibytes in [512, 2048, 8192] {
        assert_eq!(read(mebibytes), (small, calls));
    }
}

#[test]
fn stream_of_256_vcpus_opens() {
    let synthetic = SyntheticStream {
        vcpus: 256,
        registers: 400,
        ..SyntheticStream::default()
    };
    let stream = CountingSource::new(synthetic.source());
    let opened = Stream::open(&stream).unwrap();
    assert_eq!(*opened.open_method(), OpenMethod::Description);
    assert_eq!(opened.cpus().len(), 256);
    // Each byte of device state is read a few times at most.
    assert!(
        stream.bytes() < 4 * stream.length().unwrap(),
        "{} bytes read",
        stream.bytes()
    );
    let last = &opened.vm().unwrap().vcpus[255];
    let id = cpreg::register::RegisterId::from_raw(crate::common::synthetic::id(399));
    assert_eq!(last.registers.get_u64(id), Some(399 * 3 + 255));
    assert_eq!(
        *Stream::verify(&stream).unwrap().open_method(),
        OpenMethod::Verified
    );
}

#[test]
fn stream_without_description_is_scanned() {
    let synthetic = SyntheticStream {
        description: false,
        ..SyntheticStream::default()
    };
    let stream = synthetic.source();
    let opened = Stream::open(&stream).unwrap();
    assert!(matches!(
        opened.open_method(),
        OpenMethod::FullScan { reason: Some(_) }
    ));
    assert_eq!(opened.record_counts().unwrap().page, 4);
    assert_eq!(opened.description(), None);
    let error = Stream::open_by_description(&stream).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoDescription);
}

#[test]
fn postcopy_package_is_opened() {
    let synthetic = SyntheticStream {
        postcopy: true,
        ..SyntheticStream::default()
    };
    let stream = Stream::open(&synthetic.source()).unwrap();
    let package = stream.package().unwrap().range.clone();
    for section in stream.sections() {
        assert!(package.start < section.range.start && section.range.end < package.end);
    }
    assert_eq!(stream.cpus().len(), 2);
    assert_eq!(stream.run_state(), Some("running"));
}

/// Packages the device state of a recorded stream as postcopy does.
#[test]
fn recorded_device_state_reads_the_same_in_a_package() {
    let source = fixture("kvm/7.3.4__q10.0__neoverse-n1__virt10.0-smp2-virtio");
    let recorded = Stream::open(&source).unwrap();
    let all = bytes(&source);
    let first = crate::common::index(recorded.sections()[0].range.start);
    let end = crate::common::index(recorded.end());
    let mut packaged = all[..first].to_vec();
    packaged.extend(b"\x08\0\x07\0\x04");
    let mut package = b"\x08\0\x04\0\0".to_vec();
    package.extend(&all[first..end - 1]);
    package.extend(b"\x08\0\x02\0\x04\0\0\0\x03\x08\0\x05\0\0");
    packaged.extend(u32::try_from(package.len()).unwrap().to_be_bytes());
    packaged.extend(&package);
    packaged.push(0);
    let stream = Stream::open(&packaged).unwrap();
    assert!(stream.package().is_some());
    assert_eq!(stream.vm().unwrap(), recorded.vm().unwrap());
    assert_eq!(stream.shape(), recorded.shape());
    assert_eq!(stream.accelerator(), Some(Accelerator::Kvm));
}

#[test]
fn errors_identify_other_machines_and_files() {
    let x86 = SyntheticStream {
        cpu_version: 12,
        ..SyntheticStream::default()
    };
    let without = SyntheticStream {
        vcpus: 0,
        ..SyntheticStream::default()
    };
    for open in [Stream::open, Stream::open_by_full_scan, Stream::verify] {
        let error = open(&x86.source()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotArm);
        assert!(error.to_string().contains("x86"), "{error}");
        assert_eq!(
            open(&without.source()).unwrap_err().kind(),
            ErrorKind::NotArm
        );
        assert_eq!(
            open(&Vec::new()).unwrap_err().to_string(),
            "at byte 0x0: the file is empty"
        );
    }
    let directory = std::fs::File::open(".").unwrap();
    let error = Stream::open(&directory).unwrap_err();
    assert_eq!(error.to_string(), "this is a directory");
    assert_eq!(error.hint(), Some("give the path of a file in it"));
}

/// Cuts a file just after pages that look like the end of a stream.
#[test]
fn verify_detects_a_cut_after_an_imitated_end() {
    let synthetic = SyntheticStream {
        pages: 64,
        ..SyntheticStream::default()
    };
    let whole = synthetic.bytes();
    let opened = Stream::open(&whole).unwrap();
    // Overwrite page records with the device sections and everything after them.
    let tail = &whole[crate::common::index(opened.sections()[0].range.start) - 13..];
    let mut cut = whole[..whole.len() - tail.len() - 40_000].to_vec();
    cut.extend(tail);
    let accepted = Stream::open(&cut).unwrap();
    assert_eq!(*accepted.open_method(), OpenMethod::Description);
    let error = Stream::verify(&cut).unwrap_err();
    assert_ne!(error.kind(), ErrorKind::NoDescription, "{error}");
}

/// Adds a second description whose length also matches the end of the file.
#[test]
fn matching_description_is_chosen_among_several() {
    let mut synthetic = SyntheticStream::default();
    let length = synthetic.bytes().len();
    // A device's payload contains bytes that look like the beginning of a description.
    let mut payload = b"\0\x06\0\0\0\0{\"devices\": []}".to_vec();
    synthetic.payloads.push(payload.clone());
    let bytes = synthetic.bytes();
    let at = bytes
        .windows(7)
        .position(|window| window == b"\0\x06\0\0\0\0{")
        .unwrap();
    let reach = u32::try_from(bytes.len() - at - 6).unwrap();
    payload[2..6].copy_from_slice(&reach.to_be_bytes());
    *synthetic.payloads.last_mut().unwrap() = payload;
    let bytes = synthetic.bytes();
    assert!(bytes.len() > length);
    assert_eq!(
        *Stream::verify(&bytes).unwrap().open_method(),
        OpenMethod::Verified
    );
}

#[test]
fn description_not_updated_by_an_edit_is_accepted() {
    let source =
        fixture("edited/6.12.107__q10.0__neoverse-n1__virt10.0-smp1-e1-drop-tcr2-pire0-pir");
    let stream = Stream::open(&source).unwrap();
    assert_eq!(*stream.open_method(), OpenMethod::Description);
    assert!(!stream.is_described_exactly());
    let whole = fixture("kvm/6.12.107__q10.0__neoverse-n1__virt10.0-smp1");
    let whole = Stream::open(&whole).unwrap();
    assert!(whole.is_described_exactly());
    assert_eq!(
        stream.cpus()[0].register_count() + 3,
        whole.cpus()[0].register_count()
    );
}

#[test]
fn sparse_sources_read_like_whole_ones() {
    let bytes: Vec<u8> = (0..300_000u32)
        .map(|offset| if offset % 100_000 < 50 { 7 } else { 0 })
        .collect();
    let sparse = Sparse::read(bytes.as_slice()).unwrap();
    for (start, length) in [(0, 300_000), (65_530, 20), (99_990, 70_000), (299_999, 1)] {
        let mut buffer = vec![1; length];
        sparse.read_exact_at(&mut buffer, start as u64).unwrap();
        assert_eq!(buffer, bytes[start..start + length]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn synthetic_streams_open_by_both_methods(
        vcpus in 1u32..5,
        registers in 0u32..60,
        early: bool,
        early_after_start: bool,
        snapshot: bool,
        postcopy: bool,
        description: bool,
        padding in prop_oneof![Just(0usize), 1usize..9000],
        pages in 0u64..6,
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
    ) {
        let synthetic = SyntheticStream {
            vcpus, registers, has_early_section: early, has_early_section_after_start: early_after_start, snapshot, postcopy, description, padding, pages, payloads,
            ..SyntheticStream::default()
        };
        let bytes = synthetic.bytes();
        let stream = Stream::verify(&bytes).unwrap();
        prop_assert_eq!(stream.cpus().len(), vcpus as usize);
        let is_verified = *stream.open_method() == OpenMethod::Verified;
        prop_assert_eq!(is_verified, description && !postcopy);
        let section_count = usize::from(early) + usize::from(early_after_start) + 2 * vcpus as usize + synthetic.payloads.len() + 1;
        prop_assert_eq!(stream.sections().len(), section_count);
        // An edit to the same state changes nothing, and each section contains its payload.
        let unchanged = stream.diff_to(&stream.vm().unwrap()).unwrap();
        prop_assert!(stream.edit(&bytes, &unchanged).unwrap().is_identity());
        for (section, payload) in stream.sections().iter().rev().skip(1).zip(synthetic.payloads.iter().rev()) {
            let range = crate::common::index(section.payload.start)..crate::common::index(section.payload.end);
            prop_assert_eq!(&bytes[range], payload.as_slice());
        }
    }
}
