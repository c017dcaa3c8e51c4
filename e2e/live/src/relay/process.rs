//! The command `cpreg relay` as a process: started, listened to, waited for.

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

/// Who is to be killed at a certain moment must be found in it.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A relay that was started; killed when dropped.
#[derive(Debug)]
pub(crate) struct RelayProcess {
    child: Child,
    /// Its standard error: log lines, a JSON object each.
    log: PathBuf,
    /// Its standard output: the report.
    report: PathBuf,
}

impl RelayProcess {
    /// Starts it.
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

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The process of its drain guard.
    pub(crate) fn guard(&self) -> Result<u32> {
        let id = self.id();
        let mut children = Vec::new();
        // Every thread has a list of its own.
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

    /// What it has told so far: every whole line that is an object.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        Ok(whole
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// Waits until it has told of something.
    pub(crate) fn wait_for_event(&mut self, event: &str) -> Result<Value> {
        self.wait_for_event_timeout(event, STEP_TIMEOUT)
    }

    /// The same, for so long.
    pub(crate) fn wait_for_event_timeout(
        &mut self,
        event: &str,
        patience: Duration,
    ) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let is_over = self.child.try_wait()?.is_some();
            let events = self.events()?;
            if let Some(found) = events.into_iter().find(|it| it["event"] == event) {
                return Ok(found);
            }
            if is_over || Instant::now() >= deadline {
                return Err(
                    format!("the relay does not tell of {event}\n{}", self.output()).into(),
                );
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// All that it has written, for reports of failures.
    pub(crate) fn output(&self) -> String {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let mut text = String::new();
        for line in read(&self.log).lines().chain(read(&self.report).lines()) {
            text.extend(["  the relay: ", line, "\n"]);
        }
        text
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(format!("the relay does not end within {STEP_TIMEOUT:?}").into());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Sees that it ends with this status, says that the VM is there, and that its report says so too.
    pub(crate) fn assert_exit(&mut self, code: i32, vm: &[&str], report: &str) -> Result<()> {
        let status = self.wait()?;
        if status.code() != Some(code) {
            return Err(format!("the relay ended with {status}, expected {code}").into());
        }
        let events = self.events()?;
        let ended = events.iter().find(|event| event["event"] == "ended");
        let ended = ended.ok_or("the relay does not tell of its end")?;
        if !vm.iter().any(|vm| ended["vm_location"] == *vm) {
            return Err(format!("the VM is {}, expected {vm:?}", ended["vm_location"]).into());
        }
        let said = fs::read_to_string(&self.report)?;
        if said.contains(report) {
            Ok(())
        } else {
            Err(format!("the report does not say {report:?}").into())
        }
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
