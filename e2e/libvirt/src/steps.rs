//! The VM of all cases, and steps that several cases share.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::Result;

use crate::host::Host;

/// Name of the VM.
pub(crate) const VM: &str = "web";
/// Folder of managed save images, inside a host.
pub(crate) const MANAGED_SAVE: &str = "var/lib/libvirt/qemu/save";
/// Timeout for the guest to write to its serial port.
const GUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Consents of a move from one generation of QEMU to the other.
pub(crate) const ACCEPT: [&str; 2] = ["--accept", "low"];

/// QEMU with the machine of the VM.
pub(crate) const QEMU: [&str; 12] = [
    "/usr/bin/qemu-system-aarch64",
    "-machine",
    "virt-7.2,accel=tcg,gic-version=3",
    "-cpu",
    "cortex-a57",
    "-smp",
    "2",
    "-m",
    "128M",
    "-nodefaults",
    "-serial",
    "null",
];

/// Returns the domain of the saved VM.
pub(crate) fn xml() -> String {
    domain_xml(VM, "6a1b6a3e-0000-4000-8000-000000000001", "serial.log", "")
}

/// Returns a domain whose guest writes to the file `log` in `/vm`. `disk` is an element or empty.
pub(crate) fn domain_xml(name: &str, uuid: &str, log: &str, disk: &str) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>2</vcpu>
  <os><type arch='aarch64' machine='virt-7.2'>hvm</type><kernel>/vm/guest.bin</kernel></os>
  <features><gic version='3'/></features>
  <cpu mode='custom' match='exact' check='none'><model fallback='forbid'>cortex-a57</model></cpu>
  <devices>
    <emulator>/usr/bin/qemu-system-aarch64</emulator>
    {disk}
    <controller type='usb' model='none'/>
    <controller type='pci' model='pcie-root'/>
    <serial type='file'><source path='/vm/{log}'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}

/// Starts the VM and saves it; returns the path of the image outside of the host.
pub(crate) fn save(host: &Host) -> Result<PathBuf> {
    host.virsh_output(&["create", "/vm/web.xml"])?;
    wait_for_output(host)?;
    host.virsh_output(&["save", VM, "/vm/web.save"])?;
    Ok(host.path("vm/web.save"))
}

/// Waits until the guest has written to its serial port.
pub(crate) fn wait_for_output(host: &Host) -> Result<()> {
    let deadline = Instant::now() + GUEST_TIMEOUT;
    while fs::metadata(host.path("vm/serial.log")).map_or(0, |metadata| metadata.len()) == 0 {
        if Instant::now() > deadline {
            return Err("the guest writes nothing".into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn expect_running(host: &Host) -> Result<()> {
    let state = host.virsh_output(&["domstate", VM])?;
    if state == "running" {
        Ok(())
    } else {
        Err(format!("the VM is {state}, not running").into())
    }
}

pub(crate) fn expect_failed_restore(host: &Host, image: &str) -> Result<()> {
    let output = host.virsh(&["restore", image])?;
    if output.status.success() {
        return Err("the unchanged image was restored: the case shows nothing".into());
    }
    Ok(())
}

/// Runs cpreg in a host, and returns its standard output.
pub(crate) fn cpreg(host: &Host, arguments: &[&str]) -> Result<String> {
    let program = ["/usr/local/bin/cpreg"];
    let output = host.command(&program).args(arguments).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() {
        return Ok(stdout);
    }
    let words = arguments.join(" ");
    Err(format!("cpreg {words}: {}\n{stdout}{stderr}", output.status).into())
}
