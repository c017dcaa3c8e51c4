//! Recording of an installed QEMU: `cpreg probe qemu -- COMMAND…`.
//!
//! cpreg starts a command line paused, before the guest's first instruction. QMP queries
//! the version, accelerator, machine and CPUs, and makes QEMU write its migration stream. The
//! stream holds every register of this destination at reset; its `globalstate` is `prelaunch`. The
//! steps are the same for KVM, HVF and TCG. The caller parses the stream.
//!
//! The command line must be isolated ([`crate::isolate`]), and thus starts QEMU with `-S`. A guest
//! that runs would change the registers and might write to its disks.
//!
//! The stream goes through a Unix socket into an unnamed temporary file, without a return path. The
//! only capability in use is `x-ignore-shared`, if memory is shared. Untouched memory takes 9 bytes
//! per page in the stream (18 MB for 8 GiB). QEMU does not write to this memory, so the host
//! allocates none of it (a QEMU with 8 GiB stays below 50 MiB). The host does allocate memory that
//! the command line preallocates or locks, and the pages of a memfd when QEMU reads them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};
use crate::isolate::options;
use crate::process::{QemuProcess, find_hint};
use crate::qmp::{Version, WaitOptions};

/// Message for a failed operation on the file or socket that receives the stream.
const RECEIVE_ERROR: &str = "cannot receive the stream";

/// Bandwidth above that of any link, in bytes per second.
///
/// QEMU's default (32 or 128 MiB/s) would slow the probe down.
const MAX_BANDWIDTH: u64 = 1 << 40;

/// Result of probing a QEMU.
#[derive(Debug)]
#[non_exhaustive]
pub struct ProbeResult {
    /// Version of QEMU.
    pub version: Version,
    /// Accelerator: `kvm`, `tcg`, `hvf` ….
    pub accelerator: String,
    /// Machine type (`virt-10.0`), with an alias such as `virt` resolved.
    pub machine: String,
    /// QOM type of each vCPU (`cortex-a57`, `host`), in order of the vCPUs.
    pub cpus: Vec<String>,
    /// `true` if the first vCPU starts in AArch64 state.
    pub is_aarch64: bool,
    /// Number of bytes of RAM at boot, without memory that is plugged in later.
    pub ram_len: u64,
    /// Command line that cpreg ran, with the program first and all additions.
    pub command: Vec<OsString>,
    /// Stream that QEMU wrote, in an unnamed file at position 0.
    pub stream: File,
    /// Length of the stream in bytes.
    pub stream_length: u64,
    /// QEMU's standard error (warnings, if any).
    pub stderr: String,
}

/// Starts `command`, which must be isolated, queries QEMU, makes it write its stream, and ends it.
///
/// `options` applies to each step. Writing the stream may take any time, provided that data
/// arrives.
///
/// # Errors
/// Returns an error if QEMU does not start or refuses a command, or its stream does not arrive.
/// QEMU ends in any case.
pub fn probe(command: &[OsString], options: &WaitOptions<'_>) -> Result<ProbeResult, Error> {
    let mut qemu = QemuProcess::start(command, &[], options)?;

    let status = qemu.execute("query-status", json!({}), options)?;
    let status = text(&status, "status", "query-status")?;
    if status != "prelaunch" {
        return Err(Error::new(ErrorKind::NotPaused(status)));
    }
    let version = qemu.qmp().version().clone();
    let kvm = qemu.execute("query-kvm", json!({}), options)?;
    let enabled = kvm.get("enabled").and_then(Value::as_bool);
    let accelerator = detect_accelerator(
        command,
        enabled.ok_or(Error::unexpected_reply("query-kvm"))?,
    );
    let machine = query_qom_type(&mut qemu, "/machine", "-machine", options)?;
    let vcpus = qemu.execute("query-cpus-fast", json!({}), options)?;
    let mut cpus = Vec::new();
    let mut is_aarch64 = false;
    for vcpu in vcpus
        .as_array()
        .ok_or(Error::unexpected_reply("query-cpus-fast"))?
    {
        let path = text(vcpu, "qom-path", "query-cpus-fast")?;
        if cpus.is_empty() {
            is_aarch64 = query_is_aarch64(&mut qemu, &path, options)?;
        }
        cpus.push(query_qom_type(&mut qemu, &path, "-arm-cpu", options)?);
    }
    let memory = qemu.execute("query-memory-size-summary", json!({}), options)?;
    let ram_len = memory.get("base-memory").and_then(Value::as_u64);
    let ram_len = ram_len.ok_or(Error::unexpected_reply("query-memory-size-summary"))?;
    let (stream, stream_length) = write_stream(&mut qemu, has_shared_memory(command), options)?;
    let command = qemu.command().to_vec();
    let (_, stderr) = qemu
        .quit()
        .map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    Ok(ProbeResult {
        version,
        accelerator,
        machine,
        cpus,
        is_aarch64,
        ram_len,
        command,
        stream,
        stream_length,
        stderr,
    })
}

/// Returns `true` if a vCPU starts in AArch64 state. A CPU model without that state lacks the
/// property.
fn query_is_aarch64(
    qemu: &mut QemuProcess,
    path: &str,
    options: &WaitOptions<'_>,
) -> Result<bool, Error> {
    let arguments = json!({"path": path, "property": "aarch64"});
    match qemu.execute("qom-get", arguments, options) {
        Ok(reply) => Ok(reply.as_bool() == Some(true)),
        Err(error) if matches!(error.kind(), ErrorKind::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the QOM type of an object, without the suffix that all types of its kind have.
fn query_qom_type(
    qemu: &mut QemuProcess,
    path: &str,
    suffix: &str,
    options: &WaitOptions<'_>,
) -> Result<String, Error> {
    let arguments = json!({"path": path, "property": "type"});
    let reply = qemu.execute("qom-get", arguments, options)?;
    let name = reply.as_str().ok_or(Error::unexpected_reply("qom-get"))?;
    Ok(name.strip_suffix(suffix).unwrap_or(name).to_owned())
}

fn text(reply: &Value, name: &str, command: &'static str) -> Result<String, Error> {
    let text = reply.get(name).and_then(Value::as_str);
    Ok(text.ok_or(Error::unexpected_reply(command))?.to_owned())
}

/// Makes QEMU write its stream into an unnamed temporary file; returns the file at position 0 and
/// its length.
fn write_stream(
    qemu: &mut QemuProcess,
    shared_memory: bool,
    options: &WaitOptions<'_>,
) -> Result<(File, u64), Error> {
    let mut file = tempfile::tempfile().map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    let path = qemu.folder().join("stream");
    let listener = UnixListener::bind(&path).map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    // cpreg created the folder, so `migrate` needs no quoting of the path.
    let path = path.to_str().ok_or_else(|| {
        Error::io(
            RECEIVE_ERROR,
            io::Error::other("the name of the temporary folder is not UTF-8"),
        )
    })?;

    qemu.execute(
        "migrate-set-parameters",
        json!({"max-bandwidth": MAX_BANDWIDTH}),
        options,
    )?;
    if shared_memory {
        // Shared memory may belong to another process, and reading its untouched pages allocates
        // them.
        let capability = json!({"capability": "x-ignore-shared", "state": true});
        let arguments = json!({"capabilities": [capability]});
        match qemu.execute("migrate-set-capabilities", arguments, options) {
            // A QEMU without the capability sends shared memory like any other (5.2 to 11.1 have
            // it).
            Err(error) if matches!(error.kind(), ErrorKind::Refused { .. }) => {}
            other => drop(other?),
        }
    }
    qemu.execute("migrate", json!({"uri": format!("unix:{path}")}), options)?;
    let socket = match qemu.accept(&listener, options) {
        Ok(socket) => socket,
        // QEMU may fail before it connects, and then reports the reason in `query-migrate`.
        Err(error) if matches!(error.kind(), ErrorKind::NoMonitor(_)) => {
            let migration = qemu.execute("query-migrate", json!({}), options)?;
            return Err(migration_error(&migration, qemu.stderr()));
        }
        Err(error) => return Err(error),
    };

    let received_len = AtomicU64::new(0);
    let give_up = AtomicBool::new(false);
    let length = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(socket, &mut file, &received_len, &give_up));
        let sent = wait_until_sent(qemu, &received_len, options);
        if sent.is_err() {
            give_up.store(true, Ordering::Relaxed);
        }
        let received = receiver
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the receiving thread panicked")));
        match (sent, received) {
            // A failed write to the file causes QEMU's failure: report the cause.
            (_, Err(error)) => Err(Error::io(RECEIVE_ERROR, error)),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(length)) => Ok(length),
        }
    })?;
    file.seek(SeekFrom::Start(0))
        .map_err(|error| Error::io(RECEIVE_ERROR, error))?;
    Ok((file, length))
}

/// Copies QEMU's stream until QEMU closes the connection.
fn receive(
    mut socket: UnixStream,
    file: &mut File,
    received_len: &AtomicU64,
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
                received_len.store(length, Ordering::Relaxed);
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

/// Waits until QEMU has sent its whole stream; the timeout restarts with each received byte.
fn wait_until_sent(
    qemu: &mut QemuProcess,
    received_len: &AtomicU64,
    options: &WaitOptions<'_>,
) -> Result<(), Error> {
    let mut last_len = 0;
    let mut deadline = Instant::now() + options.timeout;
    loop {
        let migration = qemu.execute("query-migrate", json!({}), options)?;
        match migration.get("status").and_then(Value::as_str) {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(migration_error(&migration, qemu.stderr())),
            _ => {}
        }
        let current_len = received_len.load(Ordering::Relaxed);
        if current_len != last_len {
            last_len = current_len;
            deadline = Instant::now() + options.timeout;
        } else if Instant::now() >= deadline {
            return Err(migration_error(&migration, qemu.stderr()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn migration_error(migration: &Value, stderr: String) -> Error {
    let get = |name| migration.get(name).and_then(Value::as_str);
    let status = get("status").unwrap_or("did not start").to_owned();
    let message = match get("error-desc") {
        Some(description) if stderr.contains(description) => stderr,
        Some(description) => [description, &stderr].join("\n").trim_end().to_owned(),
        None => stderr,
    };
    let hint = find_hint(&message);
    Error::new(ErrorKind::NoStream { status, message }).with_hint(hint)
}

/// Returns the accelerator: KVM if QMP reports it, otherwise that of the command line.
///
/// `-accel A -accel B` and `-machine accel=A:B` request A, or B if A is not available.
pub fn detect_accelerator(command: &[OsString], kvm: bool) -> String {
    if kvm {
        return "kvm".to_owned();
    }
    let mut accelerators = Vec::new();
    for pair in command.windows(2) {
        let value = pair[1].to_string_lossy();
        match options::option_name(&pair[0]).and_then(OsStr::to_str) {
            Some("accel") => {
                let first = value.split(',').next().unwrap_or_default();
                accelerators.push(first.trim_start_matches("accel=").to_owned());
            }
            Some("machine" | "M") => {
                let list = value
                    .split(',')
                    .filter_map(|part| part.strip_prefix("accel="));
                accelerators.extend(list.flat_map(|list| list.split(':')).map(str::to_owned));
            }
            _ => {}
        }
    }
    accelerators
        .into_iter()
        .find(|name| name != "kvm")
        .unwrap_or_else(|| "tcg".to_owned())
}

/// Returns `true` if the command line may give the guest memory that it shares with another
/// process.
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
    fn the_accelerator_in_use_is_detected() {
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
    fn shared_memory_is_detected() {
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
    fn a_locked_image_has_a_hint() {
        let stderr = "qemu-system-aarch64: -drive file=a: Failed to get \"write\" lock\nIs another process using the image [a]?";
        let error = migration_error(&json!({"status": "failed"}), stderr.to_owned());
        assert!(
            error
                .hint()
                .is_some_and(|hint| hint.contains("empty image"))
        );
        let error = migration_error(&json!({"status": "failed"}), String::new());
        assert_eq!(error.hint(), None);
    }
}
