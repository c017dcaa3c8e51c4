//! The journal of an interrupted edit in place: recovery gives the old or the new file.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use cpreg_stream::{Recovery, journal_path, recover};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// Folder in memory if possible, where syncing costs nothing.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    }
    .expect("a folder")
});

/// Edit that stopped after some steps.
#[derive(Arbitrary, Debug)]
struct InterruptedEdit<'a> {
    step: u8,
    written: u16,
    before: &'a [u8],
    old: &'a [u8],
    new: &'a [u8],
    after: &'a [u8],
}

/// Journal with valid sums and arbitrary content.
///
/// The lengths are short, because journals are not forged, and a long file takes space.
#[derive(Arbitrary, Debug)]
struct ChecksummedJournal<'a> {
    numbers: [u16; 4],
    old: &'a [u8],
    new: &'a [u8],
    file: &'a [u8],
}

/// Arbitrary journal and file.
#[derive(Arbitrary, Debug)]
struct ArbitraryJournal<'a> {
    journal: &'a [u8],
    file: &'a [u8],
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn journal(numbers: [u64; 4], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut journal = b"cpreg journal 1\n".to_vec();
    for number in numbers {
        journal.extend(number.to_be_bytes());
    }
    journal.extend(old);
    journal.extend(checksum(new).to_be_bytes());
    journal.extend(checksum(&journal).to_be_bytes());
    journal
}

/// Recovers a file; returns the result and the content afterwards.
fn recover_file(file: &[u8], journal: &[u8]) -> (Option<Recovery>, Vec<u8>) {
    let path = FOLDER.path().join("stream");
    fs::write(&path, file).expect("a file");
    fs::write(journal_path(&path), journal).expect("a journal");
    let recovery = recover(&path);
    let file = fs::read(&path).expect("a file");
    let is_pending = journal_path(&path).exists();
    assert_eq!(is_pending, recovery.is_err());
    (recovery.ok(), file)
}

fn check_interrupted(input: &InterruptedEdit<'_>) {
    let InterruptedEdit {
        step,
        written,
        before,
        old,
        new,
        after,
    } = *input;
    let unchanged = [b"QEVM", before].concat();
    let (old_file, new_file) = (
        [&unchanged, old, after].concat(),
        [&unchanged, new, after].concat(),
    );
    let (old_length, new_length) = (old_file.len() as u64, new_file.len() as u64);
    // Everything after the change moves if the length changes.
    let (old, new) = if old.len() == new.len() {
        (old.to_vec(), new.to_vec())
    } else {
        ([old, after].concat(), [new, after].concat())
    };
    let numbers = [
        old_length,
        new_length,
        unchanged.len() as u64,
        old.len() as u64,
    ];
    let journal = journal(numbers, &old, &new);
    let mut file = old_file.clone();
    let step = step % 5;
    if step > 0 {
        file.resize(old_file.len().max(new_file.len()), 0);
    }
    if step > 1 {
        file[..4].copy_from_slice(b"cpRG");
        let count = usize::from(written).min(new.len());
        let count = if step > 2 { new.len() } else { count };
        file[unchanged.len()..][..count].copy_from_slice(&new[..count]);
    }
    if step > 3 {
        file.truncate(new_file.len());
        file[..4].copy_from_slice(b"QEVM");
    }
    let (recovery, file) = recover_file(&file, &journal);
    match recovery {
        Some(Recovery::NotBegun | Recovery::Restored) => assert_eq!(file, old_file),
        Some(Recovery::Completed) => assert_eq!(file, new_file),
        other => panic!("{other:?}"),
    }
}

/// Recovers a file that need not match its journal.
fn check_arbitrary(file: &[u8], journal: &[u8]) {
    if let (None | Some(Recovery::Completed), after) = recover_file(file, journal) {
        assert_eq!(after, file, "the file must not change");
    }
}

/// Runs one of the three checks, chosen by the first byte.
fn run(input: &[u8]) -> arbitrary::Result<()> {
    let mut input = Unstructured::new(input);
    match u8::arbitrary(&mut input)? % 3 {
        0 => check_interrupted(&InterruptedEdit::arbitrary_take_rest(input)?),
        1 => {
            let input = ChecksummedJournal::arbitrary_take_rest(input)?;
            check_arbitrary(
                input.file,
                &journal(input.numbers.map(u64::from), input.old, input.new),
            );
        }
        _ => {
            let input = ArbitraryJournal::arbitrary_take_rest(input)?;
            check_arbitrary(input.file, input.journal);
        }
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    // Inputs that are too short are ignored.
    let _ = run(input);
});
