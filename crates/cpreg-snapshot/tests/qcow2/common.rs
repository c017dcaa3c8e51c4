//! Images for the tests, and QEMU's programs that make and check them.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cpreg_snapshot::qcow2::{Change, Image, plan_change};
use cpreg_stream::{Edit, ReadAt, Replacement};

/// Returns `true` if QEMU's programs are installed.
///
/// # Panics
/// In CI if they are missing.
pub(crate) fn has_tools() -> bool {
    let missing = ["qemu-img", "qemu-io"].into_iter().find(|tool| {
        let mut command = Command::new(tool);
        let started = command.arg("--version").stdout(Stdio::null()).status();
        !started.is_ok_and(|status| status.success())
    });
    let Some(tool) = missing else {
        return true;
    };
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{tool} is not installed");
    let mut errors = std::io::stderr();
    let _ = writeln!(
        errors,
        "{tool} is not installed: the test compares nothing with QEMU"
    );
    false
}

/// Runs a program; returns its exit status and its output.
fn run(program: &str, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    (output.status.code().unwrap(), text)
}

/// Runs `qemu-img`, which must succeed.
pub(crate) fn qemu_img(arguments: &[&str]) -> String {
    let (status, text) = run("qemu-img", arguments);
    assert_eq!(status, 0, "qemu-img {arguments:?}: {text}");
    text
}

/// Runs commands of `qemu-io` on an image.
pub(crate) fn qemu_io(path: &Path, commands: &[&str]) -> String {
    let mut arguments = vec!["-f", "qcow2"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    arguments.push(path.to_str().unwrap());
    let (status, text) = run("qemu-io", &arguments);
    assert_eq!(status, 0, "qemu-io {arguments:?}: {text}");
    text
}

/// Result of `qemu-img check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    Clean,
    Leaks,
    Errors,
}

/// Checks an image with `qemu-img check`.
pub(crate) fn check(path: &Path) -> CheckResult {
    let arguments = ["check", "-f", "qcow2", path.to_str().unwrap()];
    match run("qemu-img", &arguments) {
        (0, _) => CheckResult::Clean,
        (3, _) => CheckResult::Leaks,
        (2, _) => CheckResult::Errors,
        (status, text) => panic!("qemu-img check: {status}: {text}"),
    }
}

/// Reproducible bytes, which do not compress.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(count).collect()
}

pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

/// Returns all bytes of a source.
pub(crate) fn bytes(source: &dyn ReadAt) -> Vec<u8> {
    let mut bytes = vec![0; index(source.length().unwrap())];
    source.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Returns the state of a snapshot.
pub(crate) fn state_bytes(image: &[u8], name: &str) -> Vec<u8> {
    let image = Image::open(image).unwrap();
    let snapshot = image.find(name).unwrap().clone();
    bytes(&image.into_state(&snapshot).unwrap())
}

/// Plans the change of a snapshot's state.
pub(crate) fn plan(image: &[u8], name: &str, edit: &Edit) -> Change {
    let image = Image::open(image).unwrap();
    let snapshot = image.find(name).unwrap().clone();
    plan_change(&image.into_state(&snapshot).unwrap(), edit).unwrap()
}

/// Returns an edit of `length` bytes with these replacements: start, removed bytes, new bytes.
pub(crate) fn edit(length: usize, replacements: &[(usize, usize, Vec<u8>)]) -> Edit {
    let replacements = replacements.iter().map(|(start, removed, bytes)| {
        let (start, removed) = (*start as u64, *removed as u64);
        Replacement {
            range: start..start + removed,
            bytes: bytes.clone(),
        }
    });
    Edit::new(replacements.collect(), length as u64)
}

/// Image in a temporary folder.
pub(crate) struct TestImage {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) path: PathBuf,
}

impl TestImage {
    /// Makes an empty image with `qemu-img create`.
    pub(crate) fn create(options: &str, size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        let mut arguments = vec!["create", "-q", "-f", "qcow2"];
        if !options.is_empty() {
            arguments.extend(["-o", options]);
        }
        arguments.extend([path.to_str().unwrap(), size]);
        qemu_img(&arguments);
        Self { folder, path }
    }

    /// Makes an image with this content.
    pub(crate) fn from_bytes(content: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        std::fs::write(&path, content).unwrap();
        Self { folder, path }
    }

    /// Writes the beginning of the VM's state, in whole sectors.
    pub(crate) fn write_state(&self, content: &[u8]) {
        let file = self.folder.path().join("state");
        let count = content.len().next_multiple_of(512);
        let mut content = content.to_vec();
        content.resize(count, 0);
        std::fs::write(&file, content).unwrap();
        let command = format!("write -q -b -s {} 0 {count}", file.display());
        qemu_io(&self.path, &[&command]);
    }

    /// Makes a snapshot of the disk and the state, which has `state_len` bytes.
    pub(crate) fn snapshot(&self, name: &str, state_len: usize) {
        qemu_img(&["snapshot", "-c", name, self.path()]);
        set_state_len(&self.path, name, state_len as u64);
    }

    pub(crate) fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap()
    }

    /// Returns the raw content of the disk in a snapshot.
    pub(crate) fn disk_of(&self, id: &str) -> Vec<u8> {
        let raw = self.folder.path().join("raw");
        let option = format!("snapshot.id={id}");
        let to = raw.to_str().unwrap();
        qemu_img(&["convert", "-l", &option, "-O", "raw", self.path(), to]);
        std::fs::read(&raw).unwrap()
    }
}

fn be(bytes: &[u8], at: usize, count: usize) -> u64 {
    let field = &bytes[at..at + count];
    field
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Sets the length of a snapshot's state, which `qemu-img` leaves at 0.
fn set_state_len(path: &Path, name: &str, state_len: u64) {
    let mut image = std::fs::read(path).unwrap();
    let mut at = index(be(&image, 64, 8));
    for _ in 0..be(&image, 60, 4) {
        at = at.next_multiple_of(8);
        let (id, named) = (be(&image, at + 12, 2), be(&image, at + 14, 2));
        let extra = index(be(&image, at + 36, 4));
        let name_at = at + 40 + extra + index(id);
        if &image[name_at..name_at + index(named)] == name.as_bytes() {
            let short = u32::try_from(state_len).unwrap().to_be_bytes();
            image[at + 32..at + 36].copy_from_slice(&short);
            image[at + 40..at + 48].copy_from_slice(&state_len.to_be_bytes());
        }
        at = name_at + index(named);
    }
    std::fs::write(path, image).unwrap();
}

/// Opens a file to read and write.
pub(crate) fn open_to_write(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Returns a recorded image.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/qcow2");
    let compressed = std::fs::read(folder.join(format!("{name}.qcow2.xz"))).unwrap();
    let mut content = Vec::new();
    let mut reader = lzma_rust2::XzReader::new(compressed.as_slice(), true);
    std::io::copy(&mut reader, &mut content).unwrap();
    content
}

/// Names of the recorded images.
pub(crate) const RECORDED: [&str; 4] = [
    "q10.0__virt-10.0-max-smp1",
    "q10.0__virt-10.0-neoverse-n1-smp2",
    "q7.2__virt-7.2-max-smp2",
    "q7.2__virt-7.2-neoverse-n1-smp1",
];

/// Parts of the disk that all images of [`with_snapshots`] have.
const DISK: [&str; 3] = [
    "write -q -P 7 0 64k",
    "write -q -P 8 1M 100k",
    "write -q -P 9 3M 10k",
];

/// Length of the state in the images of [`with_snapshots`]; not a number of whole sectors.
pub(crate) const STATE_LEN: usize = 290_001;

/// Makes an image with the snapshots `empty`, `one` and `two`.
///
/// `one` and `two` hold a state and share parts of it. With `is_loaded`, the disk's own tables
/// share the state of `one`, as after `-loadvm`. Otherwise they have no state, and neither has a
/// snapshot `last`.
pub(crate) fn with_snapshots(options: &str, is_loaded: bool) -> TestImage {
    let image = TestImage::create(options, "4M");
    qemu_io(&image.path, &DISK);
    image.snapshot("empty", 0);
    let mut state = noise(1, STATE_LEN);
    image.write_state(&state);
    image.snapshot("one", STATE_LEN);
    state.truncate(STATE_LEN / 2);
    state[70_000..80_000].copy_from_slice(&noise(2, 10_000));
    image.write_state(&state);
    qemu_io(&image.path, &["write -q -P 10 2M 40k"]);
    image.snapshot("two", STATE_LEN);
    let active = if is_loaded { "one" } else { "empty" };
    qemu_img(&["snapshot", "-a", active, image.path()]);
    qemu_io(&image.path, &["write -q -P 11 1M 4k"]);
    if !is_loaded {
        image.snapshot("last", 0);
    }
    image
}

/// Returns edits of a state of [`STATE_LEN`] bytes: the same length, shorter, longer.
pub(crate) fn edits() -> Vec<Edit> {
    let length = STATE_LEN;
    vec![
        edit(
            length,
            &[(100_000, 5000, noise(3, 5000)), (200_000, 1, vec![1])],
        ),
        edit(length, &[(150_000, 130_000, noise(4, 100))]),
        edit(
            length,
            &[
                (4000, 10, noise(5, 90)),
                (4500, 80, vec![]),
                (289_000, 1001, vec![]),
            ],
        ),
        edit(
            length,
            &[(120_000, 17, noise(6, 20)), (length, 0, noise(7, 190_000))],
        ),
        edit(length, &[(0, length, noise(8, 100))]),
    ]
}
