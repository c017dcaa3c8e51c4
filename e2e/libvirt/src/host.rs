//! Two hosts with libvirt: Debian 12's and Debian 13's libvirt and QEMU, each in a folder that is
//! the root of its processes.
//!
//! | in the lab folder | content |
//! |---|---|
//! | `libvirt-SUITE/root/` | the unpacked packages |
//! | `libvirt-SUITE/packages` | package list, written last, so its presence means complete |
//!
//! libvirtd runs in namespaces of its own, as the only service of its host. `virsh` needs only the
//! host's folder as its root, because it talks to libvirtd through a socket in that folder.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::Result;
use e2e_framework::debian::{self, Archive};
use e2e_framework::libvirt_files::{GROUP, PASSWD, QEMU_CONF};
use e2e_framework::paths::artifacts_dir;
use e2e_framework::tool::{self, Tool};

const IP: Tool = Tool {
    program: "ip",
    package: "iproute2",
};
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// Timeout for libvirtd to answer, and for one command of `virsh`.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Packages of a host. The programs that compress save images are among them.
const PACKAGES: [&str; 11] = [
    "libvirt-daemon",
    "libvirt-clients",
    "qemu-system-arm",
    "qemu-utils",
    "base-passwd",
    "bash",
    "coreutils",
    "gzip",
    "bzip2",
    "xz-utils",
    "nftables",
];
/// Further programs that compress save images.
const COMPRESSORS: [&str; 2] = ["lzop", "zstd"];

/// State of a connection in the kernel's table of sockets.
const ESTABLISHED: &str = "01";
/// Numbers of bytes in the queues of a socket, in the same table.
const EMPTY_QUEUES: &str = "00000000:00000000";
/// Ports of the relay and of libvirt's migrations.
const RELAY_PORTS: RangeInclusive<u16> = 49151..=49215;

/// Setting beside those of [`QEMU_CONF`]: the folders of the hosts have no extended attributes.
const REMEMBER_OWNER: &str = "remember_owner = 0\n";

/// Generation of Debian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    /// Debian suite.
    pub(crate) suite: &'static str,
    /// Name of the host.
    pub(crate) name: &'static str,
    /// Address of the host.
    pub(crate) address: &'static str,
    /// UUID of the host. libvirt does not migrate to a host with the same.
    uuid: &'static str,
    /// Packages that only this generation has.
    packages: &'static [&'static str],
}

/// Debian 12, with libvirt 9.0 and QEMU 7.2.
pub(crate) const OLD: Generation = Generation {
    suite: "bookworm",
    name: "host-a",
    address: "10.77.0.1",
    uuid: "5a3e9c0d-1b2f-4e6f-8a7b-6c5d4e3f2a1b",
    packages: &[],
};
/// Debian 13, with libvirt 11.3 and QEMU 10.0.
pub(crate) const NEW: Generation = Generation {
    suite: "trixie",
    name: "host-b",
    address: "10.77.0.2",
    uuid: "5a3e9c0d-1b2f-4e6f-8a7b-6c5d4e3f2a1c",
    packages: &["libvirt-daemon-driver-qemu"],
};

/// Fetches the hosts that are missing.
///
/// # Errors
/// Returns an error if the packages cannot be fetched.
pub(crate) fn ensure() -> Result<()> {
    let lab = artifacts_dir();
    fs::create_dir_all(&lab)?;
    let lab = fs::canonicalize(&lab)?;
    let lock = fs::File::create(lab.join("libvirt-lock"))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
    for generation in [OLD, NEW] {
        let packages = fs::read_to_string(folder(&lab, generation).join("packages"));
        // Hosts of an earlier version of this program lack some of the packages.
        let is_complete = packages.is_ok_and(|packages| {
            let mut names = packages.lines().filter_map(|file| file.split('_').next());
            names.any(|name| name == "nftables")
        });
        if !is_complete {
            fetch(&lab, generation)?;
        }
    }
    Ok(())
}

fn folder(lab: &Path, generation: Generation) -> PathBuf {
    lab.join(format!("libvirt-{}", generation.suite))
}

/// Fetches and unpacks a host. Moves the complete folder to its final place.
fn fetch(lab: &Path, generation: Generation) -> Result<()> {
    let mirror = debian::ensure_mirror()?;
    println!("fetching libvirt of {} from {mirror}", generation.suite);
    let architecture = debian::native_architecture()?;
    let archive = Archive::open(lab, &mirror, generation.suite, &architecture)?;
    let packages = [&PACKAGES[..], &COMPRESSORS, generation.packages].concat();
    let packages = archive.download_with_dependencies(&packages)?;
    let partial = lab.join(format!("libvirt-{}.partial", generation.suite));
    debian::remove(&partial)?;
    let root = partial.join("root");
    fs::create_dir_all(&root)?;
    debian::unpack(&packages, &root)?;
    configure(&root)?;
    let names: Vec<_> = packages
        .iter()
        .filter_map(|package| package.file_name()?.to_str())
        .collect();
    fs::write(partial.join("packages"), names.join("\n") + "\n")?;
    let path = folder(lab, generation);
    debian::remove(&path)?;
    fs::rename(&partial, &path)?;
    Ok(())
}

/// Writes the files that the packages' scripts would make, and the configuration of libvirt.
fn configure(root: &Path) -> Result<()> {
    let write = |path: &str, content: &str| -> Result<()> {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(())
    };
    write("etc/passwd", PASSWD)?;
    write("etc/group", GROUP)?;
    write("etc/machine-id", "5a3e9c0d1b2f4e6f8a7b6c5d4e3f2a1b\n")?;
    for folder in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "vm",
        "var/log/libvirt",
        "root",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    debian::remove(&root.join("var/run"))?;
    symlink("/run", root.join("var/run"))?;
    Ok(())
}

/// Writes the settings of libvirt and of the network.
fn write_settings(root: &Path, generation: Generation) -> Result<()> {
    let hosts = [OLD, NEW].map(|host| format!("{} {}\n", host.address, host.name));
    let files = [
        (
            "etc/hosts",
            format!("127.0.0.1 localhost\n{}", hosts.concat()),
        ),
        (
            "etc/libvirt/qemu.conf",
            format!("{QEMU_CONF}{REMEMBER_OWNER}"),
        ),
        (
            "etc/libvirt/libvirtd.conf",
            format!(
                "listen_tls = 0\nlisten_tcp = 1\nauth_tcp = \"none\"\nauth_unix_rw = \"none\"\n\
                 auth_unix_ro = \"none\"\nunix_sock_group = \"root\"\nhost_uuid = \"{}\"\n\
                 log_outputs = \"2:file:/var/log/libvirt/libvirtd.log\"\n",
                generation.uuid
            ),
        ),
        // As the first process of its namespace, it waits for all processes that end. Otherwise
        // libvirtd waits 40 seconds for each QEMU that has ended.
        (
            "init",
            "#!/bin/bash\ntrap : TERM\nwhile :; do\n  /usr/sbin/libvirtd --listen -p \
             /run/libvirtd.pid &\n  while kill -0 $! 2>/dev/null; do wait -n; done\ndone\n"
                .to_owned(),
        ),
    ];
    for (path, content) in files {
        fs::write(root.join(path), content).map_err(|error| format!("{path}: {error}"))?;
    }
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Connects two hosts by a pair of network interfaces.
///
/// # Errors
/// Returns an error if an interface cannot be created.
pub(crate) fn connect(hosts: [&Host; 2]) -> Result<()> {
    tool::ensure_installed(&[IP])?;
    let ip = |arguments: &[&str]| tool::run(Command::new(IP.program).args(arguments));
    let ids = hosts.map(|host| host.init.to_string());
    ip(&[
        "link", "add", "eth0", "netns", &ids[0], "type", "veth", "peer", "name", "eth0", "netns",
        &ids[1],
    ])?;
    for (host, id) in hosts.into_iter().zip(&ids) {
        let address = format!("{}/24", host.generation.address);
        for arguments in [
            &["address", "add", &address, "dev", "eth0"][..],
            &["link", "set", "eth0", "up"],
            &["link", "set", "lo", "up"],
        ] {
            // The host itself need not have the program.
            let mut command = Command::new("nsenter");
            command.args(["--target", id, "--net", "--", IP.program]);
            tool::run(command.args(arguments))?;
        }
    }
    Ok(())
}

/// Running host.
pub(crate) struct Host {
    generation: Generation,
    root: PathBuf,
    process: Child,
    /// First process of the host.
    init: u32,
}

impl Host {
    /// Starts libvirtd of this generation.
    ///
    /// # Errors
    /// Returns an error if this process is not root, or libvirtd does not answer.
    pub(crate) fn start(generation: Generation) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err("hosts with libvirt need root, for namespaces and mounts".into());
        }
        let root = fs::canonicalize(folder(&artifacts_dir(), generation))?.join("root");
        for folder in ["run", "tmp", "vm"] {
            debian::remove(&root.join(folder))?;
            fs::create_dir_all(root.join(folder))?;
        }
        for folder in ["var/lib/libvirt/qemu", "etc/libvirt/qemu"] {
            debian::remove(&root.join(folder))?;
        }
        fs::create_dir_all(root.join("run/libvirt"))?;
        // Hooks are scripts for `sh`.
        if !root.join("bin/sh").exists() {
            symlink("bash", root.join("bin/sh"))?;
        }
        // An earlier run may have left them.
        debian::remove(&root.join("etc/libvirt/hooks"))?;
        debian::remove(&root.join("etc/cpreg"))?;
        write_settings(&root, generation)?;
        let script = "set -e; mount --make-rprivate /; mount -t proc proc \"$0/proc\"; \
                      echo \"$1\" > \"$0/proc/sys/kernel/hostname\"; \
                      mount -t sysfs sysfs \"$0/sys\"; mount --rbind /dev \"$0/dev\"; \
                      exec chroot \"$0\" /init";
        let process = Command::new("unshare")
            .args(["--mount", "--pid", "--uts", "--ipc", "--net", "--fork"])
            .args(["--kill-child", "sh", "-c", script])
            .arg(&root)
            .arg(generation.name)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .stdin(Stdio::null())
            .stdout(fs::File::create(root.join("vm/stdout"))?)
            .stderr(fs::File::create(root.join("vm/stderr"))?)
            .process_group(0)
            .spawn()?;
        let mut host = Self {
            generation,
            root,
            process,
            init: 0,
        };
        host.init = host.find_init()?;
        host.wait_for_libvirtd()?;
        Ok(host)
    }

    /// Returns the number of the host's first process, which has the host's folder as its root.
    fn find_init(&self) -> Result<u32> {
        let parent = self.process.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            let children = fs::read_to_string(&children)?;
            let init = children
                .split_whitespace()
                .next()
                .and_then(|it| it.parse::<u32>().ok());
            let root = init.map(|init| fs::read_link(format!("/proc/{init}/root")));
            if let (Some(init), Some(Ok(root))) = (init, root)
                && root == self.root
            {
                return Ok(init);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(format!("the host {} does not start", self.generation.suite).into())
    }

    /// Returns the path outside of a file of the host, `path` without the leading slash.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Returns the generation of the host.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns a command that runs in the host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.init.to_string()])
            .args(["--mount", "--pid", "--ipc", "--net", "--root", "--wd", "--"])
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Returns `true` if a socket of a migration, or of the relay, has bytes that are not sent or
    /// not read.
    ///
    /// # Errors
    /// Returns an error if the host does not run.
    pub(crate) fn has_queued_bytes(&self) -> Result<bool> {
        for table in ["tcp", "tcp6"] {
            let table = fs::read_to_string(format!("/proc/{}/net/{table}", self.init))?;
            for line in table.lines().skip(1) {
                let fields: Vec<_> = line.split_whitespace().collect();
                let [_, local, remote, ESTABLISHED, queues, ..] = fields[..] else {
                    continue;
                };
                let is_migration = [local, remote].into_iter().any(|address| {
                    let port = address.rsplit_once(':').map(|(_, port)| port);
                    let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
                    port.is_some_and(|port| RELAY_PORTS.contains(&port))
                });
                if is_migration && queues != EMPTY_QUEUES {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Runs `virsh` in the host.
    ///
    /// # Errors
    /// Returns an error if the command cannot be started.
    pub(crate) fn virsh(&self, arguments: &[&str]) -> Result<Output> {
        let seconds = TIMEOUT.as_secs().to_string();
        let virsh = [
            "timeout",
            &seconds,
            "/usr/bin/virsh",
            "--connect",
            "qemu:///system",
        ];
        Ok(self.command(&virsh).args(arguments).output()?)
    }

    /// Sets the format of save images, which libvirt reads when it starts.
    ///
    /// # Errors
    /// Returns an error if libvirtd does not start again.
    pub(crate) fn set_save_format(&self, format: &str) -> Result<()> {
        let setting = format!("{QEMU_CONF}{REMEMBER_OWNER}save_image_format = \"{format}\"\n");
        let path = self.root.join("etc/libvirt/qemu.conf");
        if fs::read_to_string(&path)? == setting {
            return Ok(());
        }
        fs::write(&path, setting)?;
        self.restart_libvirtd()
    }

    /// Makes libvirtd start again.
    ///
    /// # Errors
    /// Returns an error if libvirtd does not start again.
    pub(crate) fn restart_libvirtd(&self) -> Result<()> {
        // The host's first process starts libvirtd again.
        self.signal_libvirtd("TERM")?;
        fs::remove_file(self.root.join("run/libvirtd.pid")).ok();
        self.wait_for_libvirtd()
    }

    /// Sends a signal to libvirtd.
    ///
    /// # Errors
    /// Returns an error if libvirtd does not run.
    pub(crate) fn signal_libvirtd(&self, signal: &str) -> Result<()> {
        let script = format!("kill -{signal} $(cat /run/libvirtd.pid)");
        tool::run(&mut self.command(&["/bin/bash", "-c", &script]))?;
        Ok(())
    }

    fn wait_for_libvirtd(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        // A socket of the former libvirtd may still exist: ask twice.
        while !self.virsh(&["list"])?.status.success() {
            if Instant::now() > deadline {
                let suite = self.generation.suite;
                return Err(format!("libvirtd of {suite} does not answer").into());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Runs `virsh` in the host, and returns its output.
    ///
    /// # Errors
    /// Returns an error if the command fails.
    pub(crate) fn virsh_output(&self, arguments: &[&str]) -> Result<String> {
        let output = self.virsh(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(format!(
            "virsh {} on {}: {}",
            arguments.join(" "),
            self.generation.suite,
            String::from_utf8_lossy(&output.stderr)
        )
        .into())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // All processes of the host are in the namespace of its first process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
