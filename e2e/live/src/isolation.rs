//! That an isolated QEMU (`cpreg_qemu::isolate`) takes a VM's state, and touches nothing of the VM's beside which it runs.
//!
//! A VM with disks, flash, memory in a file, sockets, a display, a forwarded port and logs is started as a user would; it
//! never runs a guest, and holds its locks and ports. Beside it
//!
//! 1. its command line, isolated, is started; none of its files, sockets or folders is open or mapped there (by `/proc`),
//!    no port is listened on, and the guest stands still;
//! 2. the VM writes its stream, and the isolated QEMU takes the whole of it: every section meets its device, and every RAM
//!    block the same name and size;
//! 3. afterwards every file is what it was: contents, inode, and times of change;
//! 4. the command line as it was cannot even be started there. So the others have looked.
//!
//! With `tap` the VM has a tap device too, whose header of offload flags virtio-net wants to find again. Where this
//! machine allows no network namespace there is no VM with a tap either; then the isolated command line must say that
//! virtio-net is not judged.

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

/// What a QEMU that is in the way says: files are locked, ports are taken.
const CONFLICT_MESSAGES: [&str; 3] = [
    "lock",
    "Address already in use",
    "Could not set up host forwarding",
];

/// A case: which QEMU, and whether with a tap.
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

/// The names of all cases, whether their QEMUs are there or not.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let both = |series| [false, true].map(|tap| name(series, tap));
    qemu::series().flat_map(both)
}

fn name(series: &str, tap: bool) -> String {
    format!("isolated-{series}{}", if tap { "/tap" } else { "" })
}

/// All cases.
pub(crate) fn cases(qemus: &[Qemu]) -> impl Iterator<Item = IsolationCase<'_>> {
    let both = |qemu| [false, true].map(|tap| IsolationCase { qemu, has_tap: tap });
    qemus.iter().flat_map(both)
}

impl IsolationCase<'_> {
    /// Runs it. Gives a few words about how it went.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub(crate) fn run(&self) -> Result<String> {
        let folder = tempfile::Builder::new().prefix("cpreg-live-").tempdir()?;
        let belongings = folder.path().join("vm");
        create_vm_files(&belongings)?;
        let namespace = isolate::probe_namespace();
        let has_tap = self.has_tap && namespace.is_ok();

        let mut attempts = 0;
        let (mut source, wrapped, ports) = loop {
            let ports = free_ports()?;
            let mut wrapped = Vec::new();
            if let (true, Ok(words)) = (has_tap, &namespace) {
                wrapped.extend(words.iter().map(OsString::from));
            }
            wrapped.extend(self.command(&belongings, ports, has_tap));
            attempts += 1;
            match QemuProcess::start(&wrapped, &["-S".into()], &STEP_TIMEOUT) {
                Ok(source) => break (source, wrapped, ports),
                // Somebody else was quicker to take a port.
                Err(error)
                    if attempts < 5 && has_any_phrase(&CONFLICT_MESSAGES, error.stderr()) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let before = inspect(&belongings)?;

        let line = self.command(&belongings, ports, self.has_tap);
        let isolated = isolate(&line, &[], &LocalHost)?;
        self.expect(&isolated, has_tap)?;
        let incoming = ["-incoming", "defer"].map(OsString::from);
        let mut beside = QemuProcess::start(&isolated.command, &incoming, &STEP_TIMEOUT)?;
        expect_nothing_open(beside.id(), folder.path())?;

        let stream = folder.path().join("stream");
        save(&mut source, &stream)?;
        load(&mut beside, &stream)?;
        expect_nothing_open(beside.id(), folder.path())?;
        beside.quit()?;
        let after = inspect(&belongings)?;
        if let Some(change) = first_difference(&before, &after) {
            return Err(change.into());
        }

        // The control, last, since it does touch things: the same without isolation.
        let control = QemuProcess::start(&wrapped, &["-S".into()], &STEP_TIMEOUT);
        match control {
            Ok(_) => {
                return Err(
                    "the command line as it was can run beside the VM: nothing is shown".into(),
                );
            }
            Err(error) if has_any_phrase(&CONFLICT_MESSAGES, error.stderr()) => {}
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

    /// A VM's command line, as its user has it.
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

    /// What an isolated command line says of itself.
    fn expect(&self, isolated: &IsolatedCommand, has_tap: bool) -> Result<()> {
        let unjudged: Vec<&str> = isolated
            .unverified
            .iter()
            .map(|unjudged| &*unjudged.description)
            .collect();
        let expected: &[&str] = if self.has_tap && !has_tap {
            &["virtio-net on `-netdev net1`"]
        } else {
            &[]
        };
        if unjudged == expected {
            Ok(())
        } else {
            Err(format!("not judged: {unjudged:?}, expected {expected:?}").into())
        }
    }
}

/// The VM's files.
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

/// A qcow2 image of 1 GiB with nothing in it (QEMU's docs/interop/qcow2, version 2): four clusters of 64 KiB.
fn empty_qcow2() -> Vec<u8> {
    const CLUSTER: usize = 1 << 16;
    let mut image = vec![0; 4 * CLUSTER];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb");
    put(4, &2_u32.to_be_bytes());
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 30).to_be_bytes());
    // The first-level table: two entries, in the last cluster.
    put(36, &2_u32.to_be_bytes());
    put(40, &(3 * CLUSTER as u64).to_be_bytes());
    // The table of reference counts, in the second; the one block of counts, in the third.
    put(48, &(CLUSTER as u64).to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER as u64).to_be_bytes());
    for cluster in 0..4 {
        put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes());
    }
    image
}

/// A port that nothing listens on at the moment.
fn free_ports() -> Result<[u16; 2]> {
    // Both are held until both are known: they are two.
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    Ok([
        listeners[0].local_addr()?.port(),
        listeners[1].local_addr()?.port(),
    ])
}

fn has_any_phrase(some: &[&str], said: &str) -> bool {
    some.iter().any(|words| said.contains(words))
}

/// What a file is: its inode, length, times of change of contents and of inode in ns, and a hash of what is in it.
type FileState = (u64, u64, i128, i128, u64);

fn inspect(folder: &Path) -> Result<BTreeMap<PathBuf, FileState>> {
    let mut found = BTreeMap::new();
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
            let look = (
                metadata.ino(),
                metadata.len(),
                time(metadata.mtime(), metadata.mtime_nsec()),
                time(metadata.ctime(), metadata.ctime_nsec()),
                hasher.finish(),
            );
            found.insert(path, look);
        }
    }
    Ok(found)
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

/// By `/proc`: nothing of `folder` is open or mapped, no network socket is there, nothing listens.
fn expect_nothing_open(process: u32, folder: &Path) -> Result<()> {
    let proc = Path::new("/proc").join(process.to_string());
    let mut sockets = Vec::new();
    let mut seen = 0;
    for entry in fs::read_dir(proc.join("fd"))? {
        // What is closed meanwhile is not open.
        let Ok(target) = fs::read_link(entry?.path()) else {
            continue;
        };
        seen += 1;
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
    if seen < 3 || sockets.is_empty() {
        return Err(format!(
            "{seen} files, {sockets:?}: that is not QEMU, which has at least its monitor"
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
        let is_its = columns
            .get(6)
            .is_some_and(|inode| sockets.iter().any(|own| own == inode));
        // Flags: 0x10000 is a listener.
        if is_its && columns.get(3) == Some(&"00010000") {
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
    // The VM had not run before it was saved, and does not run now.
    wait(
        qemu,
        "query-status",
        "prelaunch",
        &["running", "internal-error"],
    )
}

fn wait(qemu: &mut QemuProcess, question: &str, wanted: &str, bad: &[&str]) -> Result<()> {
    let deadline = Instant::now() + STEP_TIMEOUT.timeout;
    loop {
        let answer = qemu.execute(question, json!({}), &STEP_TIMEOUT)?;
        match answer["status"].as_str() {
            Some(status) if status == wanted => return Ok(()),
            Some(status) if bad.contains(&status) => {
                return Err(format!("{question}: {status}; QEMU said: {}", qemu.stderr()).into());
            }
            _ if Instant::now() >= deadline => {
                return Err(format!("{question}: not {wanted} in time but {answer}").into());
            }
            _ => thread::sleep(Duration::from_millis(10)),
        }
    }
}
