//! [`Pair`]: the two hosts of a live migration. [`LiveVm`]: a VM that migrates.

use std::fs;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::{Result, tool};
use serde_json::{Value, json};

use crate::host::Host;
use crate::monitor::Monitor;
use crate::relay::RelayService;
use crate::steps::domain_xml;

/// Timeout for a state of a VM.
const STATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of `virsh migrate`, in seconds.
const MIGRATE_TIMEOUT: &str = "90";
/// Permitted downtime: the time to send all RAM at 6 MiB/s.
const DOWNTIME_MILLISECONDS: u32 = 20_000;
/// Namespace of QEMU's arguments in the XML of a domain.
const NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// VM of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveVm {
    pub(crate) name: &'static str,
    uuid: &'static str,
}

/// VMs of all cases.
pub(crate) const VMS: [LiveVm; 2] = [
    LiveVm {
        name: "web",
        uuid: "6a1b6a3e-0000-4000-8000-000000000001",
    },
    LiveVm {
        name: "db",
        uuid: "6a1b6a3e-0000-4000-8000-000000000002",
    },
];

impl LiveVm {
    /// Returns the domain. A disk that the hosts do not share needs `--copy-storage-all`.
    fn xml(self, has_disk: bool) -> String {
        let Self { name, uuid } = self;
        let disk = format!(
            "<disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/vm/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>"
        );
        let disk = if has_disk { &disk } else { "" };
        let xml = domain_xml(name, uuid, &format!("{uuid}.log"), disk);
        // A monitor beside libvirt's, which also answers while libvirtd does not run.
        let monitor = format!(
            "  <qemu:commandline>
    <qemu:arg value='-qmp'/>
    <qemu:arg value='unix:/{},server=on,wait=off'/>
  </qemu:commandline>
</domain>",
            self.monitor_socket()
        );
        xml.replace("<domain ", &format!("<domain xmlns:qemu='{NAMESPACE}' "))
            .replace("</domain>", &monitor)
    }

    /// Returns the VM with another name.
    pub(crate) const fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Returns the path in a host of the socket of the VM's own monitor. It does not depend on the
    /// name, which can change.
    fn monitor_socket(self) -> String {
        format!("vm/{}.qmp", self.uuid)
    }

    /// Opens the VM's own monitor on a host.
    ///
    /// # Errors
    /// Returns an error if no QEMU runs the VM on this host.
    pub(crate) fn monitor(self, host: &Host) -> Result<Monitor> {
        Monitor::open(&host.path(&self.monitor_socket()))
    }
}

/// Source and destination of a case.
#[derive(Clone, Copy)]
pub(crate) struct Pair<'h> {
    pub(crate) from: &'h Host,
    pub(crate) to: &'h Host,
}

impl Pair<'_> {
    /// Starts a VM at the source, and waits for its guest.
    pub(crate) fn start(&self, vm: LiveVm) -> Result<()> {
        self.define(vm, false)?;
        self.start_defined(vm)
    }

    /// Starts a VM with a disk that the hosts do not share.
    pub(crate) fn start_with_disk(&self, vm: LiveVm) -> Result<()> {
        self.define(vm, true)?;
        self.start_defined(vm)
    }

    /// Defines a VM at the source.
    pub(crate) fn define(&self, vm: LiveVm, has_disk: bool) -> Result<()> {
        for host in [self.from, self.to] {
            let image = format!("/vm/{}.qcow2", vm.name);
            let arguments = [
                "/usr/bin/qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                &image,
                "4M",
            ];
            tool::run(&mut host.command(&arguments))?;
        }
        let file = format!("vm/{}.xml", vm.name);
        fs::write(self.from.path(&file), vm.xml(has_disk))?;
        self.from.virsh_output(&["define", &format!("/{file}")])?;
        Ok(())
    }

    /// Starts a defined VM at the source, and waits for its guest.
    pub(crate) fn start_defined(&self, vm: LiveVm) -> Result<()> {
        let serial = self.from.path(&format!("vm/{}.log", vm.uuid));
        if serial.exists() {
            fs::remove_file(&serial)?;
        }
        self.from.virsh_output(&["start", vm.name])?;
        let deadline = Instant::now() + STATE_TIMEOUT;
        while fs::metadata(&serial).map_or(0, |metadata| metadata.len()) == 0 {
            if Instant::now() > deadline {
                return Err("the guest writes nothing".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs an unchanged `virsh migrate`.
    pub(crate) fn migrate(&self, vm: LiveVm, options: &[&str]) -> Result<Output> {
        self.permit_downtime(vm)?;
        Ok(self.migrate_command(vm, options).output()?)
    }

    /// Permits a long downtime, so that a migration ends on a busy machine too.
    pub(crate) fn permit_downtime(&self, vm: LiveVm) -> Result<()> {
        let parameters = json!({"downtime-limit": DOWNTIME_MILLISECONDS});
        let mut monitor = vm.monitor(self.from)?;
        monitor.execute("migrate-set-parameters", &parameters)?;
        Ok(())
    }

    pub(crate) fn migrate_command(&self, vm: LiveVm, options: &[&str]) -> Command {
        let mut command = self.from.command(&["timeout", MIGRATE_TIMEOUT]);
        command
            .args(["/usr/bin/virsh", "--connect", "qemu:///system"])
            .args(["migrate", "--live", vm.name])
            .arg(format!("qemu+tcp://{}/system", self.to.generation().name))
            .args(options);
        command
    }

    /// Checks that a VM runs at the destination only.
    pub(crate) fn expect_moved(&self, vm: LiveVm) -> Result<()> {
        expect_state(self.to, vm, Some("running"))?;
        expect_qemus(vm, self.to, self.from)?;
        match state(self.from, vm)?.as_deref() {
            None | Some("shut off") => Ok(()),
            Some(state) => Err(format!("the VM is {state} at the source").into()),
        }
    }

    /// Checks that a VM runs at the source only.
    pub(crate) fn expect_at_source(&self, vm: LiveVm) -> Result<()> {
        expect_state(self.from, vm, Some("running"))?;
        expect_state(self.to, vm, None)?;
        expect_qemus(vm, self.from, self.to)
    }
}

/// Checks that the VM's QEMU runs the guest on one host, and has exited on the other.
fn expect_qemus(vm: LiveVm, running: &Host, exited: &Host) -> Result<()> {
    let mut monitor = vm.monitor(running)?;
    monitor.wait_for_status("query-status", "running")?;
    let deadline = Instant::now() + STATE_TIMEOUT;
    while vm.monitor(exited).is_ok() {
        if Instant::now() > deadline {
            let name = exited.generation().name;
            return Err(format!("a QEMU still has the VM {} on {name}", vm.name).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Returns the state of a VM in libvirt's words; `None` if the host does not know it.
pub(crate) fn state(host: &Host, vm: LiveVm) -> Result<Option<String>> {
    let output = host.virsh(&["domstate", vm.name])?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(state))
}

/// Waits until a VM has a state.
pub(crate) fn expect_state(host: &Host, vm: LiveVm, expected: Option<&str>) -> Result<()> {
    let deadline = Instant::now() + STATE_TIMEOUT;
    loop {
        let found = state(host, vm)?;
        if found.as_deref() == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let name = host.generation().name;
            return Err(format!("{} is {found:?} on {name}, not {expected:?}", vm.name).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn check_output(output: &Output, relay: &RelayService<'_>) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "virsh migrate: {}\n{stderr}{}",
        output.status,
        relay.output()
    )
    .into())
}

/// Checks the log line of a migration.
pub(crate) fn expect_served(event: &Value, vm: LiveVm, outcome: &str, verdict: &str) -> Result<()> {
    if event["vm"] == vm.name && event["outcome"] == outcome && event["verdict"] == verdict {
        return Ok(());
    }
    Err(format!("expected {}, {outcome}, {verdict}: {event}", vm.name).into())
}
