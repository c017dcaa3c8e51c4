//! [`RelayService`]: `cpreg relay --serve` on a host, and the firewall rule that redirects to it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::{Result, tool};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::host::Host;

/// Timeout for an event in the log.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Table that redirects libvirt's ports of incoming migrations, also those of local connections,
/// but not the relay's own packets.
const TABLE: &str = "table inet cpreg {
  chain prerouting {
    type nat hook prerouting priority dstnat
    fib daddr type local tcp dport 49152-49215 redirect to :49151
  }
  chain output {
    type nat hook output priority -100
    meta mark 0x6370 accept
    fib daddr type local tcp dport 49152-49215 redirect to :49151
  }
}
";

/// A running service. The process and the table end with it.
pub(crate) struct RelayService<'h> {
    host: &'h Host,
    process: Child,
    log: PathBuf,
}

impl<'h> RelayService<'h> {
    /// Starts the service, and waits until it listens.
    ///
    /// # Errors
    /// Returns an error if the service or the table cannot be started.
    pub(crate) fn start(host: &'h Host, options: &[&str]) -> Result<Self> {
        let log = host.path("vm/relay.log");
        let arguments = [
            "/usr/local/bin/cpreg",
            "relay",
            "--serve",
            "--log-format",
            "json",
            "--metrics",
            "/vm/relay.prom",
        ];
        let process = host
            .command(&arguments)
            .args(options)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let service = Self { host, process, log };
        service.wait_for_event("listening", 1)?;
        load_table(host, TABLE)?;
        Ok(service)
    }

    /// Waits for `count` events of this name, and returns them.
    ///
    /// # Errors
    /// Returns an error with the log if they do not come.
    pub(crate) fn wait_for_event(&self, name: &str, count: usize) -> Result<Vec<Value>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut events = self.events()?;
            events.retain(|event| event["event"] == name);
            if events.len() >= count {
                return Ok(events);
            }
            if Instant::now() > deadline {
                return Err(format!("no event {name}:\n{}", self.output()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns all events so far.
    ///
    /// # Errors
    /// Returns an error if the log cannot be read.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines();
        Ok(lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Returns the log, for error messages.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns `true` if the process still runs.
    ///
    /// # Errors
    /// Returns an error if the process cannot be queried.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Kills the process, as a crash would. The table stays.
    ///
    /// # Errors
    /// Returns an error if the process cannot be killed.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        // `nsenter` stops together with its child.
        if let Some(process) = Pid::from_raw(self.process.id().try_into()?) {
            kill_process(process, Signal::CONT)?;
        }
        self.process.wait()?;
        Ok(())
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// Returns an error if the process does not run.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.process.id();
        // `nsenter` starts the relay as its child, in the host's process namespace.
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        for child in children.split_whitespace() {
            if let Some(child) = Pid::from_raw(child.parse()?) {
                kill_process(child, signal)?;
            }
        }
        Ok(())
    }
}

impl Drop for RelayService<'_> {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.kill();
        delete_table(self.host, "cpreg");
    }
}

/// Loads a table of nftables on a host.
///
/// # Errors
/// Returns an error if nft does not load it.
pub(crate) fn load_table(host: &Host, table: &str) -> Result<()> {
    let mut nft = host
        .command(&["/usr/sbin/nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(table.as_bytes())?;
    }
    if nft.wait()?.success() {
        return Ok(());
    }
    Err("nft does not load the table".into())
}

/// Deletes a table of the family `inet`, which need not exist.
pub(crate) fn delete_table(host: &Host, name: &str) {
    let mut delete = host.command(&["/usr/sbin/nft", "delete", "table", "inet"]);
    let _ = tool::output_of(delete.arg(name));
}
