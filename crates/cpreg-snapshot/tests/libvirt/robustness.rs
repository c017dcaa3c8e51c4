//! Damaged images: a clear error or a right result, no panic, no unbounded memory.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use cpreg_snapshot::libvirt::{Domain, HEADER_LEN, Header, Image};
use cpreg_snapshot::{Error, ErrorKind};
use cpreg_stream::Stream;

use crate::common::{RAW, unpack};

/// Number of bytes at both ends in which every cut is tried.
const EDGE_LEN: u64 = 64 << 10;
/// Distance of cuts after which the stream is read too, which has its own tests.
const STREAM_INTERVAL: u64 = 101;
/// Number of mutated images.
const MUTATIONS: u64 = 10_000;

fn open(path: &Path) -> Result<Image, Error> {
    Image::open(File::open(path).unwrap(), path)
}

/// Checks that the error tells what is wrong.
fn assert_clear_error(error: &Error) {
    assert!(!error.message().is_empty());
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Truncated
                | ErrorKind::Malformed
                | ErrorKind::Unsupported
                | ErrorKind::Unfinished
                | ErrorKind::UnfinishedEdit
                | ErrorKind::Io
        ),
        "{error:?}"
    );
}

#[test]
fn every_cut_at_both_ends() {
    let (_folder, path) = unpack(RAW);
    let file = File::options().write(true).open(&path).unwrap();
    let length = file.metadata().unwrap().len();
    let stream_offset = open(&path).unwrap().header().stream_offset();
    let mut opened = 0;
    let cuts = (length - EDGE_LEN..length).rev();
    for cut in cuts.chain((0..EDGE_LEN).rev()) {
        file.set_len(cut).unwrap();
        match open(&path) {
            Ok(image) => {
                assert!(cut > stream_offset);
                opened += 1;
                if cut % STREAM_INTERVAL == 0 {
                    let error = Stream::open(image.stream()).err();
                    // Without its description the stream is complete.
                    assert!(error.is_none_or(|error| error.offset().is_some()));
                }
            }
            Err(error) => {
                assert!(cut <= stream_offset, "cut at {cut}: {error}");
                assert_clear_error(&error);
            }
        }
    }
    assert_eq!(opened, EDGE_LEN);
}

/// Returns pseudo-random numbers, the same in every run.
fn numbers() -> impl FnMut(u64) -> u64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move |limit| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    }
}

#[test]
fn mutations_of_header_and_xml() {
    let (_folder, path) = unpack(RAW);
    let original = fs::read(&path).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let xml_end = u64::from(open(&path).unwrap().header().xml_length()) + HEADER_LEN as u64;
    let mut next = numbers();
    let mut rejected = 0;
    for round in 0..MUTATIONS {
        // Half of the mutations hit the fields of the header.
        let end = if round % 2 == 0 {
            HEADER_LEN as u64
        } else {
            xml_end
        };
        let at = next(end);
        let byte = u8::try_from(next(256)).unwrap();
        let index = usize::try_from(at).unwrap();
        file.write_all_at(&[byte], at).unwrap();
        match open(&path) {
            Ok(image) => drop(image.description()),
            Err(error) => {
                assert_clear_error(&error);
                rejected += 1;
            }
        }
        file.write_all_at(&original[index..=index], at).unwrap();
    }
    assert!(
        rejected > MUTATIONS / 10 && rejected < MUTATIONS,
        "{rejected}"
    );
    assert_eq!(fs::read(&path).unwrap(), original);
}

#[test]
fn lying_lengths_are_rejected_without_memory() {
    let (_folder, path) = unpack(RAW);
    let file = File::options().write(true).open(&path).unwrap();
    for (offset, words) in [
        (20, [0, u32::MAX, 1 << 31, 600_000]),
        (32, [u32::MAX, 1 << 31, 70_000, 66_772]),
    ] {
        let mut old = [0; 4];
        old.copy_from_slice(&fs::read(&path).unwrap()[offset..offset + 4]);
        for word in words {
            file.write_all_at(&word.to_le_bytes(), offset as u64)
                .unwrap();
            assert_clear_error(&open(&path).unwrap_err());
        }
        file.write_all_at(&old, offset as u64).unwrap();
    }
    assert!(open(&path).is_ok());
    // A huge file with a header and holes.
    let header = fs::read(&path).unwrap()[..HEADER_LEN].to_vec();
    file.set_len(0).unwrap();
    file.write_all_at(&header, 0).unwrap();
    file.set_len(1 << 42).unwrap();
    assert_clear_error(&open(&path).unwrap_err());
    assert!(Header::parse(&header, u64::MAX).is_ok());
}

#[test]
fn hostile_xml_is_rejected_or_read_in_bounded_depth() {
    let entity = "<!DOCTYPE d [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\
                  <domain type='kvm'><name>&b;</name></domain>";
    let nested = "<a>".repeat(1 << 20);
    let closed = "<a>".repeat(10_000) + &"</a>".repeat(10_000);
    for xml in [
        entity,
        nested.as_str(),
        closed.as_str(),
        "<domain type='kvm'",
        "\u{fffe}",
    ] {
        let error = Domain::parse(xml).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
    let long = format!(
        "<domain type='kvm'><name>{}</name></domain>",
        "n".repeat(1 << 20)
    );
    assert!(Domain::parse(&long).is_err());
}

#[test]
fn damaged_compressed_images_are_errors_of_the_program() {
    let name = crate::common::IMAGES[7];
    let (_folder, path) = unpack(name);
    let file = File::options().write(true).open(&path).unwrap();
    let start = open(&path).unwrap().header().stream_offset();
    file.write_all_at(b"damaged", start + 1000).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("gzip failed"), "{error}");
    assert!(error.hint().is_some());
    file.set_len(start + 5).unwrap();
    assert!(open(&path).is_err());
}
