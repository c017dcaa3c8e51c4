//! Installations into folders that stand for hosts.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::run::{Run, cpreg_in};

const HOOK: &str = "etc/libvirt/hooks/qemu.d/50-cpreg";
const SOCKET: &str = "etc/systemd/system/cpreg-relay.socket";
const MANIFEST: &str = "etc/cpreg/install-libvirt.json";

/// Files of a folder with their contents and permissions.
type Tree = BTreeMap<PathBuf, (Vec<u8>, u32)>;

fn read_tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("an entry");
        let content = if metadata.is_dir() {
            tree.extend(read_tree(&path));
            Vec::new()
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).expect("a link");
            target.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).expect("a file")
        };
        tree.insert(path, (content, metadata.permissions().mode()));
    }
    tree
}

/// Checks that two folders are equal. Names only the paths that differ.
fn assert_same(now: &Tree, before: &Tree) {
    let paths = now.keys().chain(before.keys());
    let different: Vec<_> = paths.filter(|it| now.get(*it) != before.get(*it)).collect();
    assert!(different.is_empty(), "{different:?}");
}

/// Host with libvirt, systemd and nft.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().expect("a folder"));
        for path in [
            "etc/libvirt/qemu.conf",
            "usr/sbin/nft",
            "usr/sbin/virtqemud",
            "usr/lib/systemd/systemd",
            "usr/lib/systemd/system/virtqemud.service",
        ] {
            host.write(path, "");
        }
        host.write("etc/group", "root:x:0:\nkvm:x:104:\n");
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("host").join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).expect("a file")
    }

    fn tree(&self) -> Tree {
        read_tree(self.0.path())
    }

    fn install(&self, options: &[&str]) -> Run {
        let command = ["install", "libvirt", "--root", "host"];
        let arguments = [&command[..], options].concat();
        cpreg_in(self.0.path(), &arguments)
    }

    /// Runs `install` with a program at its usual path, successfully.
    fn install_ok(&self, options: &[&str]) -> Run {
        let program = ["--program", "/usr/bin/cpreg"];
        let run = self.install(&[options, &program].concat());
        assert_eq!(run.status, Some(0), "{run}");
        run
    }
}

#[test]
fn the_files_are_printed() {
    let host = Host::new();
    let before = host.tree();
    let run = host.install_ok(&["--print", "--accept", "PSCI_VERSION"]);
    assert_snapshot!("install_print", run);
    assert_same(&host.tree(), &before);
}

#[test]
fn an_installation_is_removed_without_a_trace() {
    let host = Host::new();
    let before = host.tree();
    assert_snapshot!("install_apply", host.install_ok(&["--apply"]));
    let installed = host.tree();
    assert_snapshot!("install_apply_again", host.install_ok(&["--apply"]));
    assert_same(&host.tree(), &installed);
    assert_snapshot!("install_remove", host.install_ok(&["--remove"]));
    assert_same(&host.tree(), &before);
    assert_snapshot!("install_remove_again", host.install_ok(&["--remove"]));
}

#[test]
fn other_options_replace_files() {
    let host = Host::new();
    let before = host.tree();
    host.install_ok(&["--apply"]);
    let run = host.install_ok(&[
        "--apply",
        "--accept",
        "PSCI_VERSION",
        "--log",
        "/var/log/a b",
    ]);
    assert_snapshot!("install_other_options", run);
    let hook = host.read(HOOK);
    assert!(
        hook.contains("--log '/var/log/a b' --accept PSCI_VERSION -- "),
        "{hook}"
    );
    host.install_ok(&["--remove"]);
    assert_same(&host.tree(), &before);
}

#[test]
fn files_of_others_are_never_replaced() {
    let host = Host::new();
    host.write(HOOK, "#!/bin/sh\n");
    let before = host.tree();
    let run = host.install(&["--apply"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("install_foreign", run.stderr);
    assert_same(&host.tree(), &before);
}

#[test]
fn changed_files_stay() {
    let host = Host::new();
    host.install_ok(&["--apply"]);
    let mine = format!("{}# mine\n", host.read(HOOK));
    host.write(HOOK, &mine);
    let again = host.install(&["--apply"]);
    assert_eq!(again.status, Some(2), "{again}");
    assert_snapshot!("install_changed", again.stderr);
    assert_snapshot!("install_remove_changed", host.install_ok(&["--remove"]));
    assert_eq!(host.read(HOOK), mine);
    assert!(!host.path(SOCKET).exists() && !host.path(MANIFEST).exists());
}

#[test]
fn parts_are_independent() {
    let host = Host::new();
    let before = host.tree();
    host.install_ok(&["--apply", "--part", "hook"]);
    assert!(host.path(HOOK).exists() && !host.path(SOCKET).exists());
    host.install_ok(&["--apply", "--part", "relay"]);
    assert!(host.path(HOOK).exists() && host.path(SOCKET).exists());
    let run = host.install_ok(&["--remove", "--part", "hook"]);
    assert!(!run.stdout.contains("systemctl"), "{run}");
    assert!(!host.path(HOOK).exists() && host.path(SOCKET).exists());
    host.install_ok(&["--remove"]);
    assert_same(&host.tree(), &before);
}

/// An installation that was interrupted after some files.
#[test]
fn an_interrupted_installation_is_continued_or_removed() {
    for end in ["--apply", "--remove"] {
        let host = Host::new();
        let before = host.tree();
        host.install_ok(&["--apply"]);
        let installed = host.tree();
        fs::remove_file(host.path(SOCKET)).expect("the socket");
        host.install_ok(&[end]);
        if end == "--apply" {
            assert_same(&host.tree(), &installed);
            host.install_ok(&["--remove"]);
        }
        assert_same(&host.tree(), &before);
    }
}

#[test]
fn missing_programs_are_named() {
    let host = Host::new();
    fs::remove_file(host.path("usr/sbin/nft")).expect("nft");
    fs::remove_file(host.path("usr/lib/systemd/systemd")).expect("systemd");
    let before = host.tree();
    let run = host.install(&["--apply"]);
    assert_eq!(run.status, Some(2), "{run}");
    assert_snapshot!("install_lacking", run.stderr);
    assert_same(&host.tree(), &before);
    host.install_ok(&["--apply", "--part", "hook"]);
}

#[test]
fn unreviewed_consents_and_unclear_actions_are_refused() {
    let host = Host::new();
    let before = host.tree();
    let severity = host.install(&["--apply", "--accept", "low"]);
    assert_snapshot!("install_severity", severity.stderr);
    for options in [
        &[][..],
        &["--apply", "--remove"],
        &["--apply", "--program", "cpreg"],
        &["--apply", "--log", "hook.log"],
        &["--apply", "--to", "host/etc/group"],
    ] {
        let run = host.install(options);
        assert_eq!(run.status, Some(2), "{run}");
    }
    assert_same(&host.tree(), &before);
}

#[test]
fn a_folder_that_apparmor_excludes_is_named() {
    let host = Host::new();
    host.write("etc/apparmor.d/usr.sbin.libvirtd", "");
    let print = ["--print", "--part", "hook", "--program"];
    let run = host.install(&[&print[..], &["/usr/local/bin/cpreg"]].concat());
    assert_snapshot!("install_apparmor", run.stderr);
    let run = host.install(&[&print[..], &["/usr/bin/cpreg"]].concat());
    assert_eq!(run.stderr, "");
}

/// Only status 1 of cpreg stops libvirt, and only events of interest start cpreg.
#[test]
fn the_hook_script_passes_only_refusals_on() {
    let host = Host::new();
    for (exit, expected) in [(0, 0), (1, 1), (2, 0), (3, 0), (101, 0), (137, 0)] {
        // The shell interprets the name of the program as any other word.
        let program = host.path(&format!("cpreg {exit}"));
        fs::write(&program, format!("#!/bin/sh\nexit {exit}\n")).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a script");
        let program = program.to_str().expect("UTF-8");
        let run = host.install(&["--apply", "--part", "hook", "--program", program]);
        assert_eq!(run.status, Some(0), "{run}");
        let call = |words: [&str; 4]| {
            let mut command = Command::new("sh");
            let status = command.arg(host.path(HOOK)).args(words).status();
            status.expect("a shell").code()
        };
        assert_eq!(call(["web", "restore", "begin", "-"]), Some(expected));
        assert_eq!(call(["web", "migrate", "begin", "-"]), Some(expected));
        assert_eq!(call(["web", "start", "begin", "-"]), Some(0));
    }
    let run = host.install(&[
        "--apply",
        "--part",
        "hook",
        "--program",
        "/nonexistent/cpreg",
    ]);
    assert_eq!(run.status, Some(0), "{run}");
    let mut command = Command::new("sh");
    command
        .arg(host.path(HOOK))
        .args(["web", "restore", "begin"]);
    let output = command.output().expect("a shell");
    assert_eq!(output.status.code(), Some(0));
}

/// The tests need systemd-analyze, which `cargo xtask test` installs on Debian.
#[test]
fn systemd_accepts_the_units() {
    let host = Host::new();
    let run = host.install(&["--apply", "--program", "/bin/true"]);
    assert_eq!(run.status, Some(0), "{run}");
    let unit = |name: &str| host.path(&format!("etc/systemd/system/cpreg-relay.{name}"));
    // The paths of programs are checked on this machine.
    let socket = fs::read_to_string(unit("socket")).expect("a unit");
    let socket = socket.replace("/usr/sbin/nft", "/bin/true");
    fs::write(unit("socket"), socket).expect("a unit");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([unit("socket"), unit("service")])
        .output()
        .expect("this test needs systemd-analyze: apt-get install systemd");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    assert!(!message.contains("cpreg-relay"), "{message}");
}
