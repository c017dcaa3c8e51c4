//! Cases: a VM saved by one libvirt, converted by cpreg, restored by the other.

use std::fmt;
use std::fs;
use std::path::Path;

use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::tool;

use crate::hooks::{self, HookKind};
use crate::host::{Generation, Host, NEW, OLD};
use crate::proxmox;
use crate::steps::{
    self, ACCEPT, MANAGED_SAVE, QEMU, VM, cpreg, expect_failed_restore, expect_running, save,
    wait_for_output,
};

/// One move of a VM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    from: Generation,
    to: Generation,
    /// Format of the save image, in libvirt's words.
    format: &'static str,
    kind: Kind,
}

/// Treatment of the save image.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// `virsh save`, `cpreg convert -o`, `virsh restore`.
    NewFile,
    /// `virsh save`, `cpreg convert --in-place`, `virsh restore`.
    InPlace,
    /// A managed save image, converted in place; `virsh start` restores it.
    Managed,
    /// A managed save image with an unfinished edit, which libvirt must refuse and keep.
    Unfinished,
    /// A running domain as SOURCE, and a defined one as DESTINATION.
    Domain,
    /// libvirt calls cpreg.
    Hook(HookKind),
    /// A hookscript of Proxmox VE puts a relay between two QEMUs.
    Proxmox,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::NewFile => "new file",
            Kind::InPlace => "in place",
            Kind::Managed => "managed save",
            Kind::Unfinished => "unfinished edit",
            Kind::Domain => "running domain",
            Kind::Hook(kind) => kind.name(),
            Kind::Proxmox => "hookscript of Proxmox VE",
        };
        let (from, to) = (self.from.suite, self.to.suite);
        write!(f, "{from} -> {to}, {}, {kind}", self.format)
    }
}

/// Returns all cases. Both generations know all formats but zstd and sparse.
pub(crate) fn all() -> Vec<Case> {
    let case = |from, to, format, kind| Case {
        from,
        to,
        format,
        kind,
    };
    let pairs = [(OLD, NEW), (NEW, OLD)];
    let cases = pairs.into_iter().flat_map(move |(from, to)| {
        let formats = ["raw", "gzip", "bzip2", "xz", "lzop"];
        let new_files = formats.map(|format| case(from, to, format, Kind::NewFile));
        let others = [
            case(from, to, "raw", Kind::InPlace),
            case(from, to, "gzip", Kind::InPlace),
            case(from, to, "raw", Kind::Managed),
            case(from, from, "raw", Kind::Unfinished),
            case(from, to, "raw", Kind::Domain),
            case(from, to, "raw", Kind::Hook(HookKind::Restore)),
            case(from, to, "raw", Kind::Hook(HookKind::Managed)),
            case(from, to, "gzip", Kind::Hook(HookKind::Compressed)),
            case(from, to, "raw", Kind::Hook(HookKind::BrokenXml)),
            case(from, to, "raw", Kind::Proxmox),
        ];
        new_files.into_iter().chain(others)
    });
    let newest = ["zstd", "sparse"];
    let newest = newest.map(move |format| case(NEW, NEW, format, Kind::InPlace));
    let refused = case(NEW, OLD, "raw", Kind::Hook(HookKind::Refused));
    let mut cases: Vec<_> = cases.chain(newest).chain([refused]).collect();
    // libvirtd starts again for another format.
    cases.sort_by_key(|case| case.format);
    cases
}

/// Hosts and programs of all cases.
pub(crate) struct Fixture<'c> {
    old: Host,
    new: Host,
    cpreg: &'c Cpreg,
}

impl<'c> Fixture<'c> {
    /// Gives both hosts the guest and cpreg, and records the QEMU of each.
    ///
    /// # Errors
    /// Returns an error if a file cannot be copied, or a QEMU cannot be recorded.
    pub(crate) fn new([old, new]: [Host; 2], cpreg: &'c Cpreg, guest: &Path) -> Result<Self> {
        for host in [&old, &new] {
            fs::copy(guest, host.path("vm/guest.bin"))?;
            fs::write(host.path("vm/web.xml"), steps::xml())?;
            // A user records the QEMU on its host, where its libraries are.
            fs::create_dir_all(host.path("usr/local/bin"))?;
            fs::copy(cpreg.program(), host.path("usr/local/bin/cpreg"))?;
            let arguments = [
                "/usr/local/bin/cpreg",
                "probe",
                "qemu",
                "-o",
                "/vm/qemu.json",
                "--",
            ];
            tool::run(host.command(&arguments).args(QEMU))?;
        }
        Ok(Self { old, new, cpreg })
    }

    /// Returns both hosts.
    pub(crate) fn hosts(&self) -> [&Host; 2] {
        [&self.old, &self.new]
    }

    fn host(&self, generation: Generation) -> &Host {
        if generation.suite == OLD.suite {
            &self.old
        } else {
            &self.new
        }
    }

    /// Runs a case.
    ///
    /// # Errors
    /// Returns an error if a step has another result than expected.
    pub(crate) fn run(&self, case: &Case) -> Result<()> {
        let (from, to) = (self.host(case.from), self.host(case.to));
        for host in [from, to] {
            host.set_save_format(case.format)?;
        }
        let result = match case.kind {
            Kind::NewFile | Kind::InPlace => self.move_saved(case, from, to),
            Kind::Managed => self.move_managed(from, to),
            Kind::Unfinished => check_unfinished(from),
            Kind::Domain => check_domain(from, to),
            Kind::Hook(kind) => hooks::run(kind, from, to, self.cpreg),
            Kind::Proxmox => proxmox::run(from, to),
        };
        for host in [from, to] {
            // The VM need not exist.
            host.virsh(&["destroy", VM])?;
            host.virsh(&["undefine", VM, "--managed-save"])?;
        }
        result
    }

    fn move_saved(&self, case: &Case, from: &Host, to: &Host) -> Result<()> {
        let is_move = case.from.suite != case.to.suite;
        let image = save(from)?;
        let target = to.path("vm/web.save");
        if is_move {
            fs::copy(&image, &target)?;
            expect_failed_restore(to, "/vm/web.save")?;
        }
        let profile = to.path("vm/qemu.json");
        let restored = if matches!(case.kind, Kind::NewFile) {
            let output = to.path("vm/converted.save");
            if output.exists() {
                fs::remove_file(&output)?;
            }
            let options = ACCEPT.map(String::from);
            self.cpreg.convert(&target, &profile, &output, &options)??;
            "/vm/converted.save"
        } else {
            self.convert_in_place(&target, &profile)?;
            "/vm/web.save"
        };
        to.virsh_output(&["restore", restored])?;
        expect_running(to)
    }

    fn move_managed(&self, from: &Host, to: &Host) -> Result<()> {
        for host in [from, to] {
            host.virsh_output(&["define", "/vm/web.xml"])?;
        }
        from.virsh_output(&["start", VM])?;
        expect_running(from)?;
        from.virsh_output(&["managedsave", VM])?;
        let name = format!("{MANAGED_SAVE}/{VM}.save");
        // The other libvirt learns of the image when it makes one itself.
        to.virsh_output(&["start", VM])?;
        to.virsh_output(&["managedsave", VM])?;
        let image = to.path(&name);
        fs::copy(from.path(&name), &image)?;
        self.convert_in_place(&image, &to.path("vm/qemu.json"))?;
        to.virsh_output(&["start", VM])?;
        if image.exists() {
            return Err("the managed save image is still there: libvirt did not restore it".into());
        }
        expect_running(to)
    }

    fn convert_in_place(&self, image: &Path, profile: &Path) -> Result<()> {
        let mut command = std::process::Command::new(self.cpreg.program());
        command
            .arg("convert")
            .args([image, profile])
            .arg("--in-place");
        tool::run(command.args(ACCEPT))?;
        Ok(())
    }
}

/// Checks a running domain against the QEMU of the other host, which libvirt describes.
fn check_domain(from: &Host, to: &Host) -> Result<()> {
    from.virsh_output(&["create", "/vm/web.xml"])?;
    wait_for_output(from)?;
    to.virsh_output(&["define", "/vm/web.xml"])?;
    let profile = "/vm/domain.json";
    cpreg(to, &["probe", "libvirt", "/vm/web.xml", "-o", profile])?;
    fs::copy(to.path("vm/domain.json"), from.path("vm/domain.json"))?;

    let shown = cpreg(from, &["show", "libvirt:web"])?;
    for expected in ["libvirt, of the VM web", "virt-7.2", "CPU cortex-a57"] {
        if !shown.contains(expected) {
            return Err(format!("`show` does not print {expected}").into());
        }
    }
    let source = "libvirt:qemu:///system#web";
    cpreg(from, &[&["check", source, profile], &ACCEPT[..]].concat())?;
    expect_running(from)?;
    // The VM is the only running domain, on the node with the name of its host.
    let host = from.virsh_output(&["hostname"])?;
    let own = format!("vm/{host}.json");
    fs::copy(from.path("vm/qemu.json"), from.path(&own))?;
    let own = format!("/{own}");
    let nodes = ["fleet", "check", &own, profile, "--vms", "libvirt:"];
    let planned = cpreg(from, &[&nodes, &ACCEPT[..]].concat())?;
    let is_on_node = planned.contains(&format!("1 node, 1 VM: {host}"));
    if !planned.starts_with("1 of 1 VM can leave") || !is_on_node {
        return Err(format!("`fleet` does not plan the domain: {planned}").into());
    }
    expect_running(from)?;

    // A file that QEMU itself wrote has neither machine type nor RAM blocks.
    let save = r#"{"execute":"xen-save-devices-state","arguments":{"filename":"/vm/web.devices","live":true}}"#;
    from.virsh_output(&["qemu-monitor-command", VM, save])?;
    fs::copy(from.path("vm/web.devices"), to.path("vm/web.devices"))?;
    let devices = "/vm/web.devices";
    cpreg(
        to,
        &[&["check", devices, "libvirt:web"], &ACCEPT[..]].concat(),
    )?;
    let as_it_is = [&["rehearse", devices, "--"], &QEMU[..]].concat();
    if cpreg(to, &as_it_is).is_ok() {
        return Err("the other QEMU loads the VM as it is: the case shows nothing".into());
    }
    let converted = ["rehearse", devices, "--converted"];
    let rehearse = [&converted[..], &ACCEPT, &["--"], &QEMU].concat();
    cpreg(to, &rehearse)?;
    expect_running(from)
}

/// Checks that libvirt neither restores nor removes a managed save image with an unfinished edit.
fn check_unfinished(host: &Host) -> Result<()> {
    host.virsh_output(&["define", "/vm/web.xml"])?;
    host.virsh_output(&["start", VM])?;
    host.virsh_output(&["managedsave", VM])?;
    let image = host.path(&format!("{MANAGED_SAVE}/{VM}.save"));
    let complete = fs::read(&image)?;
    let mut marked = complete.clone();
    for byte in &mut marked[16..20] {
        *byte |= 0x80;
    }
    fs::write(&image, &marked)?;
    let output = host.virsh(&["start", VM])?;
    if output.status.success() || fs::read(&image)? != marked {
        return Err("libvirt started the VM without its state".into());
    }
    fs::write(&image, complete)?;
    host.virsh_output(&["start", VM])?;
    expect_running(host)
}
