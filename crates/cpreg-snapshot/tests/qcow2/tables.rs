//! Headers and tables that lie.

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::qcow2::Image;
use cpreg_stream::CountingSource;

use crate::common::{RECORDED, bytes, index, recorded};

fn number(content: &[u8], at: usize) -> usize {
    let field = content[at..at + 8].try_into().unwrap();
    index(u64::from_be_bytes(field))
}

/// Opens an image and reads all states; returns the kind of the error.
fn error_of(content: &[u8]) -> Option<ErrorKind> {
    let source = CountingSource::new(content);
    let result = Image::open(&source).and_then(|image| {
        let snapshot = image.find("suspend")?.clone();
        image.into_state(&snapshot)
    });
    assert!(source.bytes() < 1 << 20);
    result.map(drop).map_err(|error| error.kind()).err()
}

#[test]
fn headers_with_wrong_fields() {
    let content = recorded(RECORDED[0]);
    assert_eq!(error_of(&content), None);
    let cases: [(usize, &[u8], ErrorKind); 16] = [
        (0, b"QFIX", ErrorKind::Malformed),
        (7, &[1], ErrorKind::Unsupported),
        (7, &[4], ErrorKind::Unsupported),
        (23, &[8], ErrorKind::Malformed),
        (23, &[22], ErrorKind::Malformed),
        (20, &[0xff; 4], ErrorKind::Malformed),
        (24, &[0xff; 8], ErrorKind::Malformed),
        (35, &[1], ErrorKind::Encrypted),
        (35, &[2], ErrorKind::Encrypted),
        (36, &[0xff; 4], ErrorKind::Malformed),
        (56, &[0; 4], ErrorKind::Malformed),
        (56, &[0xff; 4], ErrorKind::Malformed),
        (60, &[0xff; 4], ErrorKind::Malformed),
        (71, &[1], ErrorKind::Malformed),
        (72, &[1], ErrorKind::Unsupported),
        (96, &[0xff; 4], ErrorKind::Malformed),
    ];
    for (at, field, kind) in cases {
        let mut wrong = content.clone();
        wrong[at..at + field.len()].copy_from_slice(field);
        assert_eq!(error_of(&wrong), Some(kind), "at {at}: {field:?}");
    }
    let mut data_file = content.clone();
    data_file[79] |= 4;
    assert_eq!(error_of(&data_file), Some(ErrorKind::Unsupported));
}

#[test]
fn snapshot_tables_with_wrong_fields() {
    let content = recorded(RECORDED[0]);
    let table = number(&content, 64);
    let cases: [(usize, &[u8], ErrorKind); 8] = [
        (0, &[0x7f; 8], ErrorKind::Malformed),
        (0, &[0, 0, 0, 0, 0x7f, 0, 0, 0], ErrorKind::Truncated),
        (8, &[0xff; 4], ErrorKind::Malformed),
        (8, &[0; 4], ErrorKind::Malformed),
        (12, &[0xff; 4], ErrorKind::Truncated),
        (36, &[0xff; 4], ErrorKind::Malformed),
        (40, &[0xff; 8], ErrorKind::Malformed),
        (48, &[0xff; 8], ErrorKind::Malformed),
    ];
    for (at, field, kind) in cases {
        let mut wrong = content.clone();
        wrong[table + at..table + at + field.len()].copy_from_slice(field);
        // The table may lie at the end of the file.
        let found = error_of(&wrong);
        let alternatives = [Some(kind), Some(ErrorKind::NoVm)];
        assert!(
            alternatives.contains(&found),
            "at {at}: {field:?}: {found:?}"
        );
    }
    let mut many = content;
    many[60..64].copy_from_slice(&60_000_u32.to_be_bytes());
    assert!(error_of(&many).is_some());
}

/// L2 entries that point to tables, to each other and out of the file.
#[test]
fn entries_that_point_to_tables() {
    let content = recorded(RECORDED[0]);
    let image = Image::open(content.as_slice()).unwrap();
    let length = image.length();
    let table = number(&content, 64);
    let l1 = number(&content, table);
    // The disk has 16 MiB, so the state begins at the second entry.
    let l2 = number(&content, l1 + 8) & 0xffff_ffff;
    for target in [0, l1, l2, table, index(length)] {
        let mut wrong = content.clone();
        wrong[l2..l2 + 8].copy_from_slice(&(target as u64).to_be_bytes());
        let image = Image::open(wrong.as_slice()).unwrap();
        let snapshot = image.find("suspend").unwrap().clone();
        let state = image.into_state(&snapshot).unwrap();
        let mut first = [0; 16];
        let read = cpreg_stream::ReadAt::read_exact_at(&state, &mut first, 0);
        assert_eq!(read.is_ok(), target != index(length), "{target:#x}");

        let mut wrong = content.clone();
        wrong[l1 + 8..l1 + 16].copy_from_slice(&(target as u64).to_be_bytes());
        let image = Image::open(wrong.as_slice()).unwrap();
        let state = image.into_state(&snapshot).unwrap();
        let _ = cpreg_stream::Stream::open(&state);
        let mut all = vec![0; index(snapshot.state_len())];
        let _ = cpreg_stream::ReadAt::read_exact_at(&state, &mut all, 0);
    }
    let image = Image::open(content.as_slice()).unwrap();
    let snapshot = image.find("suspend").unwrap().clone();
    assert!(bytes(&image.into_state(&snapshot).unwrap()).starts_with(b"QEVM"));
}
