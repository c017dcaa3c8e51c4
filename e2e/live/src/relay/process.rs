//! Process of the command `cpreg relay`: its start, its log, and its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cases::Transport;
use super::endpoint::STEP_TIMEOUT;
use e2e_framework::Result;
use e2e_framework::tool;

/// Interval between two checks, short enough to kill a process at a certain moment.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A running relay, which is killed on drop.
#[derive(Debug)]
pub(crate) struct RelayProcess {
    child: Child,
    /// Standard error: log lines, a JSON object each.
    log: PathBuf,
    /// Standard output: the report.
    report: PathBuf,
}

impl RelayProcess {
    /// Starts the relay.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        transport: Transport,
        connect: &str,
        options: &[&OsStr],
    ) -> Result<Self> {
        let listen = match transport {
            Transport::Unix => format!("unix:{}", folder.join("relay").display()),
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
        };
        let (log, report) = (folder.join("relay.log"), folder.join("relay.report"));
        let mut command = Command::new(program);
        command
            .args(["relay", "--log-format", "json"])
            .args(["--listen", &listen, "--connect", connect])
            .args(options)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(File::create(&report)?)
            .stderr(File::create(&log)?);
        let child = command.spawn().map_err(|error| {
            format!("cannot start `{}`: {error}", tool::format_command(&command))
        })?;
        Ok(Self { child, log, report })
    }

    /// Returns the id of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the process id of the switchover guard.
    pub(crate) fn guard(&self) -> Result<u32> {
        let id = self.id();
        let mut children = Vec::new();
        // /proc has a list of children for each thread.
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let list = fs::read_to_string(thread?.path().join("children"))?;
            children.extend(list.split_whitespace().map(str::to_owned));
        }
        for child in children {
            let words = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if words
                .split(|byte| *byte == 0)
                .any(|word| word == b"__relay-guard")
            {
                return Ok(child.parse()?);
            }
        }
        Err("the relay has no guard".into())
    }

    /// Returns the events so far: every complete line that is a JSON object.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Waits for an event.
    pub(crate) fn wait_for_event(&mut self, event: &str) -> Result<Value> {
        self.wait_for_event_timeout(event, STEP_TIMEOUT)
    }

    /// Waits for an event with this timeout.
    pub(crate) fn wait_for_event_timeout(
        &mut self,
        event: &str,
        timeout: Duration,
    ) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            let has_exited = self.child.try_wait()?.is_some();
            let events = self.events()?;
            if let Some(entry) = events.into_iter().find(|entry| entry["event"] == event) {
                return Ok(entry);
            }
            if has_exited || Instant::now() >= deadline {
                return Err(format!(
                    "the relay does not report the event {event}\n{}",
                    self.output()
                )
                .into());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Returns all output, for error messages.
    pub(crate) fn output(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut text = String::new();
        for line in read(&self.log).lines().chain(read(&self.report).lines()) {
            text.extend(["  the relay: ", line, "\n"]);
        }
        text
    }

    /// Waits until the relay has exited.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(format!("the relay does not exit within {STEP_TIMEOUT:?}").into());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Checks the exit status, the location of the VM in the event `ended` (one of `locations`),
    /// and a text in the report.
    pub(crate) fn assert_exit(
        &mut self,
        code: i32,
        locations: &[&str],
        report: &str,
    ) -> Result<()> {
        let status = self.wait()?;
        if status.code() != Some(code) {
            return Err(format!("the relay ended with {status}, expected {code}").into());
        }
        let events = self.events()?;
        let ended = events.iter().find(|event| event["event"] == "ended");
        let ended = ended.ok_or("the relay does not report the event ended")?;
        if !locations
            .iter()
            .any(|location| ended["vm_location"] == *location)
        {
            return Err(
                format!("the VM is {}, expected {locations:?}", ended["vm_location"]).into(),
            );
        }
        let text = fs::read_to_string(&self.report)?;
        if text.contains(report) {
            Ok(())
        } else {
            Err(format!("the report does not contain {report:?}").into())
        }
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
