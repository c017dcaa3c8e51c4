//! An edit that ends behind each of its steps, and whatever else can go wrong.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::edit::InPlaceEdit;
use super::journal::decode;
use super::*;
use crate::element::UNFINISHED_MAGIC;
use crate::error::{Error, ErrorKind};
use crate::os;
use crate::replacement::Edit;
use crate::replacement::Replacement;

const OLD_BYTES: &[u8] = b"QEVM0123456789abcdefghij";

fn edit(new: &[u8]) -> Edit {
    let replacements = vec![
        Replacement {
            range: 6..9,
            bytes: new.to_vec(),
        },
        Replacement {
            range: 12..13,
            bytes: b"#".to_vec(),
        },
    ];
    Edit::new(replacements, OLD_BYTES.len() as u64)
}

fn expected(new: &[u8]) -> Vec<u8> {
    [
        &OLD_BYTES[..6],
        new,
        &OLD_BYTES[9..12],
        b"#",
        &OLD_BYTES[13..],
    ]
    .concat()
}

fn file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    std::fs::write(&path, OLD_BYTES).unwrap();
    (directory, path)
}

const NEW_BYTES: [&[u8]; 3] = [b"longer than before", b"", b"xyz"];

#[test]
fn edits_and_leaves_nothing_else_behind() {
    for new in NEW_BYTES {
        let (directory, path) = file();
        let source = File::open(&path).unwrap();
        edit_in_place(&source, &edit(new), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), expected(new));
        assert_eq!(pending_journal(&path), None);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        assert_eq!(recover(&path).unwrap(), Recovery::NotNeeded);
    }
}

/// Stops behind each step, as if the process had been killed there; recovers.
#[test]
fn whatever_step_is_the_last_one_the_file_is_old_or_new() {
    for new in NEW_BYTES {
        for steps in 0..=4 {
            let (directory, path) = file();
            let source = File::open(&path).unwrap();
            let mut running = InPlaceEdit::begin(&source, &edit(new), &path).unwrap();
            if steps > 0 {
                running.reserve().unwrap();
            }
            if steps > 1 {
                running.mark().unwrap();
                assert!(std::fs::read(&path).unwrap().starts_with(&UNFINISHED_MAGIC));
            }
            if steps > 2 {
                running.write().unwrap();
            }
            if steps > 3 {
                running.unmark().unwrap();
            }
            drop(running);
            assert!(pending_journal(&path).is_some());
            // Nobody else begins an edit meanwhile.
            let error = edit_in_place(&source, &edit(b""), &path).unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::UnfinishedEdit | ErrorKind::BadEdit),
                "{error}"
            );
            let (recovery, content) = match steps {
                0 | 1 => (Recovery::NotBegun, OLD_BYTES.to_vec()),
                2 | 3 => (Recovery::Restored, OLD_BYTES.to_vec()),
                _ => (Recovery::Completed, expected(new)),
            };
            assert_eq!(recover(&path).unwrap(), recovery, "after step {steps}");
            assert_eq!(std::fs::read(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        }
    }
}

/// Another process: a lock belongs to the open file.
#[test]
fn an_edit_under_way_is_not_an_interrupted_one() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let lock = Lock::take(&source).unwrap();
    let mut running = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
    running.reserve().unwrap();
    running.mark().unwrap();
    let error = recover(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnfinishedEdit);
    let other = File::open(&path).unwrap();
    let error = edit_in_place(&other, &edit(b""), &path).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    running.write().unwrap();
    running.unmark().unwrap();
    drop(lock);
    assert_eq!(recover(&path).unwrap(), Recovery::Completed);
    assert_eq!(std::fs::read(&path).unwrap(), expected(NEW_BYTES[0]));
}

/// Half-written new bytes, as a power cut leaves them.
#[test]
fn half_written_bytes_are_taken_back() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let mut running = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
    running.reserve().unwrap();
    running.mark().unwrap();
    os::write_all_at(
        &running.file,
        &running.change.new_bytes[..5],
        running.change.start,
    )
    .unwrap();
    drop(running);
    assert_eq!(recover(&path).unwrap(), Recovery::Restored);
    assert_eq!(std::fs::read(&path).unwrap(), OLD_BYTES);
}

#[test]
fn failures_are_undone_at_once() {
    for marked in [false, true] {
        let (directory, path) = file();
        let source = File::open(&path).unwrap();
        let mut running = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
        running.reserve().unwrap();
        if marked {
            running.mark().unwrap();
            os::write_all_at(&running.file, b"garbage", 10).unwrap();
        }
        let cause = Error::io("cannot write", io::ErrorKind::StorageFull.into());
        let error = running.undo(&cause);
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), OLD_BYTES);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }
}

#[test]
fn a_file_that_was_changed_since_is_left_alone() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    drop(InPlaceEdit::begin(&source, &edit(NEW_BYTES[2]), &path).unwrap());
    std::fs::write(&path, b"QEVM something else").unwrap();
    let error = recover(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnfinishedEdit);
    assert_eq!(std::fs::read(&path).unwrap(), b"QEVM something else");
    assert!(pending_journal(&path).is_some());
}

#[test]
fn damaged_journals_are_not_believed() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let mut running = InPlaceEdit::begin(&source, &edit(NEW_BYTES[2]), &path).unwrap();
    running.mark().unwrap();
    drop(running);
    let journal = journal_path(&path.canonicalize().unwrap());
    let whole = std::fs::read(&journal).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_none(), "bit {bit}");
        assert!(decode(&whole[..bit / 8]).is_none());
    }
    std::fs::remove_file(&journal).unwrap();
    assert!(recover(&path).is_err());
    std::fs::write(&journal, whole).unwrap();
    assert_eq!(recover(&path).unwrap(), Recovery::Restored);
}

#[test]
fn another_file_is_not_touched() {
    let (directory, path) = file();
    let other = directory.path().join("other");
    std::fs::write(&other, OLD_BYTES).unwrap();
    let source = File::open(&path).unwrap();
    let error = edit_in_place(&source, &edit(NEW_BYTES[0]), &other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEdit);
    assert!(edit_in_place(&OLD_BYTES.to_vec(), &edit(NEW_BYTES[0]), &path).is_err());
    assert_eq!(std::fs::read(&other).unwrap(), OLD_BYTES);
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
}
