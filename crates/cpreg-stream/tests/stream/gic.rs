//! The GICv3 of recorded streams: its limits, known before the vCPUs, or not known.

use crate::common::{bytes, fixture, fixtures, index};
use cpreg::gic::{Gic, GicLimits};
use cpreg_stream::incremental::{IncrementalParser, VcpuScanner};
use cpreg_stream::{ErrorKind, Section, Stream};

/// VM of 4 vCPUs under KVM.
const FOUR_VCPUS: &str = "kvm/6.1.176__q7.2__neoverse-n1__virt7.2-smp4";
/// ICC_CTLR_EL1 of the recorded VMs.
const RECORDED: u64 = 0x8c00;

const fn limits(icc_ctlr: u64) -> Gic {
    Gic::V3(GicLimits::from_icc_ctlr(icc_ctlr))
}

fn gic_section(stream: &Stream) -> &Section {
    let mut sections = stream.sections().iter();
    sections
        .find(|section| section.name == "arm_gicv3")
        .expect("a GICv3")
}

/// Returns the offset of ICC_CTLR_EL1 of a vCPU.
fn icc_ctlr(stream: &Stream, vcpu: usize) -> usize {
    index(gic_section(stream).payload.start) + 10344 + 272 * vcpu + 96 + 8
}

/// Scans a stream in pieces, as a relay does.
fn scan(stream: &[u8]) -> VcpuScanner {
    let mut parser = IncrementalParser::bidirectional();
    let mut scanner = VcpuScanner::default();
    let (mut from, mut to) = (0, 0);
    while to < stream.len() && !scanner.is_complete() {
        to = stream.len().min(to + 5000);
        let consumed = parser.feed(&stream[from..to], false).expect("a stream");
        from += consumed.forward + consumed.buffered;
        scanner.scan(&parser);
    }
    scanner
}

#[test]
fn recorded_streams_have_the_limits_of_their_host() {
    let (mut kvm, mut tcg) = (0, 0);
    for fixture in fixtures() {
        let name = &fixture.name;
        let stream = Stream::open(&fixture.open()).expect("a stream");
        let facts = stream.vm().expect("a VM").source_hardware;
        assert_eq!(facts.gic, stream.gic(), "{name}");
        let host = stream.destination(String::new()).expect("a host");
        assert_eq!(host.hardware.gic, stream.gic(), "{name}");
        if name.starts_with("kvm/") {
            assert_eq!(stream.gic(), Some(limits(RECORDED)), "{name}");
            // The guest of the lab has not set up the ITS.
            assert_eq!(facts.uses_lpis, Some(false), "{name}");
            kvm += 1;
        } else if name.starts_with("tcg/") {
            assert_eq!(stream.gic(), None, "{name}");
            tcg += 1;
        }
    }
    assert!(kvm >= 10 && tcg >= 10, "{kvm}, {tcg}");
}

#[test]
fn every_vcpu_counts() {
    let recorded = bytes(&fixture(FOUR_VCPUS));
    let stream = Stream::open(&recorded).expect("a stream");
    assert_eq!(stream.gic(), Some(limits(RECORDED)));
    assert_eq!(scan(&recorded).hardware().gic, Some(limits(RECORDED)));
    let last = icc_ctlr(&stream, 3);
    let with = |value: u64| {
        let mut changed = recorded.clone();
        let field = &mut changed[last..last + 8];
        assert_eq!(field, RECORDED.to_be_bytes());
        field.copy_from_slice(&value.to_be_bytes());
        changed
    };
    for (value, expected) in [(0x8d03, 0x8d00), (0x8400, RECORDED)] {
        let changed = with(value);
        let opened = Stream::open(&changed).expect("a stream");
        assert_eq!(opened.gic(), Some(limits(expected)));
        let scanner = scan(&changed);
        assert!(scanner.is_complete());
        assert_eq!(scanner.hardware().gic, Some(limits(expected)));
    }
    // No host has both.
    let contradiction = with(0xcc00);
    let error = Stream::open(&contradiction).expect_err("two values of SEIS");
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("ICC_CTLR_EL1.SEIS"), "{error}");
    assert!(scan(&contradiction).has_failed());
}

/// A relay sends nothing early if it cannot read the GICv3.
#[test]
fn another_version_is_not_known() {
    let mut changed = bytes(&fixture(FOUR_VCPUS));
    let stream = Stream::open(&changed).expect("a stream");
    let version = index(gic_section(&stream).payload.start) - 1;
    assert_eq!(changed[version], 1);
    changed[version] = 2;
    let opened = Stream::open_by_full_scan(&changed).expect("a stream");
    assert_eq!(opened.gic(), None);
    let scanner = scan(&changed);
    assert!(scanner.has_failed() && scanner.hardware().gic.is_none());
}
