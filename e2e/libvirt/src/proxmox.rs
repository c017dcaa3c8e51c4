//! Case in the shape of Proxmox VE: QEMU listens on a Unix socket, and a hookscript puts the relay
//! in the socket's place. Proxmox VE itself does not run here.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::paths::repository;
use e2e_framework::{Result, tool};

use crate::host::Host;
use crate::steps::{ACCEPT, QEMU, wait_for_output};

/// Number of the VM.
const VM: &str = "102";
/// Socket on which the QEMU of an incoming migration listens, as Proxmox VE names it.
const SOCKET: &str = "/run/qemu-server/102.migrate";
/// Timeout for the migration.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

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
        let _ = Monitor::open(host).and_then(|mut monitor| monitor.send("\"quit\"", ""));
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
    let mut source = Monitor::open(from)?;
    source.send(
        "\"migrate\"",
        r#", "arguments": {"uri": "unix:/vm/forwarded"}"#,
    )?;
    source.wait_for("\"query-migrate\"", r#""status": "completed""#)?;
    let mut destination = Monitor::open(to)?;
    destination.wait_for("\"query-status\"", r#""status": "paused""#)?;
    destination.send("\"cont\"", "")?;
    destination.wait_for("\"query-status\"", r#""status": "running""#)
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

/// QMP monitor of a host's QEMU. Its replies are only searched for words.
struct Monitor {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Monitor {
    fn open(host: &Host) -> Result<Self> {
        let path = host.path("vm/qmp");
        let writer = UnixStream::connect(Path::new(&path))?;
        writer.set_read_timeout(Some(MIGRATION_TIMEOUT))?;
        let mut monitor = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        monitor.reader.read_line(&mut String::new())?;
        monitor.send("\"qmp_capabilities\"", "")?;
        Ok(monitor)
    }

    /// Executes a command, and returns its reply.
    fn send(&mut self, command: &str, arguments: &str) -> Result<String> {
        writeln!(self.writer, "{{\"execute\": {command}{arguments}}}")?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(format!("QEMU has exited after {command}").into());
            }
            if line.contains("\"error\":") {
                return Err(format!("{command}: {line}").into());
            }
            // Other lines are events.
            if line.contains("\"return\":") {
                return Ok(line);
            }
        }
    }

    /// Repeats a query until its reply contains the text.
    fn wait_for(&mut self, query: &str, expected: &str) -> Result<()> {
        let deadline = Instant::now() + MIGRATION_TIMEOUT;
        loop {
            let reply = self.send(query, "")?;
            if reply.contains(expected) {
                return Ok(());
            }
            if Instant::now() > deadline || reply.contains(r#""status": "failed""#) {
                return Err(format!("{query}: {reply}").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
