//! Copies that stop at any byte, are dropped, fail, or find another target at the end.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::replacement::{Replacement, Segment};
use crate::write::{WriteOptions, write_new};

/// Length of the sources, which is not a multiple of a block's length.
const SOURCE_LEN: u64 = 300_001;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the names of all files, ascending.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// Writes the file `source`, whose blocks are equal to `data` or zero.
    fn source(&self, block_len: usize, data: &[bool]) -> File {
        let mut bytes = Vec::new();
        for is_data in data.iter().cycle() {
            let count = block_len.min(usize::try_from(SOURCE_LEN).unwrap() - bytes.len());
            let block = if *is_data {
                b"0123456789abcde".as_slice()
            } else {
                b"\0"
            };
            bytes.extend(block.iter().cycle().take(count));
            if bytes.len() as u64 == SOURCE_LEN {
                break;
            }
        }
        fs::write(self.path("source"), &bytes).unwrap();
        File::open(self.path("source")).unwrap()
    }
}

fn edit(changes: &[(u64, u64, Vec<u8>)]) -> Edit {
    let mut replacements: Vec<Replacement> = Vec::new();
    let mut free = 0;
    for (distance, length, bytes) in changes {
        let start = (free + distance).min(SOURCE_LEN);
        let end = (start + length).min(SOURCE_LEN);
        replacements.push(Replacement {
            range: start..end,
            bytes: bytes.clone(),
        });
        free = end + 1;
    }
    Edit::new(replacements, SOURCE_LEN)
}

fn small_edit() -> Edit {
    edit(&[(200_005, 3, b"longer".to_vec())])
}

/// Starts a copy, however short the prefix is.
fn start<'s>(
    source: &'s File,
    prefix_len: u64,
    target: &Path,
    existing: ExistingFile,
) -> PrefixCopy<'s> {
    PrefixCopy {
        source,
        target: target.to_owned(),
        existing,
        head: Head::start(source, prefix_len, target, existing),
    }
}

/// Returns the bytes of the edited file.
fn expected(source: &[u8], edit: &Edit) -> Vec<u8> {
    let index = |offset: u64| usize::try_from(offset).unwrap();
    let mut bytes = Vec::new();
    for segment in edit.segments() {
        match segment {
            Segment::Old(range) => bytes.extend(&source[index(range.start)..index(range.end)]),
            Segment::New(new) => bytes.extend(new),
        }
    }
    bytes
}

/// Waits until the thread, if any, has copied everything.
fn wait(copy: &PrefixCopy<'_>) {
    let content = copy.head.as_ref().map(|head| &head.content);
    if let Some(Content::Copied(CopyThread { thread, .. })) = content {
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            thread::yield_now();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn result_is_that_of_a_write_without_early_copy(
        block_len in prop_oneof![Just(4096usize), 1usize..100_000],
        data in prop::collection::vec(any::<bool>(), 1..20),
        changes in prop::collection::vec(
            (0..SOURCE_LEN / 2, 0u64..9000, prop::collection::vec(any::<u8>(), 0..9000)), 0..5),
        prefix_len in 0..SOURCE_LEN + 100_000,
        held_len in 0..=SOURCE_LEN,
        is_awaited: bool,
    ) {
        let folder = Folder::new();
        let source = folder.source(block_len, &data);
        let edit = edit(&changes);
        let expected = expected(&fs::read(folder.path("source")).unwrap(), &edit);
        write_new(&source, &edit, &folder.path("plain"), WriteOptions::default()).unwrap();
        prop_assert!(fs::read(folder.path("plain")).unwrap() == expected);

        let copy = start(&source, prefix_len, &folder.path("copied"), ExistingFile::Reject);
        if is_awaited {
            wait(&copy);
        }
        let mut reports = Vec::new();
        copy.finish(&edit, Some(&mut |done, total| reports.push((done, total)))).unwrap();
        prop_assert!(fs::read(folder.path("copied")).unwrap() == expected);
        let total = edit.new_length();
        prop_assert_eq!(reports.last(), Some(&(total, total)));
        prop_assert!(reports.is_sorted());

        // A stop after any number of bytes.
        let path = folder.path("stopped");
        let output = OutputTarget::new(Some(&source), &path, ExistingFile::Reject).unwrap();
        let partial = PartialFile::create(&source, SOURCE_LEN, &output).unwrap();
        let copied = copy_prefix(&source, held_len, partial.file.file(), &AtomicBool::new(false));
        prop_assert_eq!(copied, held_len);
        write_rest(&source, &edit, output, PartialFile { held_len, ..partial }, None).unwrap();
        prop_assert!(fs::read(path).unwrap() == expected);
        prop_assert_eq!(folder.names(), ["copied", "plain", "source", "stopped"]);
    }
}

#[test]
fn file_appears_at_the_end_only() {
    for existing in [None, Some("precious")] {
        let folder = Folder::new();
        let source = folder.source(4096, &[true]);
        let target = folder.path("target");
        if let Some(content) = existing {
            fs::write(&target, content).unwrap();
        }
        let names = folder.names();
        let assert_unchanged = || {
            assert_eq!(folder.names(), names);
            let content = fs::read_to_string(&target).ok();
            assert_eq!(content.as_deref(), existing);
        };
        let start = || start(&source, SOURCE_LEN, &target, ExistingFile::Replace);

        let copy = start();
        wait(&copy);
        assert_unchanged();
        drop(copy);
        assert_unchanged();
        // A drop while the thread copies.
        drop(start());
        assert_unchanged();

        let copy = start();
        wait(&copy);
        copy.finish(&small_edit(), None).unwrap();
        let content = fs::read(folder.path("source")).unwrap();
        assert!(fs::read(&target).unwrap() == expected(&content, &small_edit()));
        assert_eq!(folder.names(), ["source", "target"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn long_prefix_of_a_file_is_copied_early() {
    let folder = Folder::new();
    let source = folder.source(4096, &[true]);
    let source_len = MIN_PREFIX_LEN + SOURCE_LEN;
    let writer = File::options().write(true).open(folder.path("source"));
    writer.unwrap().set_len(source_len).unwrap();
    let target = folder.path("target");
    let existing = ExistingFile::Reject;

    let long = PrefixCopy::start(&source, MIN_PREFIX_LEN, &target, existing);
    wait(&long);
    let partial = long.head.unwrap().stop(source_len);
    let lengths = [MIN_PREFIX_LEN, source_len];
    assert!(lengths.contains(&partial.held_len), "{}", partial.held_len);

    let bytes = fs::read(folder.path("source")).unwrap();
    let short = PrefixCopy::start(&source, MIN_PREFIX_LEN - 1, &target, existing);
    let memory = PrefixCopy::start(&bytes, MIN_PREFIX_LEN, &target, existing);
    for copy in [short, memory] {
        assert!(copy.head.is_none());
        copy.finish(&Edit::identity(source_len), None).unwrap();
        assert!(fs::read(&target).unwrap() == bytes);
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn target_that_changes_meanwhile() {
    let folder = Folder::new();
    let source = folder.source(4096, &[true]);
    let content = expected(&fs::read(folder.path("source")).unwrap(), &small_edit());
    let target = folder.path("target");

    let copy = start(&source, SOURCE_LEN, &target, ExistingFile::Reject);
    fs::write(&target, "precious").unwrap();
    let error = copy.finish(&small_edit(), None).unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
    assert_eq!(fs::read(&target).unwrap(), b"precious");

    // The new link leads to another folder.
    let other = Folder::new();
    fs::write(other.path("linked"), "old").unwrap();
    let copy = start(&source, SOURCE_LEN, &target, ExistingFile::Replace);
    fs::remove_file(&target).unwrap();
    symlink(other.path("linked"), &target).unwrap();
    let output = OutputTarget::new(Some(&source), &target, ExistingFile::Replace).unwrap();
    let is_valid = |head: &Head| head.is_valid(&source, &output);
    assert!(!copy.head.as_ref().is_some_and(is_valid));
    copy.finish(&small_edit(), None).unwrap();
    assert!(fs::read(other.path("linked")).unwrap() == content);
    assert!(target.symlink_metadata().unwrap().is_symlink());

    // The link is followed at the start, too.
    let copy = start(&source, SOURCE_LEN, &target, ExistingFile::Replace);
    copy.finish(&edit(&[]), None).unwrap();
    let unchanged = fs::read(folder.path("source")).unwrap();
    assert!(fs::read(other.path("linked")).unwrap() == unchanged);
    assert_eq!((folder.names().len(), other.names().len()), (2, 1));
}

/// Returns the error without the random name of a temporary file.
fn without_path(error: &Error) -> String {
    let text = error.to_string_with_hint();
    match text.split_once(" at path ") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[test]
fn errors_are_those_of_a_write_without_early_copy() {
    let folder = Folder::new();
    let source = folder.source(4096, &[true]);
    fs::write(folder.path("existing"), "precious").unwrap();
    let cases = [
        (folder.path("source"), ExistingFile::Replace, small_edit()),
        (folder.path("existing"), ExistingFile::Reject, small_edit()),
        (
            folder.0.path().to_owned(),
            ExistingFile::Replace,
            small_edit(),
        ),
        (folder.path("none/new"), ExistingFile::Reject, small_edit()),
        (
            folder.path("new"),
            ExistingFile::Reject,
            Edit::identity(SOURCE_LEN - 1),
        ),
    ];
    for (target, existing, edit) in cases {
        let options = WriteOptions {
            overwrite: existing == ExistingFile::Replace,
            progress: None,
        };
        let expected = write_new(&source, &edit, &target, options).unwrap_err();
        let copy = start(&source, SOURCE_LEN, &target, existing);
        wait(&copy);
        let error = copy.finish(&edit, None).unwrap_err();
        assert_eq!(error.kind(), expected.kind());
        assert_eq!(without_path(&error), without_path(&expected));
    }
    assert_eq!(folder.names(), ["existing", "source"]);
}

#[test]
fn changed_source_is_copied_anew() {
    let folder = Folder::new();
    let source = folder.source(4096, &[true]);
    let target = folder.path("target");
    let copy = start(&source, SOURCE_LEN, &target, ExistingFile::Reject);
    wait(&copy);
    let mut writer = File::options()
        .write(true)
        .open(folder.path("source"))
        .unwrap();
    writer.write_all(b"changed").unwrap();
    // The change is visible whatever the resolution of the clock is.
    writer.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    copy.finish(&small_edit(), None).unwrap();
    assert_eq!(fs::read(target).unwrap()[..7], *b"changed");
}

#[test]
fn thread_stops_on_request_and_on_an_error() {
    let folder = Folder::new();
    let source = folder.source(4096, &[true]);
    let new = folder.path("new");
    let to = File::create(&new).unwrap();
    assert_eq!(
        copy_prefix(&source, SOURCE_LEN, &to, &AtomicBool::new(true)),
        0
    );
    assert_eq!(to.metadata().unwrap().len(), 0);
    // Writing into a file that is open for reading only is an error.
    let read_only = File::open(&new).unwrap();
    let copied = copy_prefix(&source, SOURCE_LEN, &read_only, &AtomicBool::new(false));
    assert_eq!(copied, 0);
    let mut thread = CopyThread::start(&source, SOURCE_LEN, &to).unwrap();
    let copied = thread.stop();
    assert!([0, SOURCE_LEN].contains(&copied), "{copied}");
    assert!(thread.should_stop.load(Ordering::Relaxed));
    // A second stop, such as that of the drop, has no effect.
    assert_eq!(thread.stop(), 0);
}
