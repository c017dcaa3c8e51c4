//! Damaged images: an error or a state, no panic, and bounded reads.

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::qcow2::{Image, plan_change};
use cpreg_stream::{CountingSource, Edit, ReadAt as _, Replacement, Stream};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::common::{RECORDED, bytes, edit, index, plan, recorded, state_bytes};

/// Opens an image, reads all states and plans a change of each; returns the number of readable
/// states.
fn exercise(content: &[u8]) -> usize {
    let source = CountingSource::new(content);
    let Ok(image) = Image::open(&source) else {
        return 0;
    };
    let mut readable = 0;
    let snapshots: Vec<_> = image.saved_vms().take(2).cloned().collect();
    for snapshot in snapshots {
        let Ok(state) = Image::open(&source).and_then(|image| image.into_state(&snapshot)) else {
            continue;
        };
        let length = snapshot.state_len();
        let _ = Stream::open(&state);
        // A lying length reads no more than the tables map.
        let mut part = vec![0; index(length.min(1 << 16))];
        readable += usize::from(state.read_exact_at(&mut part, 0).is_ok());
        let start = length / 2;
        let edit = Edit::new(
            vec![Replacement {
                range: start..length.min(start + 3),
                bytes: b"abc".to_vec(),
            }],
            length,
        );
        let _ = plan_change(&state, &edit);
    }
    let limit = 64 * content.len() as u64 + (8 << 20);
    assert!(source.bytes() < limit, "{} bytes read", source.bytes());
    readable
}

#[test]
fn every_cut() {
    let content = recorded(RECORDED[3]);
    assert_eq!(exercise(&content), 1);
    // The tables of a changed image lie at its end.
    let length = state_bytes(&content, "suspend").len();
    let change = plan(
        &content,
        "suspend",
        &edit(length, &[(length / 2, 1, vec![])]),
    );
    let content = bytes(&change.to_edit().apply_to(&content));
    let end = content.len();
    let mut errors = 0;
    for cut in (0..64 << 10).chain(end - (64 << 10)..end) {
        let part = &content[..cut];
        let result = Image::open(part).and_then(|image| {
            let snapshot = image.find("suspend")?.clone();
            image.into_state(&snapshot)
        });
        if let Err(error) = result {
            let kind = error.kind();
            assert!(
                matches!(kind, ErrorKind::Truncated | ErrorKind::Malformed),
                "cut at {cut}: {error:?}"
            );
            errors += 1;
        }
    }
    // Zeros follow the snapshot table in its cluster.
    assert!(errors > (64 << 10) + 40, "{errors} errors");
}

/// Offsets of headers and tables, where damage matters most.
fn metadata(content: &[u8]) -> Vec<usize> {
    let number = |at: usize| {
        let field = content[at..at + 8].try_into().unwrap();
        index(u64::from_be_bytes(field) & 0x00ff_ffff_ffff_fe00)
    };
    let table = number(64);
    let (l1, counts) = (number(table), number(48));
    let l2 = number(l1 + 8);
    let mut starts = vec![0; 112];
    starts.extend([table; 100]);
    starts.extend([l1; 20]);
    starts.extend([l2; 100]);
    starts.extend([counts; 8]);
    starts.extend([number(counts); 60]);
    starts
}

#[test]
fn ten_thousand_mutations() {
    let content = recorded(RECORDED[3]);
    let starts = metadata(&content);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &[15; 32]);
    let config = Config {
        failure_persistence: None,
        cases: 10_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, random);
    let damage = proptest::collection::vec(
        (0..starts.len(), 0..112_usize, proptest::num::u8::ANY),
        1..4,
    );
    let readable = std::cell::Cell::new(0);
    let work = std::cell::RefCell::new((content.clone(), Vec::new()));
    let result = runner.run(&damage, |damage| {
        let (image, damaged) = &mut *work.borrow_mut();
        for at in damaged.drain(..) {
            image[at] = content[at];
        }
        for (start, offset, byte) in damage {
            let at: usize = starts[start] + offset;
            damaged.push(at);
            image[at] = byte;
        }
        readable.set(readable.get() + exercise(image));
        Ok(())
    });
    result.unwrap();
    let readable = readable.get();
    assert!((1000..10_000).contains(&readable), "{readable} readable");
}
