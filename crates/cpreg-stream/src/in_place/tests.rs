//! Edits that stop after each step, and other failures.

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
fn edit_leaves_no_other_files() {
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

/// Stops after each step, as if the process had been killed, and recovers.
#[test]
fn recovery_after_every_step_gives_the_old_or_the_new_file() {
    for new in NEW_BYTES {
        for steps in 0..=4 {
            let (directory, path) = file();
            let source = File::open(&path).unwrap();
            let mut edit_in_progress = InPlaceEdit::begin(&source, &edit(new), &path).unwrap();
            if steps > 0 {
                edit_in_progress.reserve().unwrap();
            }
            if steps > 1 {
                edit_in_progress.mark().unwrap();
                assert!(std::fs::read(&path).unwrap().starts_with(&UNFINISHED_MAGIC));
            }
            if steps > 2 {
                edit_in_progress.write().unwrap();
            }
            if steps > 3 {
                edit_in_progress.unmark().unwrap();
            }
            drop(edit_in_progress);
            assert!(pending_journal(&path).is_some());
            // Another edit cannot begin meanwhile.
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

/// Simulates another process by a second open file, because a lock belongs to an open file.
#[test]
fn edit_in_progress_is_not_taken_for_an_interrupted_one() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let lock = Lock::take(&source).unwrap();
    let mut edit_in_progress = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
    edit_in_progress.reserve().unwrap();
    edit_in_progress.mark().unwrap();
    let error = recover(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnfinishedEdit);
    let other = File::open(&path).unwrap();
    let error = edit_in_place(&other, &edit(b""), &path).unwrap_err();
    assert!(error.to_string().contains("another process"), "{error}");
    edit_in_progress.write().unwrap();
    edit_in_progress.unmark().unwrap();
    drop(lock);
    assert_eq!(recover(&path).unwrap(), Recovery::Completed);
    assert_eq!(std::fs::read(&path).unwrap(), expected(NEW_BYTES[0]));
}

/// Leaves new bytes half-written, as a power cut does.
#[test]
fn half_written_bytes_are_restored() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let mut edit_in_progress = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
    edit_in_progress.reserve().unwrap();
    edit_in_progress.mark().unwrap();
    os::write_all_at(
        &edit_in_progress.file,
        &edit_in_progress.change.new_bytes[..5],
        edit_in_progress.change.start,
    )
    .unwrap();
    drop(edit_in_progress);
    assert_eq!(recover(&path).unwrap(), Recovery::Restored);
    assert_eq!(std::fs::read(&path).unwrap(), OLD_BYTES);
}

#[test]
fn failures_are_undone_at_once() {
    for marked in [false, true] {
        let (directory, path) = file();
        let source = File::open(&path).unwrap();
        let mut edit_in_progress = InPlaceEdit::begin(&source, &edit(NEW_BYTES[0]), &path).unwrap();
        edit_in_progress.reserve().unwrap();
        if marked {
            edit_in_progress.mark().unwrap();
            os::write_all_at(&edit_in_progress.file, b"garbage", 10).unwrap();
        }
        let cause = Error::io("cannot write", io::ErrorKind::StorageFull.into());
        let error = edit_in_progress.undo(&cause);
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), OLD_BYTES);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }
}

#[test]
fn file_changed_since_the_edit_stays_unchanged() {
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
fn damaged_journals_are_rejected() {
    let (_directory, path) = file();
    let source = File::open(&path).unwrap();
    let mut edit_in_progress = InPlaceEdit::begin(&source, &edit(NEW_BYTES[2]), &path).unwrap();
    edit_in_progress.mark().unwrap();
    drop(edit_in_progress);
    let journal = journal_path(&path.canonicalize().unwrap());
    let journal_bytes = std::fs::read(&journal).unwrap();
    for bit in 0..journal_bytes.len() * 8 {
        let mut damaged = journal_bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&damaged).is_none(), "bit {bit}");
        assert!(decode(&journal_bytes[..bit / 8]).is_none());
    }
    std::fs::remove_file(&journal).unwrap();
    assert!(recover(&path).is_err());
    std::fs::write(&journal, journal_bytes).unwrap();
    assert_eq!(recover(&path).unwrap(), Recovery::Restored);
}

#[test]
fn other_files_stay_unchanged() {
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
