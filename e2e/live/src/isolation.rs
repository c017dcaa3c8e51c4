//! Cases of an isolated QEMU (`cpreg_qemu::isolate`): it loads the state of a VM that still exists,
//! and touches nothing of that VM.
//!
//! The test starts a VM with disks, flash, memory in a file, sockets, a display, a forwarded port
//! and logs, as a user would. The VM stays paused, and holds its locks and ports. While the VM
//! exists:
//!
//! 1. The test starts the isolated command line of the VM. `/proc` must show that the
//!    isolated QEMU listens on no port, and has none of the VM's files, sockets or folders open or
//!    mapped.
//! 2. The VM writes its stream, and the isolated QEMU loads the whole stream. Every section finds
//!    its device, and every RAM block a block of the same name and size.
//! 3. Afterwards every file is unchanged: contents, inode, and times of change.
//! 4. As a control, the test starts the original command line a second time. The start must fail at
//!    the locks and ports, so the isolation was necessary.
//!
//! In cases with `tap` the command line also has a tap device. The saved virtio-net then expects a
//! device that understands offload flags, as a tap does. On a machine without network namespaces
//! the VM itself starts without the tap. The isolated command line must then report that virtio-net
//! is not verified.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_qemu::isolate::{self, IsolatedCommand, LocalHost, isolate};
use cpreg_qemu::process::QemuProcess;
use cpreg_qemu::qmp::WaitOptions;
use serde_json::json;

use crate::qemu::{self, Qemu};
use e2e_framework::Result;

const STEP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(60));

/// Error texts of a QEMU in conflict with another: locked files, used ports.
const CONFLICT_MESSAGES: [&str; 3] = [
    "lock",
    "Address already in use",
    "Could not set up host forwarding",
];

/// A case: a QEMU, with or without a tap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IsolationCase<'a> {
    qemu: &'a Qemu,
    has_tap: bool,
}

impl std::fmt::Display for IsolationCase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&name(self.qemu.series, self.has_tap))
    }
}

/// Returns the names of all cases, even without their QEMUs.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let both = |series| [false, true].map(|tap| name(series, tap));
    qemu::series().flat_map(both)
}

fn name(series: &str, tap: bool) -> String {
    format!("isolated-{series}{}", if tap { "/tap" } else { "" })
}

/// Returns all cases.
pub(crate) fn cases(qemus: &[Qemu]) -> impl Iterator<Item = IsolationCase<'_>> {
    let both = |qemu| [false, true].map(|tap| IsolationCase { qemu, has_tap: tap });
    qemus.iter().flat_map(both)
}

impl IsolationCase<'_> {
    /// Runs the case and returns a summary.
    ///
    /// # Errors
    /// Returns an error with the first unexpected result.
    pub(crate) fn run(&self) -> Result<String> {
        let folder = tempfile::Builder::new().prefix("cpreg-live-").tempdir()?;
        let vm_folder = folder.path().join("vm");
        create_vm_files(&vm_folder)?;
        let namespace = isolate::probe_namespace();
        let has_tap = self.has_tap && namespace.is_ok();

        let mut attempts = 0;
        let (mut source, original_command, ports) = loop {
            let ports = free_ports()?;
            let mut command = Vec::new();
            if let (true, Ok(words)) = (has_tap, &namespace) {
                command.extend(words.iter().map(OsString::from));
            }
            command.extend(self.command(&vm_folder, ports, has_tap));
            attempts += 1;
            match QemuProcess::start(&command, &["-S".into()], &STEP_TIMEOUT) {
                Ok(source) => break (source, command, ports),
                // Another process may have taken a port since `free_ports` returned.
                Err(error) if attempts < 5 && contains_any(&CONFLICT_MESSAGES, error.stderr()) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let before = file_states(&vm_folder)?;

        let command = self.command(&vm_folder, ports, self.has_tap);
        let isolated = isolate(&command, &[], &LocalHost)?;
        self.assert_unverified_devices(&isolated, has_tap)?;
        let incoming = ["-incoming", "defer"].map(OsString::from);
        let mut isolated_qemu = QemuProcess::start(&isolated.command, &incoming, &STEP_TIMEOUT)?;
        assert_nothing_open(isolated_qemu.id(), folder.path())?;

        let stream = folder.path().join("stream");
        save(&mut source, &stream)?;
        load(&mut isolated_qemu, &stream)?;
        assert_nothing_open(isolated_qemu.id(), folder.path())?;
        isolated_qemu.quit()?;
        let after = file_states(&vm_folder)?;
        if let Some(change) = first_difference(&before, &after) {
            return Err(change.into());
        }

        // The control is last, because without isolation it touches files.
        let control = QemuProcess::start(&original_command, &["-S".into()], &STEP_TIMEOUT);
        match control {
            Ok(_) => {
                return Err(
                    "the original command line can run in parallel with the VM, so the \
                     case proves nothing"
                        .into(),
                );
            }
            Err(error) if contains_any(&CONFLICT_MESSAGES, error.stderr()) => {}
            Err(error) => {
                return Err(format!("the control fails for another reason: {error}").into());
            }
        }
        source.quit()?;
        Ok(format!(
            "{} files untouched, {} parts of the command line replaced",
            before.len(),
            isolated.changes.len()
        ))
    }

    /// Returns the command line of a VM, as its user has it.
    fn command(&self, folder: &Path, ports: [u16; 2], tap: bool) -> Vec<OsString> {
        let vm = folder.display();
        let [ssh, gdb] = ports;
        let mut text = format!(
            "-nodefaults -machine virt,pflash0=code -cpu cortex-a57 -smp 2 -m 64 -accel tcg -name vm \
             -object memory-backend-file,id=ram0,size=64M,mem-path={vm}/memory,share=on -numa node,memdev=ram0 \
             -blockdev driver=file,filename={vm}/code.fd,node-name=code-file,read-only=on \
             -blockdev driver=raw,file=code-file,node-name=code,read-only=on \
             -drive if=pflash,unit=1,format=raw,file={vm}/variables.fd \
             -blockdev {{\"driver\":\"file\",\"filename\":\"{vm}/disk.qcow2\",\"node-name\":\"disk-file\"}} \
             -blockdev {{\"driver\":\"qcow2\",\"file\":\"disk-file\",\"node-name\":\"disk\"}} \
             -device virtio-blk-pci,drive=disk,id=disk0 \
             -drive file={vm}/data.raw,if=none,id=data,format=raw,cache=writethrough -device virtio-blk-pci,drive=data \
             -netdev user,id=net0,hostfwd=tcp:127.0.0.1:{ssh}-:22 -device virtio-net-pci,netdev=net0,romfile= \
             -chardev socket,id=agent,path={vm}/agent,server=on,wait=off \
             -device virtio-serial-pci -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 \
             -serial unix:{vm}/serial,server=on,wait=off -serial file:{vm}/serial.log \
             -fsdev local,id=share,path={vm}/share,security_model=none -device virtio-9p-pci,fsdev=share,mount_tag=share \
             -object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0 \
             -monitor unix:{vm}/monitor,server=on,wait=off -qmp unix:{vm}/qmp,server=on,wait=off \
             -gdb tcp:127.0.0.1:{gdb} -vnc unix:{vm}/vnc -pidfile {vm}/pid -D {vm}/qemu.log -d guest_errors"
        );
        if tap {
            text += " -netdev tap,id=net1,ifname=vnet0,script=no,downscript=no,queues=2 \
                      -device virtio-net-pci,netdev=net1,mq=on,vectors=6,romfile=";
        }
        let program = self.qemu.program().into_os_string();
        let words = text.split_whitespace().map(OsString::from);
        [program].into_iter().chain(words).collect()
    }

    /// Checks that the isolated command line reports the devices that it cannot verify.
    fn assert_unverified_devices(&self, isolated: &IsolatedCommand, has_tap: bool) -> Result<()> {
        let unverified: Vec<&str> = isolated
            .unverified
            .iter()
            .map(|device| &*device.description)
            .collect();
        let expected: &[&str] = if self.has_tap && !has_tap {
            &["virtio-net on `-netdev net1`"]
        } else {
            &[]
        };
        if unverified == expected {
            Ok(())
        } else {
            Err(format!("not verified: {unverified:?}, expected {expected:?}").into())
        }
    }
}

/// Creates the files of the VM.
fn create_vm_files(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("share"))?;
    for (name, length) in [
        ("memory", 64 << 20),
        ("code.fd", 64 << 20),
        ("variables.fd", 64 << 20),
        ("data.raw", 1 << 20),
    ] {
        let mut file = File::create(folder.join(name))?;
        file.write_all(name.as_bytes())?;
        file.set_len(length)?;
    }
    fs::write(folder.join("disk.qcow2"), empty_qcow2())?;
    fs::write(folder.join("share/notes"), "the user's own")?;
    Ok(())
}

/// Returns an empty qcow2 image of 1 GiB (QEMU's docs/interop/qcow2, version 2) with four clusters
/// of 64 KiB.
fn empty_qcow2() -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let mut image = vec![0; 4 * CLUSTER];
    let mut put =
        |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 30).to_be_bytes());
    // The first-level table has two entries, in the last cluster.
    put(36, &2_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    // The refcount table is in the second cluster; its only block is in the third.
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    image
}

/// Returns two free ports.
fn free_ports() -> Result<[u16; 2]> {
    // Both ports stay bound until both are known, so that they differ.
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    Ok([
        listeners[0].local_addr()?.port(),
        listeners[1].local_addr()?.port(),
    ])
}

fn contains_any(phrases: &[&str], text: &str) -> bool {
    phrases.iter().any(|phrase| text.contains(phrase))
}

/// State of a file: inode, length, times of change of contents and of inode in ns, and a hash of
/// the content.
type FileState = (u64, u64, i128, i128, u64);

/// Returns the state of every file and folder below `folder`.
fn file_states(folder: &Path) -> Result<BTreeMap<PathBuf, FileState>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = fs::symlink_metadata(&path)?;
            let mut hasher = DefaultHasher::new();
            if metadata.is_file() {
                hash(&path, &mut hasher)?;
            } else if metadata.is_dir() {
                folders.push(path.clone());
            }
            let time = |seconds: i64, nanoseconds: i64| {
                i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
            };
            let state = (
                metadata.ino(),
                metadata.len(),
                time(metadata.mtime(), metadata.mtime_nsec()),
                time(metadata.ctime(), metadata.ctime_nsec()),
                hasher.finish(),
            );
            files.insert(path, state);
        }
    }
    Ok(files)
}

fn hash(path: &Path, hasher: &mut DefaultHasher) -> Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        hasher.write(&chunk[..read]);
    }
}

fn first_difference(
    before: &BTreeMap<PathBuf, FileState>,
    after: &BTreeMap<PathBuf, FileState>,
) -> Option<String> {
    let paths = before.keys().chain(after.keys());
    for path in paths {
        let (was, is) = (before.get(path), after.get(path));
        if was != is {
            return Some(format!("{}: was {was:?}, is {is:?}", path.display()));
        }
    }
    None
}

/// Checks by `/proc` that no file of `folder` is open or mapped, that there is no network socket,
/// and that nothing listens.
fn assert_nothing_open(process: u32, folder: &Path) -> Result<()> {
    let proc = Path::new("/proc").join(process.to_string());
    let mut sockets = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(proc.join("fd"))? {
        // The process may close the file between the two calls.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        count += 1;
        if target.starts_with(folder) {
            return Err(format!("the isolated QEMU has {} open", target.display()).into());
        }
        let text = target.to_string_lossy();
        if let Some(inode) = text
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            sockets.push(inode.to_owned());
        }
    }
    if count < 3 || sockets.is_empty() {
        return Err(format!(
            "{count} open files, sockets {sockets:?}: not QEMU, which has at least a monitor"
        )
        .into());
    }
    let maps = fs::read_to_string(proc.join("maps"))?;
    let vm = folder.display().to_string();
    if let Some(line) = maps.lines().find(|line| line.contains(&vm)) {
        return Err(format!("the isolated QEMU has mapped {line}").into());
    }
    for table in ["tcp", "tcp6", "udp", "udp6", "raw", "packet"] {
        let text = fs::read_to_string(proc.join("net").join(table)).unwrap_or_default();
        for line in text.lines() {
            if line
                .split_whitespace()
                .any(|word| sockets.iter().any(|inode| inode == word))
            {
                return Err(format!("the isolated QEMU has a {table} socket: {line}").into());
            }
        }
    }
    let unix = fs::read_to_string(proc.join("net/unix"))?;
    for line in unix.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let is_socket_of_qemu = columns
            .get(6)
            .is_some_and(|inode| sockets.iter().any(|socket| socket == inode));
        // The flag 0x10000 marks a listener.
        if is_socket_of_qemu && columns.get(3) == Some(&"00010000") {
            return Err(format!("the isolated QEMU listens: {line}").into());
        }
    }
    Ok(())
}

fn save(qemu: &mut QemuProcess, stream: &Path) -> Result<()> {
    let unlimited = json!({"max-bandwidth": 1_u64 << 40});
    qemu.execute("migrate-set-parameters", unlimited, &STEP_TIMEOUT)?;
    let arguments = json!({"uri": format!("exec:cat > {}", stream.display())});
    qemu.execute("migrate", arguments, &STEP_TIMEOUT)?;
    wait(qemu, "query-migrate", "completed", &["failed", "cancelled"])
}

fn load(qemu: &mut QemuProcess, stream: &Path) -> Result<()> {
    let arguments = json!({"uri": format!("exec:cat {}", stream.display())});
    qemu.execute("migrate-incoming", arguments, &STEP_TIMEOUT)?;
    // The VM did not run before it was saved, and does not run now.
    wait(
        qemu,
        "query-status",
        "prelaunch",
        &["running", "internal-error"],
    )
}

fn wait(qemu: &mut QemuProcess, command: &str, expected: &str, errors: &[&str]) -> Result<()> {
    let deadline = Instant::now() + STEP_TIMEOUT.timeout;
    loop {
        let reply = qemu.execute(command, json!({}), &STEP_TIMEOUT)?;
        match reply["status"].as_str() {
            Some(status) if status == expected => return Ok(()),
            Some(status) if errors.contains(&status) => {
                return Err(
                    format!("{command}: {status}; output of QEMU: {}", qemu.stderr()).into(),
                );
            }
            _ if Instant::now() >= deadline => {
                return Err(format!(
                    "{command}: timeout while waiting for {expected}; last reply: {reply}"
                )
                .into());
            }
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
}
