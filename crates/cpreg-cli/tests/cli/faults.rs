//! Failures while a file is written: no space, Ctrl-C, a killed process. No data is lost, and no
//! temporary file is left.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fixtures::{file_names, unpack_stream};
use crate::run::{KVM_6_12, KVM_6_16, Run, command, cpreg_in};
use cpreg_testdata::large_stream::{self, Size};

const MIB: u64 = 1 << 20;

/// Creates a folder with a VM, `vm`, and a stream of another kernel to convert it for, `there`.
fn folder(pages: u64, vcpus: u32) -> TempDir {
    // The folder is below target, which is on a disk more often than the temporary folder.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
    let ram = (64 * MIB).max(pages);
    for (stream, name, pages) in [(KVM_6_12, "vm", pages), (KVM_6_16, "there", 0)] {
        let file = fs::File::create_new(folder.path().join(name)).expect("a file in it");
        large_stream::write(
            &unpack_stream(stream),
            Size {
                ram,
                sent_ram: pages,
                vcpus,
            },
            &file,
        )
        .expect("it grows");
    }
    folder
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).expect("a file")
}

/// Way in which a test runs out of space.
struct SpaceLimit {
    /// Error of the system without space.
    cause: &'static str,
    /// Shell command that succeeds if this way works on this machine.
    attempt: &'static str,
    /// Script that runs the command, writes the names of all files to `names`, and compares `vm`
    /// with its old content.
    script: &'static str,
}

/// A small filesystem, which only this process sees, with 4 KiB free.
const FULL_DISK: SpaceLimit = SpaceLimit {
    cause: "No space left on device",
    attempt: "unshare --mount mount -t tmpfs -o size=32m cpreg-test small",
    script: "exec unshare --mount sh -ec 'mount -t tmpfs -o size=32m cpreg-test small
        cp vm there small; cd small
        head -c 4096 /dev/zero > room; cat /dev/zero > filler 2> /dev/null || true; rm room
        set +e; \"$@\"; status=$?; set -e
        rm filler; ls -A > ../names; cmp vm ../vm; exit $status' sh \"$@\"",
};

/// A limit of 4 KiB for each file, like a quota. The script ignores the signal that would otherwise
/// end the process at the limit.
const FILE_SIZE_LIMIT: SpaceLimit = SpaceLimit {
    cause: "File too large",
    attempt: "true",
    script: "cp vm there small; cd small
        set +e; (ulimit -f 8; trap '' XFSZ; \"$@\"); status=$?; set -e
        ls -A > ../names; cmp vm ../vm; exit $status",
};

/// Runs the command almost without space, and checks that all files are unchanged. Does nothing if
/// that cannot be set up.
fn run_without_space(limit: &SpaceLimit, arguments: &[&str]) -> Option<Run> {
    // cpreg copies this much RAM while it decides.
    let folder = folder(10 * MIB, 4);
    fs::create_dir(folder.path().join("small")).expect("a folder");
    let shell = |script: &str| -> Output {
        let mut shell = Command::new("sh");
        crate::run::remove_influences(&mut shell);
        shell.current_dir(folder.path()).args(["-ec", script, "sh"]);
        shell.arg(env!("CARGO_BIN_EXE_cpreg")).args(arguments);
        shell.output().expect("a shell")
    };
    if !shell(limit.attempt).status.success() {
        return None;
    }
    let run = Run::from_output(arguments, &shell(limit.script));
    let file_list = fs::read_to_string(folder.path().join("names")).expect("the end of the script");
    assert_eq!(file_list, "there\nvm\n", "{run}");
    Some(run)
}

#[test]
fn a_full_disk_leaves_everything_as_it_was() {
    for (output, message) in [
        (&["-o", "out"][..], "error: cannot write out"),
        (&["-o", "out", "--force"], "error: cannot write out"),
        (&["--in-place"], "error: cannot change vm"),
    ] {
        let arguments = [&["convert", "vm", "there"], output].concat();
        let run = |limit| Some((limit, run_without_space(limit, &arguments)?));
        let full = run(&FULL_DISK);
        // Only root may mount. Every user can set a limit.
        let limited = run(&FILE_SIZE_LIMIT).expect("a shell");
        for (limit, run) in full.into_iter().chain([limited]) {
            assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
            let lines: Vec<_> = run.stderr.lines().collect();
            assert_eq!(lines.first(), Some(&message), "{run}");
            assert!(run.stderr.contains(limit.cause), "{run}");
            let has_advice = lines
                .last()
                .is_some_and(|line| line.starts_with("hint: free some space"));
            assert!(has_advice, "{run}");
        }
    }
}

/// Starts the command without waiting for it.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = command(folder, arguments);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.expect("the command starts")
}

fn send(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("a process id"), signal).expect("it has not been waited for");
}

/// Finds the file, named or unnamed, that a process is writing in this folder. Returns `None` while
/// it is empty.
fn find_written_file(child: &Child, folder: &Path) -> Option<PathBuf> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", child.id())).ok()?;
    let mut paths = descriptors.filter_map(|entry| Some(entry.ok()?.path()));
    paths.find(|descriptor| {
        fs::read_link(descriptor).is_ok_and(|file| {
            let known = ["vm", "there"].map(|name| folder.join(name));
            file.starts_with(folder) && file != folder && !known.contains(&file)
        }) && fs::metadata(descriptor).is_ok_and(|file| file.len() > 0)
    })
}

#[test]
fn no_space_leaves_no_report() {
    let full = run_without_space(&FULL_DISK, &["report", "vm", "-o", "out"]);
    // The content of a report is read back from a temporary file, which also lacks space.
    let limited =
        run_without_space(&FILE_SIZE_LIMIT, &["report", "vm", "-o", "out"]).expect("a shell");
    let full = full.map(|run| (run, "error: cannot write out", FULL_DISK.cause));
    let limited = (
        limited,
        "error: cannot write a temporary copy of VM",
        FILE_SIZE_LIMIT.cause,
    );
    for (run, message, cause) in full.into_iter().chain([limited]) {
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{run}");
        assert_eq!(run.stderr.lines().next(), Some(message), "{run}");
        assert!(run.stderr.contains(cause), "{run}");
        assert!(run.stderr.contains("hint: "), "{run}");
    }
}

#[test]
fn killed_report_is_complete_or_absent() {
    let folder = folder(32 * MIB, 8);
    let path = folder.path();
    let arguments = ["report", "vm", "-o", "out", "there"];
    let started = Instant::now();
    assert_eq!(cpreg_in(path, &arguments).status, Some(0));
    let duration = started.elapsed();
    let document = read(path, "out");
    let mut killed = 0;
    for moment in 0..24 {
        if path.join("out").exists() {
            fs::remove_file(path.join("out")).expect("it is there");
        }
        let mut child = start(path, &arguments);
        thread::sleep(duration * moment / 20);
        let signal = [Signal::INT, Signal::TERM, Signal::KILL][moment as usize % 3];
        if child.try_wait().expect("a child").is_none() {
            send(&child, signal);
        }
        killed += usize::from(!child.wait().expect("a child").success());
        let expected: &[&str] = if path.join("out").exists() {
            assert!(read(path, "out") == document);
            &["out", "there", "vm"]
        } else {
            &["there", "vm"]
        };
        assert_eq!(file_names(path), expected);
    }
    assert!(killed > 0, "it was always too quick");
}

#[test]
fn signal_leaves_no_files() {
    let folder = folder(128 * MIB, 1);
    let path = folder.path().canonicalize().expect("it is there");
    let before = read(&path, "vm");
    let mut interrupted = 0;
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        for moment in 0..4 {
            let mut child = start(&path, &["convert", "vm", "there", "-o", "out"]);
            let deadline = Instant::now() + Duration::from_secs(60);
            while find_written_file(&child, &path).is_none()
                && child.try_wait().expect("a child").is_none()
            {
                assert!(Instant::now() < deadline, "it does not begin to write");
            }
            thread::sleep(Duration::from_millis(3 * moment));
            if child.try_wait().expect("a child").is_none() {
                send(&child, signal);
            }
            let status = child.wait().expect("a child");
            // The command may finish early if the filesystem shares blocks; the file is then
            // complete.
            if status.success() {
                let verified = cpreg_in(&path, &["show", "out", "--verify"]);
                assert_eq!(verified.status, Some(0), "{verified}");
                fs::remove_file(path.join("out")).expect("it is there");
            } else {
                assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
                interrupted += 1;
            }
            assert_eq!(file_names(&path), ["there", "vm"], "after {signal:?}");
        }
    }
    assert!(read(&path, "vm") == before);
    assert!(interrupted > 0, "it was always too quick");
}

/// States of a file after the process of a change in place was killed.
#[derive(Debug, Default)]
struct EditStateCounts {
    unchanged: usize,
    unfinished: usize,
    finished: usize,
}

#[test]
fn killed_change_in_place_is_recovered() {
    let folder = folder(0, 64);
    let path = folder.path();
    let change = ["convert", "vm", "there", "--in-place"];
    // A conversion for the same host changes nothing, but recovers an interrupted change first.
    let recover = ["convert", "vm", "vm", "--in-place"];
    let old = read(path, "vm");
    let started = Instant::now();
    assert_eq!(cpreg_in(path, &change).status, Some(0));
    let duration = started.elapsed();
    let new = read(path, "vm");
    assert!(old != new);

    let mut found = EditStateCounts::default();
    for attempt in 0..200 {
        fs::write(path.join("vm"), &old).expect("it may be written");
        let mut child = start(path, &change);
        if attempt < 20 {
            thread::sleep(duration * attempt / 20);
        } else {
            // Wait until the file has the mark of a change in progress.
            while !read(path, "vm").starts_with(b"cpRG")
                && child.try_wait().expect("a child").is_none()
            {}
        }
        // The process may have exited by itself.
        child.kill().expect("a child");
        child.wait().expect("a child");

        let is_pending = file_names(path).contains(&"vm.cpreg-journal".to_owned());
        let content = read(path, "vm");
        let shown = cpreg_in(path, &["show", "vm"]);
        let has_hint = shown.stderr.contains("cpreg convert vm vm --in-place");
        if content.starts_with(b"cpRG") {
            found.unfinished += 1;
            assert_eq!(
                (shown.status, shown.stdout.as_str()),
                (Some(2), ""),
                "{shown}"
            );
            assert!(is_pending);
        } else {
            // Space reserved after the end does not belong to the stream.
            let is_old =
                content.starts_with(&old) && content[old.len()..].iter().all(|byte| *byte == 0);
            assert!(is_old || content == new);
            *(if is_old {
                &mut found.unchanged
            } else {
                &mut found.finished
            }) += 1;
            assert_eq!(shown.status, Some(0), "{shown}");
        }
        assert_eq!(has_hint, is_pending, "{shown}");

        let recovered = cpreg_in(path, &recover);
        assert_eq!(recovered.status, Some(0), "{recovered}");
        let has_note = recovered.stderr.contains("the file is complete");
        assert_eq!(has_note, is_pending, "{recovered}");
        assert_eq!(file_names(path), ["there", "vm"]);
        let content = read(path, "vm");
        assert!(content == old || content == new);
        if attempt > 25 && found.unfinished > 2 {
            break;
        }
    }
    assert!(found.unfinished > 0 && found.unchanged > 0, "{found:?}");
}

#[test]
fn unfinished_change_without_journal_is_an_error() {
    let folder = folder(0, 1);
    let path = folder.path();
    let mut content = read(path, "vm");
    content[..4].copy_from_slice(b"cpRG");
    fs::write(path.join("vm"), &content).expect("it may be written");
    let shown = cpreg_in(path, &["show", "vm"]);
    let changed = cpreg_in(path, &["convert", "vm", "there", "--in-place"]);
    for run in [shown, changed] {
        assert_eq!(run.status, Some(2), "{run}");
        assert!(
            run.stderr
                .contains("original content was in vm.cpreg-journal"),
            "{run}"
        );
    }
    assert!(read(path, "vm") == content);
}
