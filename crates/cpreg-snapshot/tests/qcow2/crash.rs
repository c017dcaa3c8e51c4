//! Changes that stop after each write, and power cuts that lose some writes of a phase.

use cpreg_snapshot::qcow2::{Change, Phase, Write};

use crate::common::{
    CheckResult, TestImage, bytes, check, edits, has_tools, index, noise, plan, qemu_img,
    state_bytes, with_snapshots,
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
        for seed in 0..6 {
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

/// Checks an image that an interrupted change left.
fn check_interrupted(phase: Phase, image: &[u8], states: [&[u8]; 2], other: &[u8], disk: &str) {
    let [old, new] = states;
    let state = state_bytes(image, "one");
    assert!(state == old || state == new, "{phase:?}");
    if phase < Phase::Switch {
        assert!(state == old);
    } else if phase > Phase::Switch {
        assert!(state == new);
    }
    assert!(state_bytes(image, "two") == other);
    let file = TestImage::from_bytes(image);
    qemu_img(&["compare", disk, file.path()]);
    let result = check(&file.path);
    if phase < Phase::Release {
        assert_ne!(result, CheckResult::Errors, "{phase:?}");
    }
    if result != CheckResult::Clean {
        qemu_img(&["check", "-q", "-r", "leaks", file.path()]);
        assert_eq!(check(&file.path), CheckResult::Clean, "{phase:?}");
        assert!(state_bytes(&file.bytes(), "one") == state);
        assert!(state_bytes(&file.bytes(), "two") == other);
        qemu_img(&["compare", disk, file.path()]);
    }
}

fn check_all(options: &str, is_loaded: bool, number: usize) {
    let image = with_snapshots(options, is_loaded);
    let content = image.bytes();
    let edit = &edits()[number];
    let change = plan(&content, "one", edit);
    let marks = change.phases().iter().any(|it| it.0 == Phase::Mark);
    assert!(is_loaded || !marks);
    let old = state_bytes(&content, "one");
    let new = bytes(&edit.apply_to(&old));
    let other = state_bytes(&content, "two");
    for (phase, left) in interrupted(&content, &change) {
        check_interrupted(phase, &left, [&old, &new], &other, image.path());
        if !is_loaded {
            // Only leaks, whatever the phase.
            let file = TestImage::from_bytes(&left);
            assert_ne!(check(&file.path), CheckResult::Errors, "{phase:?}");
        }
    }
    // A change after an interrupted one is clean but for the leaks.
    let filled = interrupted(&content, &change);
    let (_, left) = filled.iter().rfind(|it| it.0 == Phase::Fill).unwrap();
    let again = plan(left, "one", edit);
    let file = TestImage::from_bytes(&bytes(&again.to_edit().apply_to(left)));
    assert_eq!(check(&file.path), CheckResult::Leaks);
    assert!(state_bytes(&file.bytes(), "one") == new);
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
    let image = with_snapshots("cluster_size=4k,refcount_bits=64", false);
    let content = image.bytes();
    let edit = crate::common::edit(crate::common::STATE_LEN, &[(9000, 4, noise(1, 1_200_000))]);
    let change = plan(&content, "one", &edit);
    assert!(change.phases().iter().any(|it| it.0 == Phase::Link));
    let old = state_bytes(&content, "one");
    let new = bytes(&edit.apply_to(&old));
    let other = state_bytes(&content, "two");
    let images = interrupted(&content, &change);
    let step = images.len().div_ceil(40);
    for (phase, left) in images.iter().step_by(step) {
        check_interrupted(*phase, left, [&old, &new], &other, image.path());
    }
    let linked = images.iter().filter(|it| it.0 == Phase::Link);
    for (phase, left) in linked {
        check_interrupted(*phase, left, [&old, &new], &other, image.path());
    }
}
