//! CPU time of the relay's TLS, compared with that of QEMU's own TLS.
//!
//! A paused VM with random RAM migrates from QEMU to QEMU three times:
//!
//! | kind | path |
//! |---|---|
//! | plain | from QEMU to QEMU |
//! | TLS | the same over QEMU's TLS |
//! | relay | over TLS to the relay, and over TLS from it |
//!
//! The baseline is the CPU time of both QEMUs with TLS, minus their CPU time without. It is
//! compared with the CPU time of the whole relay, which also receives, parses and sends the stream.
//! A process of its own runs each migration, so that the system's figures are those of one run.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use cpreg_qemu::process::QemuProcess;
use cpreg_qemu::qmp::WaitOptions;
use cpreg_relay::serve::{
    IncomingMigration, MigrationHandler, OriginalDestination, Redirection, Server, ServerEvent,
};
use cpreg_relay::{
    Address, CancelOnDrop, CancelToken, Decision, Event, MigrationPolicy, Observer, TlsCredentials,
};
use cpreg_stream::incremental::{DeviceStateBuffer, StreamSetup};
use cpreg_stream::{Edit, Stream};
use e2e_framework::certificates::Authority;
use e2e_framework::{Result, qemu, tool};
use nix::sys::resource::UsageWho;
use serde_json::json;

use crate::inputs::GIB;
use crate::measure::cpu_time;

/// Number of runs of each kind, whose median is the result.
const RUNS: usize = 9;
/// Bytes of RAM of the VM. All pages differ.
const RAM: u64 = GIB;
const QEMU_SERIES: &str = "10.0";
/// Name of the host in the certificates.
const HOST: &str = "host-b";
/// Name of the file that is the RAM of the source's VM.
const RAM_FILE: &str = "ram";
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const STEP_TIMEOUT: WaitOptions<'static> = WaitOptions::with_timeout(Duration::from_secs(120));

/// Kind of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Plain,
    Tls,
    Relay,
}

/// CPU time of one migration.
#[derive(Clone, Copy, Debug)]
struct CpuTimes {
    /// Time of both QEMUs, from their start to their end.
    qemus: Duration,
    /// Time of this process: the relay, and a few QMP commands.
    relay: Duration,
}

/// Measures the main channel alone, and two multifd channels.
pub(crate) fn run(folder: &Path) -> Result<()> {
    qemu::ensure_series(QEMU_SERIES)?;
    Authority::make()?.write_certificates(HOST, folder)?;
    write_random(&folder.join(RAM_FILE))?;
    println!(
        "{:46} {:>12} {:>12} {:>8}",
        "CPU time for 1 GiB", "relay", "QEMUs' TLS", "ratio"
    );
    for (name, channels) in [("the main channel", 0), ("two multifd channels", 2)] {
        let [mut baselines, mut relays] = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            let measure = |kind| measure_once(folder, kind, channels);
            let plain = measure(Kind::Plain)?;
            baselines.push(measure(Kind::Tls)?.qemus.saturating_sub(plain.qemus));
            relays.push(measure(Kind::Relay)?.relay);
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let (relay, baseline) = (median(&mut relays), median(&mut baselines));
        println!(
            "{:46} {:>12} {:>12} {:>8.3}",
            format!("relay with TLS, {name}"),
            format!("{relay:.2?}"),
            format!("{baseline:.2?}"),
            relay.as_secs_f64() / baseline.as_secs_f64()
        );
    }
    Ok(())
}

fn measure_once(folder: &Path, kind: Kind, channels: u8) -> Result<CpuTimes> {
    let kind = kind.to_possible_value().ok_or("a kind has no name")?;
    let mut command = Command::new(env::current_exe()?);
    command
        .arg("migrate-once")
        .arg(folder)
        .arg(kind.get_name())
        .arg(channels.to_string());
    let line = tool::output_of(&mut command)?;
    let (qemus, relay) = line
        .trim()
        .split_once(' ')
        .ok_or("a run printed no times")?;
    Ok(CpuTimes {
        qemus: Duration::from_micros(qemus.parse()?),
        relay: Duration::from_micros(relay.parse()?),
    })
}

/// Runs `migrate-once`: one migration. Prints the CPU times of the QEMUs and of the relay in
/// microseconds.
pub(crate) fn migrate_once(folder: &Path, kind: Kind, channels: u8) -> Result<()> {
    let start = |end: End| end.start(folder, kind, channels);
    let (mut source, mut destination) = (start(End::Source)?, start(End::Destination)?);
    let uri = json!({"uri": "tcp:127.0.0.1:0"});
    destination.execute("migrate-incoming", uri, &STEP_TIMEOUT)?;
    let incoming = destination.execute("query-migrate", json!({}), &STEP_TIMEOUT)?;
    let port = incoming["socket-address"][0]["port"].as_str();
    let port: u16 = port.ok_or("the destination does not listen")?.parse()?;
    if kind == Kind::Relay {
        migrate_through_relay(folder, &mut source, port)?;
    } else {
        migrate(&mut source, port)?;
    }
    source.quit()?;
    destination.quit()?;
    println!(
        "{} {}",
        cpu_time(UsageWho::RUSAGE_CHILDREN)?.as_micros(),
        cpu_time(UsageWho::RUSAGE_SELF)?.as_micros()
    );
    Ok(())
}

/// End of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

impl End {
    /// Starts the paused QEMU of this end.
    fn start(self, folder: &Path, kind: Kind, channels: u8) -> Result<QemuProcess> {
        let program = qemu::ensure_series(QEMU_SERIES)?.program();
        let mebibytes = RAM >> 20;
        let (memory, endpoint) = match self {
            Self::Source => {
                let file = folder.join(RAM_FILE);
                let memory = format!("memory-backend-file,mem-path={},share=on", file.display());
                (memory, "client")
            }
            Self::Destination => ("memory-backend-ram".to_owned(), "server"),
        };
        let mut words = vec![
            "-nodefaults -display none -accel tcg -cpu cortex-a57 -S".to_owned(),
            format!("-machine virt,memory-backend=ram -m {mebibytes}"),
            format!("-object {memory},id=ram,size={RAM}"),
        ];
        if self == Self::Destination {
            words.push("-incoming defer".to_owned());
        }
        if kind != Kind::Plain {
            words.push(format!(
                "-object tls-creds-x509,id=tls,endpoint={endpoint},dir={}",
                folder.display()
            ));
        }
        let mut command = vec![program.into_os_string()];
        command.extend(words.join(" ").split(' ').map(OsString::from));
        let mut qemu = QemuProcess::start(&command, &[], &STEP_TIMEOUT)?;

        let mut parameters = json!({"max-bandwidth": 1_u64 << 40});
        if kind != Kind::Plain {
            parameters["tls-creds"] = json!("tls");
            if self == Self::Source {
                parameters["tls-hostname"] = json!(HOST);
            }
        }
        if channels > 0 {
            let multifd = json!({"capabilities": [{"capability": "multifd", "state": true}]});
            qemu.execute("migrate-set-capabilities", multifd, &STEP_TIMEOUT)?;
            parameters["multifd-channels"] = json!(channels);
        }
        qemu.execute("migrate-set-parameters", parameters, &STEP_TIMEOUT)?;
        Ok(qemu)
    }
}

/// Migrates to this port, and waits for the end.
fn migrate(source: &mut QemuProcess, port: u16) -> Result<()> {
    let uri = json!({"uri": format!("tcp:127.0.0.1:{port}")});
    source.execute("migrate", uri, &STEP_TIMEOUT)?;
    loop {
        let migration = source.execute("query-migrate", json!({}), &STEP_TIMEOUT)?;
        match migration["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed" | "cancelled") => return Err(migration.to_string().into()),
            _ => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Migrates through a relay in this process.
fn migrate_through_relay(folder: &Path, source: &mut QemuProcess, port: u16) -> Result<()> {
    let server = Server::bind(&"tcp:127.0.0.1:0".parse()?)?
        .with_redirection(Box::new(FixedDestination(port)))
        .with_tls(TlsCredentials::open(folder)?);
    let Address::Tcp { port, .. } = *server.address() else {
        return Err("the relay does not listen on TCP".into());
    };
    let handler = ForwardingHandler(CancelToken::new()?);
    thread::scope(|scope| {
        let server = scope.spawn(|| server.run(&handler, &handler.0));
        let result = {
            let _end = CancelOnDrop(&handler.0);
            migrate(source, port)
        };
        server.join().map_err(|_| "the relay panicked")??;
        result
    })
}

/// Original destination of all connections: a port of this host.
struct FixedDestination(u16);

impl OriginalDestination for FixedDestination {
    fn original_destination(&self, _: BorrowedFd<'_>) -> io::Result<Redirection> {
        Ok(Redirection::From(([127, 0, 0, 1], self.0).into()))
    }
}

/// Handler that forwards every VM unchanged, and the token that ends its server.
struct ForwardingHandler(CancelToken);

impl MigrationHandler for ForwardingHandler {
    fn handle(&self, migration: IncomingMigration) {
        // The source reports a failure.
        let _ = migration.run(&mut ForwardingPolicy, &IgnoredEvents, &self.0);
    }

    fn on_event(&self, _: &ServerEvent<'_>) {}
}

struct ForwardingPolicy;

impl MigrationPolicy for ForwardingPolicy {
    fn on_setup(&mut self, _: &StreamSetup) -> bool {
        true
    }

    fn on_device_state(&mut self, device_state: &DeviceStateBuffer, _: Stream) -> Decision {
        Decision::Forward(Edit::identity(device_state.start() + device_state.length()))
    }
}

struct IgnoredEvents;

impl Observer for IgnoredEvents {
    fn on_event(&self, _: &Event<'_>) {}
}

/// Writes RAM in which all pages differ.
fn write_random(path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..RAM / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_ne_bytes())?;
    }
    Ok(file.flush()?)
}
