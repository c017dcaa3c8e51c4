//! [`Monitor`]: QMP monitor of a QEMU, beside the one of libvirt.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::Result;
use serde_json::{Value, json};

/// Timeout for a reply, and for a state.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Open QMP monitor.
pub(crate) struct Monitor {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Monitor {
    /// Connects to the monitor that listens at a socket.
    ///
    /// # Errors
    /// Returns an error if no QEMU listens there.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let writer = UnixStream::connect(socket)?;
        writer.set_read_timeout(Some(TIMEOUT))?;
        let mut monitor = Self {
            reader: BufReader::new(writer.try_clone()?),
            writer,
        };
        monitor.reader.read_line(&mut String::new())?;
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Executes a command, and returns its result.
    ///
    /// # Errors
    /// Returns an error if the command fails, or QEMU has exited.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let message = json!({"execute": command, "arguments": arguments});
        writeln!(self.writer, "{message}")?;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(format!("QEMU has exited after {command}").into());
            }
            let mut reply: Value = serde_json::from_str(&line)?;
            if reply.get("error").is_some() {
                return Err(format!("{command}: {line}").into());
            }
            // Other lines are events.
            if let Some(result) = reply.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// Repeats a query until its result has this status.
    ///
    /// # Errors
    /// Returns an error if the status does not come, or is `failed`.
    pub(crate) fn wait_for_status(&mut self, query: &str, status: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let result = self.execute(query, &json!({}))?;
            if result["status"] == status {
                return Ok(());
            }
            if Instant::now() > deadline || result["status"] == "failed" {
                return Err(format!("{query}: expected {status}: {result}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
