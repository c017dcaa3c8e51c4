//! A qcow2 image: opening, reading and changing it.
//!
//! The input is the position of a change in each state, and the image.
#![no_main]

use arbitrary::Unstructured;
use cpreg_fuzz::bytes;
use cpreg_snapshot::qcow2::{Image, plan_change};
use cpreg_stream::{CountingSource, Edit, ReadAt as _, Replacement, Stream};
use libfuzzer_sys::fuzz_target;

/// Number of snapshots that one input exercises.
const MAX_SNAPSHOTS: usize = 2;
/// Number of bytes of a state that are read.
const MAX_STATE_LEN: u64 = 1 << 16;

fn run(input: &[u8]) -> arbitrary::Result<()> {
    let mut input = Unstructured::new(input);
    let [start, removed, added]: [u16; 3] = input.arbitrary()?;
    let content = input.take_rest();
    let source = CountingSource::new(content);
    let Ok(image) = Image::open(&source) else {
        return Ok(());
    };
    let snapshots: Vec<_> = image.saved_vms().take(MAX_SNAPSHOTS).cloned().collect();
    for snapshot in snapshots {
        let image = Image::open(&source).expect("an image that opened before");
        let Ok(state) = image.into_state(&snapshot) else {
            continue;
        };
        let _ = Stream::open(&state);
        let length = snapshot.state_len();
        let count = usize::try_from(length.min(MAX_STATE_LEN)).expect("a short length");
        let mut part = vec![0; count];
        let _ = state.read_exact_at(&mut part, 0);
        let start = u64::from(start).min(length);
        let end = (start + u64::from(removed % 512)).min(length);
        let replacement = Replacement {
            range: start..end,
            bytes: vec![0x5a; usize::from(added % 512)],
        };
        let edit = Edit::new(vec![replacement], length);
        // A planned change has been compared with the edit.
        let Ok(change) = plan_change(&state, &edit) else {
            continue;
        };
        let changed = bytes(&change.to_edit().apply_to(&content));
        let reopened = Image::open(changed.as_slice()).expect("a changed image");
        assert_eq!(reopened.snapshots().len(), state.image().snapshots().len());
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let _ = run(input);
});
