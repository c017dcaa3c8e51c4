//! Edits applied to files, all or nothing.

use std::fs::{File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::common::{bytes, fixture, index};
use cpreg::vm::{Content, Extension};
use cpreg_stream::{
    Edit, ExistingFile, PrefixCopy, ReadAt, WriteOptions, edit_in_place, write_new,
};
use cpreg_stream::{ErrorKind, Stream};

const N1: &str = "kvm/7.3.4__q10.0__neoverse-n1__virt10.0-smp2-virtio";
const MAPPED: &str = "tcg/q10.0__virt-7.2-cortex-a57-smp2-mappedram";

/// Writes a recorded stream to a file; zeros become holes.
fn unpack(name: &str, path: &Path) -> File {
    let source = fixture(name);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    let length = source.length().unwrap();
    file.set_len(length).unwrap();
    let mut block = vec![0; 64 << 10];
    for start in (0..length).step_by(block.len()) {
        block.resize(index((length - start).min(64 << 10)), 0);
        source.read_exact_at(&mut block, start).unwrap();
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(&block, start).unwrap();
        }
    }
    file
}

/// Returns an edit that makes each vCPU's section longer (`grow`) or shorter.
fn edit(source: &dyn ReadAt, grow: bool) -> Edit {
    let stream = Stream::open(source).unwrap();
    let mut vm = stream.vm().unwrap();
    for vcpu in &mut vm.vcpus {
        if grow {
            vcpu.extensions.push(Extension {
                name: Extension::WFXT_TIMER.into(),
                content: Content::Number(u64::MAX),
            });
        } else {
            let (id, _) = vcpu.registers.iter().next().unwrap();
            vcpu.registers.remove(id);
        }
    }
    let changes = stream.diff_to(&vm).unwrap();
    stream.edit(source, &changes).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn new_file_holds_the_edited_stream() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    let source = unpack(N1, &old);
    source
        .set_permissions(Permissions::from_mode(0o640))
        .unwrap();
    for (grow, name) in [(true, "longer"), (false, "shorter")] {
        let edit = edit(&source, grow);
        let expected = bytes(&edit.apply_to(&source));
        let new = directory.path().join(name);
        let mut reports = Vec::new();
        let options = WriteOptions {
            progress: Some(&mut |done, total| reports.push((done, total))),
            ..WriteOptions::default()
        };
        write_new(&source, &edit, &new, options).unwrap();
        assert!(std::fs::read(&new).unwrap() == expected);
        assert_eq!(new.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(
            *reports.last().unwrap(),
            (edit.new_length(), edit.new_length())
        );
        assert!(reports.is_sorted());
        // Write from memory too, where the kernel cannot copy.
        let memory = directory.path().join("memory");
        let options = WriteOptions {
            overwrite: true,
            progress: None,
        };
        write_new(&bytes(&source), &edit, &memory, options).unwrap();
        assert!(std::fs::read(&memory).unwrap() == expected);
        assert_eq!(memory.metadata().unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(
        names(directory.path()),
        ["longer", "memory", "old", "shorter"]
    );
}

/// Copies RAM into a new file for `target`, and then writes the rest.
fn write_after_prefix(
    source: &File,
    edit: &Edit,
    target: &Path,
) -> Result<(), cpreg_stream::Error> {
    let stream = Stream::open(source)?;
    let copy = PrefixCopy::start(
        source,
        stream.fixed_prefix_len(),
        target,
        ExistingFile::Replace,
    );
    copy.finish(edit, None)
}

#[test]
fn holes_stay_holes() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    let source = unpack(MAPPED, &old);
    let edit = edit(&source, true);
    let new = directory.path().join("new");
    write_new(&source, &edit, &new, WriteOptions::default()).unwrap();
    let (old, new_file) = (old.metadata().unwrap(), File::open(&new).unwrap());
    let (old_size, new_size) = (
        old.blocks() * 512,
        new_file.metadata().unwrap().blocks() * 512,
    );
    assert!(old.len() > 190 << 20);
    assert!(
        new_size <= old_size + (1 << 20),
        "{old_size} bytes became {new_size}"
    );
    let copied = directory.path().join("copied");
    write_after_prefix(&source, &edit, &copied).unwrap();
    assert!(copied.metadata().unwrap().blocks() * 512 <= old_size + (1 << 20));
    assert!(bytes(&File::open(&copied).unwrap()) == bytes(&new_file));
    let stream = Stream::open(&new_file).unwrap();
    assert_eq!(
        stream.cpus()[0].all_subsections().last().unwrap().name,
        Extension::WFXT_TIMER
    );
    edit_in_place(&source, &edit, &directory.path().join("old")).unwrap();
    assert!(
        directory.path().join("old").metadata().unwrap().blocks() * 512 <= old_size + (1 << 20)
    );
}

#[test]
fn existing_files_are_protected() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("old");
    let source = unpack(N1, &old);
    let before = bytes(&source);
    let edit = edit(&source, true);
    let write = |target: &Path, overwrite| {
        let options = WriteOptions {
            overwrite,
            progress: None,
        };
        write_new(&source, &edit, target, options)
    };
    let assert_rejected = |target: &Path, overwrite, words: &str| {
        let error = write(target, overwrite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string_with_hint().contains(words), "{error}");
    };
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&old, &link).unwrap();
    let hard = directory.path().join("hard");
    std::fs::hard_link(&old, &hard).unwrap();
    for name in [&old, &link, &hard] {
        assert_rejected(
            name,
            true,
            "is the input itself; give another name, or change the file in place",
        );
    }
    let existing = directory.path().join("existing");
    std::fs::write(&existing, "precious").unwrap();
    assert_rejected(&existing, false, "already exists");
    assert_rejected(directory.path(), true, "not a regular file");
    assert_rejected(&directory.path().join("none/new"), true, "No such file");
    assert_eq!(std::fs::read(&existing).unwrap(), b"precious");
    assert!(bytes(&source) == before);

    let to_existing = directory.path().join("to-existing");
    std::os::unix::fs::symlink(&existing, &to_existing).unwrap();
    write(&to_existing, true).unwrap();
    assert!(std::fs::read(&existing).unwrap() == bytes(&edit.apply_to(&source)));
    assert!(to_existing.symlink_metadata().unwrap().is_symlink());
    assert_eq!(
        names(directory.path()),
        ["existing", "hard", "link", "old", "to-existing"]
    );
    // The edit was made for another file.
    let other = bytes(&source)[1..].to_vec();
    let error = write_new(
        &other,
        &edit,
        &directory.path().join("x"),
        WriteOptions::default(),
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::BadEdit);
}

#[test]
fn file_is_edited_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    let file = unpack(N1, &path);
    let inode = file.metadata().unwrap().ino();
    for grow in [true, false] {
        let source = File::open(&path).unwrap();
        let edit = edit(&source, grow);
        let expected = bytes(&edit.apply_to(&source));
        edit_in_place(&source, &edit, &path).unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
    }
    assert_eq!(path.metadata().unwrap().ino(), inode);
    assert_eq!(names(directory.path()), ["stream"]);
}

/// Runs the test `name` of this program in a child process under a shell's `limits`.
fn run_in_child(name: &str, limits: &str, directory: &Path) -> std::process::ExitStatus {
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("{limits} exec \"$0\" --exact {name} --nocapture"))
        .arg(program)
        .env("CPREG_TEST_DIRECTORY", directory)
        .output()
        .unwrap();
    // A name that matches no test would succeed too.
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "{text}");
    output.status
}

fn child_directory() -> Option<std::path::PathBuf> {
    std::env::var_os("CPREG_TEST_DIRECTORY").map(Into::into)
}

/// Limits files to 64 KiB, which looks like a full disk. The signal is ignored, because a full disk
/// sends none.
#[test]
fn full_disk_leaves_only_the_old_files() {
    let Some(directory) = child_directory() else {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stream");
        drop(unpack(MAPPED, &path));
        std::fs::write(directory.path().join("old"), "precious").unwrap();
        let before = std::fs::read(&path).unwrap();
        let name = "write::full_disk_leaves_only_the_old_files";
        let status = run_in_child(name, "trap '' XFSZ; ulimit -f 128;", directory.path());
        assert!(status.success());
        assert_eq!(names(directory.path()), ["old", "stream"]);
        assert!(std::fs::read(&path).unwrap() == before);
        assert_eq!(
            std::fs::read(directory.path().join("old")).unwrap(),
            b"precious"
        );
        return;
    };
    let path = directory.join("stream");
    let source = File::open(&path).unwrap();
    let edit = edit(&source, true);
    for target in ["new", "old"] {
        let options = WriteOptions {
            overwrite: true,
            progress: None,
        };
        let target = directory.join(target);
        let error = write_new(&source, &edit, &target, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
        assert!(error.hint().unwrap().contains("free some space"), "{error}");
        let same = write_after_prefix(&source, &edit, &target).unwrap_err();
        assert_eq!(same.to_string_with_hint(), error.to_string_with_hint());
    }
    let error = edit_in_place(&source, &edit, &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
}

/// Kills a process during a write, which must leave no file.
#[test]
#[cfg(target_os = "linux")]
fn killed_process_leaves_no_file() {
    let Some(directory) = child_directory() else {
        for (name, stream) in [("prefix", MAPPED), ("plain", N1)] {
            let directory = tempfile::tempdir().unwrap();
            drop(unpack(stream, &directory.path().join(name)));
            let test = "write::killed_process_leaves_no_file";
            let status = run_in_child(test, "ulimit -c 0;", directory.path());
            assert!(!status.success());
            assert_eq!(names(directory.path()), [name]);
        }
        return;
    };
    let (plain, prefix) = (directory.join("plain"), directory.join("prefix"));
    let new = directory.join("new");
    let progress: Option<&mut dyn FnMut(u64, u64)> = Some(&mut |_, _| std::process::abort());
    if plain.exists() {
        let source = File::open(plain).unwrap();
        let edit = edit(&source, true);
        let options = WriteOptions {
            progress,
            ..WriteOptions::default()
        };
        write_new(&source, &edit, &new, options).unwrap();
    } else {
        let source = File::open(prefix).unwrap();
        let edit = edit(&source, true);
        let prefix_len = Stream::open(&source).unwrap().fixed_prefix_len();
        let copy = PrefixCopy::start(&source, prefix_len, &new, ExistingFile::Reject);
        copy.finish(&edit, progress).unwrap();
    }
}
