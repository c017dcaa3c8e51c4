//! Asking an installed QEMU what it is: `cpreg probe qemu -- COMMAND…`.
//!
//! The user's own command line is started paused, before the guest's first instruction, asked through QMP for its
//! version, accelerator, machine and CPUs, and made to write its migration stream. That stream holds every register
//! this destination has, with its value at reset: its `globalstate` says `prelaunch`. Whether the accelerator is KVM,
//! HVF or TCG makes no difference to how it is asked.
//!
//! What lives here is the asking. Reading the stream, and making a destination of it, is for others.
//!
//! | done to the command line | why |
//! |---|---|
//! | `-S` added | the guest must not run: its registers would no longer be at reset, and nothing may be written to its disks |
//! | `-qmp unix:…` added | the monitor ([`crate::process`]) |
//! | `-incoming …` left out | a QEMU that waits for a stream cannot write one |
//! | `-daemonize` left out | QEMU is watched, and ended, from here |
//! | `-loadvm …`, `-preconfig` refused | the registers would be a snapshot's; there would be no vCPUs to ask |
//!
//! The stream goes through a Unix socket into an unnamed temporary file, one way, with no capability switched on but
//! `x-ignore-shared` where memory is shared. Untouched memory costs 9 bytes a page (18 MB for 8 GiB) and, not being
//! written to, takes no memory from the host (a QEMU with 8 GiB stays below 50 MiB). Memory that the command line preallocates
//! or locks does, and so does a memfd: reading a page of one allocates it.
//!
//! What this cannot undo: the command line may open images (QEMU locks them: while the VM runs
//! elsewhere on the same storage the probe is refused, see [`Error::hint`]), replace listening
//! sockets, and attach network devices. It is meant for a host where that VM does not run.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::isolate::{OptionChange, options};
use crate::process::{QemuProcess, find_hint};
use crate::qmp::{Version, WaitOptions};

/// Message of a file or socket that fails.
const RECEIVE_ERROR: &str = "cannot receive the stream";

/// More than any link carries, in bytes a second: QEMU's default (32 or 128 MiB/s) would slow the probe down.
const MAX_BANDWIDTH: u64 = 1 << 40;

/// What a probed QEMU is.
#[derive(Debug)]
pub struct ProbeResult {
    /// Its version.
    pub version: Version,
    /// What executes the guest: `kvm`, `tcg`, `hvf` ….
    pub accelerator: String,
    /// The machine type (`virt-10.0`), an alias such as `virt` resolved.
    pub machine: String,
    /// Each vCPU's type (`cortex-a57`, `host`), in order.
    pub cpus: Vec<String>,
    /// The command line that was run, the program first, with what was added to it.
    pub command: Vec<OsString>,
    /// What was left out of the command line that was given.
    pub removed_options: Vec<OptionChange>,
    /// The stream it wrote, positioned at its start; unnamed, gone when closed.
    pub stream: File,
    /// The length of the stream in bytes.
    pub stream_length: u64,
    /// What it wrote to its standard error (warnings, if any).
    pub stderr: String,
}

/// Starts `command` paused, asks it, has it write its stream, and ends it.
///
/// `patience` is for each step; writing the stream may take any time as long as something arrives.
///
/// # Errors
/// If the command line makes it impossible, QEMU does not start or refuses, or its stream does not
/// come. However it ends, QEMU has ended too.
pub fn probe(command: &[OsString], patience: &WaitOptions<'_>) -> Result<ProbeResult, Error> {
    let (command, left_out) = prepare_command(command)?;
    let mut qemu = QemuProcess::start(&command, &["-S".into()], patience)?;

    let status = qemu.execute("query-status", json!({}), patience)?;
    let status = text(&status, "status", "query-status")?;
    if status != "prelaunch" {
        return Err(Error::new(ErrorKind::NotPaused(status)));
    }
    let version = qemu.qmp().version().clone();
    let kvm = qemu.execute("query-kvm", json!({}), patience)?;
    let enabled = kvm.get("enabled").and_then(Value::as_bool);
    let accelerator = detect_accelerator(
        &command,
        enabled.ok_or(Error::unexpected_reply("query-kvm"))?,
    );
    let machine = query_qom_type(&mut qemu, "/machine", "-machine", patience)?;
    let vcpus = qemu.execute("query-cpus-fast", json!({}), patience)?;
    let mut cpus = Vec::new();
    for vcpu in vcpus
        .as_array()
        .ok_or(Error::unexpected_reply("query-cpus-fast"))?
    {
        let path = text(vcpu, "qom-path", "query-cpus-fast")?;
        cpus.push(query_qom_type(&mut qemu, &path, "-arm-cpu", patience)?);
    }
    let (stream, stream_length) = write_stream(&mut qemu, has_shared_memory(&command), patience)?;
    let command = qemu.command().to_vec();
    let (_, said) = qemu
        .quit()
        .map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    Ok(ProbeResult {
        version,
        accelerator,
        machine,
        cpus,
        command,
        removed_options: left_out,
        stream,
        stream_length,
        stderr: said,
    })
}

/// The QOM type of an object, without the suffix that all of its kind have.
fn query_qom_type(
    qemu: &mut QemuProcess,
    path: &str,
    suffix: &str,
    patience: &WaitOptions<'_>,
) -> Result<String, Error> {
    let arguments = json!({"path": path, "property": "type"});
    let answer = qemu.execute("qom-get", arguments, patience)?;
    let name = answer.as_str().ok_or(Error::unexpected_reply("qom-get"))?;
    Ok(name.strip_suffix(suffix).unwrap_or(name).to_owned())
}

fn text(answer: &Value, name: &str, question: &'static str) -> Result<String, Error> {
    let text = answer.get(name).and_then(Value::as_str);
    Ok(text.ok_or(Error::unexpected_reply(question))?.to_owned())
}

/// Has QEMU write its stream into an unnamed temporary file. Gives the file, at its start, and its length.
fn write_stream(
    qemu: &mut QemuProcess,
    shared_memory: bool,
    patience: &WaitOptions<'_>,
) -> Result<(File, u64), Error> {
    let mut file = tempfile::tempfile().map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    let path = qemu.folder().join("stream");
    let listener = UnixListener::bind(&path).map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    // The folder is ours and was asked for by QEMU's own rules of quoting: `migrate` takes the path as it is.
    let path = path.to_str().ok_or_else(|| {
        Error::io(
            RECEIVE_ERROR,
            io::Error::other("the temporary folder's name is no UTF-8"),
        )
    })?;

    qemu.execute(
        "migrate-set-parameters",
        json!({"max-bandwidth": MAX_BANDWIDTH}),
        patience,
    )?;
    if shared_memory {
        // Shared memory may be another process's, and reading untouched pages of it allocates them.
        let capability = json!({"capability": "x-ignore-shared", "state": true});
        let arguments = json!({"capabilities": [capability]});
        match qemu.execute("migrate-set-capabilities", arguments, patience) {
            // A QEMU without it (5.2 to 11.1 have it) sends that memory like any other.
            Err(error) if matches!(error.kind(), ErrorKind::Refused { .. }) => {}
            other => drop(other?),
        }
    }
    qemu.execute("migrate", json!({"uri": format!("unix:{path}")}), patience)?;
    let socket = match qemu.accept(&listener, patience) {
        Ok(socket) => socket,
        // QEMU may fail before it connects; then it knows why.
        Err(error) if matches!(error.kind(), ErrorKind::NoMonitor(_)) => {
            let migration = qemu.execute("query-migrate", json!({}), patience)?;
            return Err(migration_error(&migration, qemu.stderr()));
        }
        Err(error) => return Err(error),
    };

    let arrived = AtomicU64::new(0);
    let give_up = AtomicBool::new(false);
    let length = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(socket, &mut file, &arrived, &give_up));
        let sent = wait_until_sent(qemu, &arrived, patience);
        if sent.is_err() {
            give_up.store(true, Ordering::Relaxed);
        }
        let received = receiver
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the receiving thread died")));
        match (sent, received) {
            // A file that takes no more is why QEMU could not send: the cause before the effect.
            (_, Err(error)) => Err(Error::io(RECEIVE_ERROR, error)),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(length)) => Ok(length),
        }
    })?;
    file.seek(SeekFrom::Start(0))
        .map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    Ok((file, length))
}

/// Copies what QEMU sends until it closes the connection.
fn receive(
    mut socket: UnixStream,
    file: &mut File,
    arrived: &AtomicU64,
    give_up: &AtomicBool,
) -> io::Result<u64> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut chunk = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        match socket.read(&mut chunk) {
            Ok(0) => return Ok(length),
            Ok(read) => {
                file.write_all(&chunk[..read])?;
                length += read as u64;
                arrived.store(length, Ordering::Relaxed);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        if give_up.load(Ordering::Relaxed) {
            return Ok(length);
        }
    }
}

/// Waits until QEMU has sent its whole stream, as long as some of it arrives now and then.
fn wait_until_sent(
    qemu: &mut QemuProcess,
    arrived: &AtomicU64,
    patience: &WaitOptions<'_>,
) -> Result<(), Error> {
    let mut seen = 0;
    let mut deadline = Instant::now() + patience.timeout;
    loop {
        let migration = qemu.execute("query-migrate", json!({}), patience)?;
        match migration.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(migration_error(&migration, qemu.stderr())),
            _ => {}
        }
        let now = arrived.load(Ordering::Relaxed);
        if now != seen {
            seen = now;
            deadline = Instant::now() + patience.timeout;
        } else if Instant::now() >= deadline {
            return Err(migration_error(&migration, qemu.stderr()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn migration_error(migration: &Value, stderr: String) -> Error {
    let get = |name| migration.get(name).and_then(Value::as_str);
    let status = get("status").unwrap_or("did not start").to_owned();
    let said = match get("error-desc") {
        Some(description) if stderr.contains(description) => stderr,
        Some(description) => [description, &stderr].join("\n").trim_end().to_owned(),
        None => stderr,
    };
    let hint = find_hint(&said);
    Error::new(ErrorKind::NoStream {
        status,
        message: said,
    })
    .with_hint(hint)
}

/// The command line to probe with: without what stands in the way of that.
fn prepare_command(command: &[OsString]) -> Result<(Vec<OsString>, Vec<OptionChange>), Error> {
    let parts = options::parse_command_line(command);
    let mut kept = parts.launcher.to_vec();
    kept.extend(parts.program.cloned());
    let mut left_out = Vec::new();
    for part in parts.arguments {
        let refuse = |reason| {
            Error::new(ErrorKind::CannotProbe {
                option: part.words.first().cloned().unwrap_or_default(),
                reason,
            })
        };
        let reason = match part.name.and_then(OsStr::to_str) {
            Some("incoming") => "it is asked before anything arrives",
            Some("daemonize") => "it is watched, and ended, by cpreg",
            Some("loadvm") => {
                return Err(refuse(
                    "its registers would be a snapshot's, not those of a fresh VM",
                ));
            }
            Some("preconfig") => {
                return Err(refuse("it would wait before it makes any vCPU to ask"));
            }
            _ => {
                kept.extend_from_slice(part.words);
                continue;
            }
        };
        left_out.push(OptionChange {
            before: part.words.to_vec(),
            after: Vec::new(),
            reason,
        });
    }
    Ok((kept, left_out))
}

/// What executes the guest. QMP tells for sure whether it is KVM; which of the others, only the command line does.
///
/// `-accel A -accel B` and `-machine accel=A:B` mean: A, or B if A does not come up.
pub fn detect_accelerator(command: &[OsString], kvm: bool) -> String {
    if kvm {
        return "kvm".to_owned();
    }
    let mut wanted = Vec::new();
    for pair in command.windows(2) {
        let value = pair[1].to_string_lossy();
        match options::option_name(&pair[0]).and_then(OsStr::to_str) {
            Some("accel") => {
                let first = value.split(',').next().unwrap_or_default();
                wanted.push(first.trim_start_matches("accel=").to_owned());
            }
            Some("machine" | "M") => {
                let list = value
                    .split(',')
                    .filter_map(|part| part.strip_prefix("accel="));
                wanted.extend(list.flat_map(|list| list.split(':')).map(str::to_owned));
            }
            _ => {}
        }
    }
    wanted
        .into_iter()
        .find(|name| name != "kvm")
        .unwrap_or_else(|| "tcg".to_owned())
}

/// Whether the command line may give the guest memory that is shared with somebody.
fn has_shared_memory(command: &[OsString]) -> bool {
    command.iter().any(|word| {
        let word = word.to_string_lossy();
        [
            "share=on",
            "share=yes",
            "share=true",
            "\"share\"",
            "memory-backend-memfd",
        ]
        .iter()
        .any(|mark| word.contains(mark))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn what_stands_in_the_way_is_left_out_and_named() {
        let command =
            words("qemu-system-aarch64 -M virt -incoming defer --daemonize -append -incoming -S");
        let (kept, left_out) = prepare_command(&command).unwrap();
        assert_eq!(
            kept,
            words("qemu-system-aarch64 -M virt -append -incoming -S")
        );
        let left: Vec<_> = left_out.iter().map(|left| left.before.clone()).collect();
        assert_eq!(left, [words("-incoming defer"), words("--daemonize")]);
    }

    #[test]
    fn a_snapshot_is_no_fresh_vm() {
        let error = prepare_command(&words("qemu -loadvm before")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot probe with `-loadvm`: its registers would be a snapshot's, not those of a fresh VM"
        );
        assert!(prepare_command(&words("qemu --preconfig")).is_err());
    }

    #[test]
    fn the_accelerator_that_came_up() {
        for (command, kvm, expected) in [
            ("qemu -M virt", false, "tcg"),
            ("qemu -accel kvm -accel tcg", false, "tcg"),
            ("qemu -accel kvm -accel tcg", true, "kvm"),
            ("qemu -accel hvf", false, "hvf"),
            ("qemu -machine virt,accel=kvm:hvf:tcg", false, "hvf"),
            ("qemu -M virt,accel=tcg,gic-version=3", false, "tcg"),
            ("qemu -accel tcg,thread=single", false, "tcg"),
        ] {
            assert_eq!(
                detect_accelerator(&words(command), kvm),
                expected,
                "{command}"
            );
        }
    }

    #[test]
    fn shared_memory_is_noticed() {
        assert!(has_shared_memory(&words(
            "qemu -object memory-backend-file,id=m,share=on,size=1G"
        )));
        assert!(has_shared_memory(&words(
            "qemu -object memory-backend-memfd,id=m,size=1G"
        )));
        assert!(!has_shared_memory(&words(
            "qemu -object memory-backend-ram,id=m,size=1G"
        )));
    }

    #[test]
    fn a_locked_image_has_a_way_out() {
        let said = "qemu-system-aarch64: -drive file=a: Failed to get \"write\" lock\nIs another process using the image [a]?";
        let error = migration_error(&json!({"status": "failed"}), said.to_owned());
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("empty image"))
        );
        let error = migration_error(&json!({"status": "failed"}), String::new());
        assert_eq!(error.hint(), None);
    }
}
