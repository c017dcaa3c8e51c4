//! Changes that stop after each write, and power cuts that lose some writes of a phase.

use cpreg_snapshot::qcow2::{Change, Phase, Write};

use cpreg_stream::Edit;

use crate::common::{
    CheckResult, STATE_LEN, TestImage, bytes, check, edit, edits, has_tools, index, noise, plan,
    qemu_img, state_bytes, with_snapshots,
};

/// Puts writes into an image, which grows as needed.
fn apply<'w>(image: &mut Vec<u8>, writes: impl IntoIterator<Item = &'w Write>) {
    for write in writes {
        let start = index(write.offset);
        let end = start + write.bytes.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        image[start..end].copy_from_slice(&write.bytes);
    }
}

/// Returns images as a program leaves them that stops: the last phase with a write, and the bytes.
fn interrupted(old: &[u8], change: &Change) -> Vec<(Phase, Vec<u8>)> {
    let mut images = Vec::new();
    let mut done = old.to_vec();
    for (phase, writes) in change.phases() {
        for count in 0..writes.len() {
            let mut image = done.clone();
            apply(&mut image, &writes[..count]);
            images.push((*phase, image));
        }
        // Without a sync, any of the phase's writes can be on the disk.
        for seed in 0..3 {
            let kept = noise(seed, writes.len());
            let kept = writes.iter().zip(kept).filter(|(_, byte)| byte & 1 == 0);
            let mut image = done.clone();
            apply(&mut image, kept.map(|(write, _)| write));
            images.push((*phase, image));
        }
        apply(&mut done, writes);
        images.push((*phase, done.clone()));
    }
    images
}

/// Image before the change, and its states.
struct Original {
    file: TestImage,
    /// `true` if the disk's tables share the state.
    is_shared: bool,
    /// State before and after the change.
    states: [Vec<u8>; 2],
    /// State of another snapshot.
    other: Vec<u8>,
}

impl Original {
    fn new(file: TestImage, is_shared: bool, edit: &Edit) -> (Self, Vec<u8>, Change) {
        let content = file.bytes();
        let change = plan(&content, "one", edit);
        let old = state_bytes(&content, "one");
        let new = bytes(&edit.apply_to(&old));
        let original = Self {
            file,
            is_shared,
            states: [old, new],
            other: state_bytes(&content, "two"),
        };
        (original, content, change)
    }
}

/// Checks an image that an interrupted change left.
fn check_interrupted(phase: Phase, image: &[u8], original: &Original) {
    let [old, new] = &original.states;
    let (other, is_shared) = (&original.other, original.is_shared);
    let disk = original.file.path();
    let state = state_bytes(image, "one");
    assert!(state == *old || state == *new, "{phase:?}");
    if phase < Phase::Switch {
        assert!(state == *old);
    } else if phase > Phase::Switch {
        assert!(state == *new);
    }
    assert!(state_bytes(image, "two") == *other);
    let file = TestImage::from_bytes(image);
    qemu_img(&["compare", disk, file.path()]);
    let result = check(&file.path);
    if phase < Phase::Release || !is_shared {
        assert_ne!(result, CheckResult::Errors, "{phase:?}");
    }
    if result != CheckResult::Clean {
        qemu_img(&["check", "-q", "-r", "leaks", file.path()]);
        assert_eq!(check(&file.path), CheckResult::Clean, "{phase:?}");
        assert!(state_bytes(&file.bytes(), "one") == state);
        assert!(state_bytes(&file.bytes(), "two") == *other);
        qemu_img(&["compare", disk, file.path()]);
    }
}

fn check_all(options: &str, is_shared: bool, number: usize) {
    let edit = &edits()[number];
    let (original, content, change) =
        Original::new(with_snapshots(options, is_shared), is_shared, edit);
    let marks = change.phases().iter().any(|it| it.0 == Phase::Mark);
    assert_eq!(marks, is_shared);
    let images = interrupted(&content, &change);
    for (phase, left) in &images {
        check_interrupted(*phase, left, &original);
    }
    // A change after an interrupted one is clean but for the leaks.
    let (_, left) = images.iter().rfind(|it| it.0 == Phase::Fill).unwrap();
    let again = plan(left, "one", edit);
    let file = TestImage::from_bytes(&bytes(&again.to_edit().apply_to(left)));
    assert_eq!(check(&file.path), CheckResult::Leaks);
    assert!(state_bytes(&file.bytes(), "one") == original.states[1]);
}

#[test]
fn every_step_leaves_the_old_or_the_new_state() {
    if has_tools() {
        check_all("", false, 3);
        check_all("compat=0.10", false, 1);
    }
}

#[test]
fn every_step_of_a_state_that_the_disk_shares() {
    if has_tools() {
        check_all("", true, 0);
    }
}

/// New blocks of counts are linked in their own phase.
#[test]
fn every_step_with_a_new_refcount_block() {
    if !has_tools() {
        return;
    }
    let edit = edit(STATE_LEN, &[(9000, 4, noise(1, 1_200_000))]);
    let file = with_snapshots("cluster_size=4k,refcount_bits=64", false);
    let (original, content, change) = Original::new(file, false, &edit);
    assert!(change.phases().iter().any(|it| it.0 == Phase::Link));
    let images = interrupted(&content, &change);
    let step = images.len().div_ceil(20);
    let linked = images.iter().filter(|it| it.0 == Phase::Link);
    for (phase, left) in images.iter().step_by(step).chain(linked) {
        check_interrupted(*phase, left, &original);
    }
}
