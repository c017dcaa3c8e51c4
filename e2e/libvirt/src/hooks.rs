//! Cases with `cpreg install libvirt --part hook`: libvirt itself calls cpreg.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;

use crate::host::Host;
use crate::steps::{
    self, MANAGED_SAVE, VM, cpreg, expect_failed_restore, expect_running, save, wait_for_output,
};

/// Log of the hook, in the host.
const LOG: &str = "/vm/hook.log";
/// Save image, in the host.
const IMAGE: &str = "/vm/web.save";
/// Errors of `cpreg install` without systemd, and with one that does not run.
const LACKS: [&str; 2] = [
    "this host lacks systemd",
    "this host lacks a running systemd",
];
/// Machine type that only the QEMU of Debian 13 has.
const NEW_MACHINE: &str = "virt-10.0";

/// Use of the hook.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HookKind {
    /// `virsh save` here, `virsh restore` there, without `cpreg convert`.
    Restore,
    /// A managed save image of another host; `virsh start` restores it.
    Managed,
    /// A compressed image, which the hook leaves alone.
    Compressed,
    /// A migration that the hook refuses. The user of `virsh` sees the reason.
    Refused,
    /// Another hook that replaces the XML by something that is none.
    BrokenXml,
}

impl HookKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Restore => "hook, restore",
            Self::Managed => "hook, managed save",
            Self::Compressed => "hook, compressed",
            Self::Refused => "hook, refused migration",
            Self::BrokenXml => "hook, broken XML",
        }
    }
}

/// Runs a case that moves the VM from one host to the other.
///
/// # Errors
/// Returns an error if a step has another result than expected.
pub(crate) fn run(kind: HookKind, from: &Host, to: &Host, program: &Cpreg) -> Result<()> {
    let log = to.path(&LOG[1..]);
    if log.exists() {
        fs::remove_file(&log)?;
    }
    match kind {
        HookKind::Restore | HookKind::Compressed => restore(kind, from, to, program),
        HookKind::Managed => start_managed(from, to, program),
        HookKind::Refused => refuse(from, to),
        HookKind::BrokenXml => migrate_with_broken_xml(from, to),
    }
}

fn restore(kind: HookKind, from: &Host, to: &Host, program: &Cpreg) -> Result<()> {
    let image = to.path(&IMAGE[1..]);
    fs::copy(save(from)?, &image)?;
    expect_failed_restore(to, IMAGE)?;
    let consents = consents(to, &image, program)?;
    let installation = Installation::apply(to, &consents)?;
    if matches!(kind, HookKind::Compressed) {
        let before = fs::read(&image)?;
        expect_failed_restore(to, IMAGE)?;
        if fs::read(&image)? != before {
            return Err("the hook changed a compressed image".into());
        }
        expect_log(to, "`cpreg convert /vm/web.save libvirt:web --in-place`")?;
    } else {
        to.virsh_output(&["restore", IMAGE])?;
        expect_running(to)?;
        expect_log(to, "web: restore begin: converted: /vm/web.save: ")?;
    }
    installation.remove()
}

fn start_managed(from: &Host, to: &Host, program: &Cpreg) -> Result<()> {
    for host in [from, to] {
        host.virsh_output(&["define", "/vm/web.xml"])?;
        host.virsh_output(&["start", VM])?;
        wait_for_output(host)?;
        host.virsh_output(&["managedsave", VM])?;
    }
    let name = format!("{MANAGED_SAVE}/{VM}.save");
    let image = to.path(&name);
    fs::copy(from.path(&name), &image)?;
    if to.virsh(&["start", VM])?.status.success() || !image.exists() {
        return Err("libvirt restored the unchanged image: the case shows nothing".into());
    }
    let consents = consents(to, &image, program)?;
    let installation = Installation::apply(to, &consents)?;
    to.virsh_output(&["start", VM])?;
    if image.exists() {
        return Err("the managed save image is still there: libvirt did not restore it".into());
    }
    expect_running(to)?;
    expect_log(to, &format!("converted: /{name}: "))?;
    // An image of this host needs no change.
    to.virsh_output(&["managedsave", VM])?;
    to.virsh_output(&["start", VM])?;
    expect_running(to)?;
    expect_log(to, &format!("unchanged: /{name}: "))?;
    installation.remove()
}

/// Migrates a VM with a machine type that the destination's QEMU lacks.
fn refuse(from: &Host, to: &Host) -> Result<()> {
    let xml = steps::xml().replace("virt-7.2", NEW_MACHINE);
    fs::write(from.path("vm/new.xml"), xml)?;
    from.virsh_output(&["create", "/vm/new.xml"])?;
    wait_for_output(from)?;
    let installation = Installation::apply(to, &[])?;
    let output = migrate(from, to)?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    let expected = format!("lacks the machine type {NEW_MACHINE}; its newest is virt-7.2");
    if output.status.success() || !message.contains(&expected) {
        return Err(format!("virsh does not print the reason: {message}").into());
    }
    expect_log(
        to,
        "web: migrate begin: refused: /usr/bin/qemu-system-aarch64",
    )?;
    expect_running(from)?;
    installation.remove()
}

/// Migrates a VM whose XML another hook breaks. libvirt passes the output of each hook to the next.
fn migrate_with_broken_xml(from: &Host, to: &Host) -> Result<()> {
    from.virsh_output(&["create", "/vm/web.xml"])?;
    wait_for_output(from)?;
    let installation = Installation::apply(to, &[])?;
    let other = to.path("etc/libvirt/hooks/qemu.d/10-other");
    fs::write(
        &other,
        "#!/bin/sh\n[ \"$2 $3\" != \"migrate begin\" ] || echo \"<domain type='qemu'\"\n",
    )?;
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755))?;
    let output = migrate(from, to)?;
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    // libvirt uses the other hook's XML too, and reports it itself.
    if output.status.success() || message.contains("cpreg") {
        return Err(format!("not libvirt's own error: {message}").into());
    }
    expect_log(to, "web: migrate begin: left alone: cannot use the XML")?;
    expect_running(from)?;
    fs::remove_file(other)?;
    installation.remove()
}

/// Migrates the VM through Unix sockets.
fn migrate(from: &Host, to: &Host) -> Result<Output> {
    // The hosts have no network: the socket of the other libvirtd gets a name here.
    let socket = from.path("vm/other.sock");
    if socket.exists() {
        fs::remove_file(&socket)?;
    }
    fs::hard_link(to.path("run/libvirt/libvirt-sock"), &socket)?;
    from.virsh(&[
        "migrate",
        "--live",
        VM,
        "qemu+unix:///system?socket=/vm/other.sock",
        "--migrateuri",
        "unix:///vm/migration.sock",
    ])
}

/// Returns the consents that name each register which the conversion changes.
fn consents(host: &Host, image: &Path, program: &Cpreg) -> Result<Vec<String>> {
    let profile = host.path("vm/qemu.json");
    Ok(program.check(image, &profile, &[])?.consents())
}

fn expect_log(host: &Host, expected: &str) -> Result<()> {
    let log = fs::read_to_string(host.path(&LOG[1..]))?;
    if log.contains(expected) {
        return Ok(());
    }
    Err(format!("the hook's log lacks `{expected}`:\n{log}").into())
}

/// Installed hook of a host.
struct Installation<'h> {
    host: &'h Host,
    /// Content of `/etc` before.
    before: Tree,
    is_removed: bool,
}

impl Drop for Installation<'_> {
    /// Removes the hook after a failed case, for the cases that follow.
    fn drop(&mut self) {
        if !self.is_removed {
            let _ = cpreg(self.host, &["install", "libvirt", "--remove"]);
            let _ = self.host.restart_libvirtd();
        }
    }
}

/// Files of a folder with content and permissions.
type Tree = BTreeMap<PathBuf, (Vec<u8>, u32)>;

impl<'h> Installation<'h> {
    /// Installs the hook, twice, and makes libvirt look for hooks.
    fn apply(host: &'h Host, consents: &[String]) -> Result<Self> {
        let installation = Self {
            host,
            before: read_tree(&host.path("etc"))?,
            is_removed: false,
        };
        // The host has neither systemd nor nft, which the relay needs.
        match cpreg(host, &["install", "libvirt", "--apply"]) {
            Err(error) if LACKS.iter().any(|text| error.to_string().contains(text)) => {}
            other => return Err(format!("the relay was not refused: {other:?}").into()),
        }
        let apply = [
            "install", "libvirt", "--part", "hook", "--apply", "--log", LOG,
        ];
        let consents = consents.iter().map(String::as_str);
        let apply: Vec<_> = apply.into_iter().chain(consents).collect();
        let first = cpreg(host, &apply)?;
        if !first.contains("create: /etc/libvirt/hooks/qemu.d/50-cpreg") {
            return Err(format!("`install` does not name the hook:\n{first}").into());
        }
        let second = cpreg(host, &apply)?;
        if !second.contains("nothing to do") {
            return Err(format!("the second `install` does something:\n{second}").into());
        }
        host.restart_libvirtd()?;
        Ok(installation)
    }

    /// Removes the hook, and compares `/etc` with its content before.
    fn remove(mut self) -> Result<()> {
        cpreg(self.host, &["install", "libvirt", "--remove"])?;
        self.is_removed = true;
        self.host.restart_libvirtd()?;
        if read_tree(&self.host.path("etc"))? == self.before {
            return Ok(());
        }
        Err("`install --remove` does not leave /etc as it was".into())
    }
}

fn read_tree(folder: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let metadata = path.symlink_metadata()?;
            let content = if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else if metadata.is_file() {
                fs::read(&path)?
            } else {
                fs::read_link(&path)?.into_os_string().into_encoded_bytes()
            };
            tree.insert(path, (content, metadata.permissions().mode()));
        }
    }
    Ok(tree)
}
