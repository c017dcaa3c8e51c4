//! Case in the shape of Proxmox VE: QEMU listens on a Unix socket, and a hookscript puts the relay
//! in the socket's place. Proxmox VE itself does not run here.

use std::fs;

use e2e_framework::paths::repository;
use e2e_framework::{Result, tool};
use serde_json::json;

use crate::host::Host;
use crate::monitor::Monitor;
use crate::steps::{ACCEPT, QEMU, wait_for_output};

/// Number of the VM.
const VM: &str = "102";
/// Socket on which the QEMU of an incoming migration listens, as Proxmox VE names it.
const SOCKET: &str = "/run/qemu-server/102.migrate";

/// Migrates a VM to the other host through the hookscript.
///
/// # Errors
/// Returns an error if a step has another result than expected.
pub(crate) fn run(from: &Host, to: &Host) -> Result<()> {
    fs::create_dir_all(to.path("run/qemu-server"))?;
    let incoming = format!("unix:{SOCKET}");
    start(to, &["-S", "-incoming", &incoming], "null")?;
    start(from, &[], "file:/vm/serial.log")?;
    wait_for_output(from)?;
    let result = migrate(from, to);
    for host in [from, to] {
        // The QEMU may have exited.
        let _ = monitor(host).and_then(|mut monitor| monitor.execute("quit", &json!({})));
    }
    result
}

fn migrate(from: &Host, to: &Host) -> Result<()> {
    let script = repository().join("packaging/proxmox/cpreg-hookscript");
    fs::copy(script, to.path("vm/hookscript"))?;
    let configuration = format!(
        "options=\"--to /vm/qemu.json --allow-no-return-path {}\"\nlog=/vm/relay.log\n",
        ACCEPT.join(" ")
    );
    fs::write(to.path("vm/proxmox.conf"), configuration)?;
    let call = |phase: &str, variables: &[&str]| -> Result<()> {
        let program = ["env", "PATH=/usr/local/bin:/usr/bin:/bin"];
        let variables = [&program[..], variables].concat();
        let words = [
            "CPREG_PROXMOX_CONF=/vm/proxmox.conf",
            "sh",
            "/vm/hookscript",
            VM,
            phase,
        ];
        tool::run(to.command(&variables).args(words))?;
        Ok(())
    };
    let socket = to.path(&SOCKET[1..]);
    let renamed = to.path(&format!("{}.qemu", &SOCKET[1..]));
    // Neither another phase nor a start without migration concerns the script.
    call("pre-start", &["PVE_MIGRATED_FROM=other"])?;
    call("post-start", &[])?;
    if renamed.exists() {
        return Err("the hookscript acted on a VM that does not arrive".into());
    }
    call("post-start", &["PVE_MIGRATED_FROM=other"])?;
    if !renamed.exists() {
        return Err("the hookscript did not start the relay".into());
    }
    // In place of ssh, which forwards a socket of the same name.
    let forwarded = from.path("vm/forwarded");
    if forwarded.exists() {
        fs::remove_file(&forwarded)?;
    }
    fs::hard_link(&socket, &forwarded)?;
    let mut source = monitor(from)?;
    source.execute("migrate", &json!({"uri": "unix:/vm/forwarded"}))?;
    source.wait_for_status("query-migrate", "completed")?;
    let mut destination = monitor(to)?;
    destination.wait_for_status("query-status", "paused")?;
    destination.execute("cont", &json!({}))?;
    destination.wait_for_status("query-status", "running")
}

/// Opens the monitor of the host's QEMU.
fn monitor(host: &Host) -> Result<Monitor> {
    Monitor::open(&host.path("vm/qmp"))
}

/// Starts a QEMU of the host in the background.
fn start(host: &Host, options: &[&str], serial: &str) -> Result<()> {
    let qemu: Vec<_> = QEMU
        .iter()
        .map(|word| if *word == "null" { serial } else { word })
        .collect();
    let mut command = host.command(&qemu);
    command
        .args(["-kernel", "/vm/guest.bin", "-display", "none", "-daemonize"])
        .args(["-qmp", "unix:/vm/qmp,server=on,wait=off"])
        .args(options);
    tool::run(&mut command)?;
    Ok(())
}
