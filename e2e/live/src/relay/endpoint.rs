//! One end of a live migration: a QEMU with the counting guest.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_qemu::ErrorKind;
use cpreg_qemu::qmp::WaitOptions;
use serde_json::{Value, json};

use super::cases::{Mode, Transport};
use e2e_framework::Result;
use e2e_framework::machine::RunningMachine;
use e2e_framework::serial::Findings;

/// Timeout for one reply, or one step of a migration, on a busy machine.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout for the exit of a destination that cannot load the VM. A destination that has not exited
/// by then never does.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for a reply of a QEMU that may hang.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Address of the counter: the first page of vCPU 0 (`e2e/lab/guest/aarch64.s`).
const COUNTER_ADDRESS: u64 = 0x4100_0000;
/// Distance between the counters of successive vCPUs.
const COUNTER_STRIDE: u64 = 8 << 20;

/// Bytes per second for postcopy. The memory in which the guest counts then takes eight seconds, so
/// that postcopy begins before all of it is sent.
const POSTCOPY_BANDWIDTH: u64 = 2 << 20;
/// Bytes per second for precopy. A round takes a quarter of a second. In that time the guest writes
/// more than a downtime of one millisecond suffices to send, so precopy does not converge.
const PRECOPY_BANDWIDTH: u64 = 64 << 20;
/// Bytes of RAM sent when postcopy begins: an eighth of the memory in which the guest counts.
const POSTCOPY_START_LEN: u64 = 2 << 20;
/// Number of precopy rounds (fetches of the dirty bitmap) after which precopy may converge. By then
/// pages have been sent more than once.
const MIN_PRECOPY_ROUNDS: u64 = 4;

/// A QEMU at one end.
#[derive(Debug)]
pub(crate) struct Endpoint {
    machine: RunningMachine,
    vcpus: u32,
    /// Socket of a second monitor, for the relay.
    monitor: PathBuf,
}

/// Status of a migration at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// `status` of `query-migrate`.
    pub(crate) migration: String,
    /// `status` of `query-status`.
    pub(crate) vm: String,
}

impl Endpoint {
    /// Starts a QEMU with its sockets in `folder`, under `name`.
    pub(crate) fn start(
        command: &[OsString],
        vcpus: u32,
        folder: &Path,
        name: &str,
        options: &[&str],
    ) -> Result<Self> {
        let monitor = folder.join(format!("{name}.qmp"));
        let address = format!("unix:{},server=on,wait=off", monitor.display());
        let options = [&["-qmp", &address], options].concat();
        Ok(Self {
            machine: RunningMachine::start(command, &options)?,
            vcpus,
            monitor,
        })
    }

    /// Returns the socket of the monitor that the test leaves to the relay.
    pub(crate) fn monitor(&self) -> &Path {
        &self.monitor
    }

    /// Returns the id of the process.
    pub(crate) fn id(&mut self) -> u32 {
        self.machine.qemu().id()
    }

    /// Adds the output of this end to an error.
    pub(crate) fn with_output<T>(&self, side: &str, result: Result<T>) -> Result<T> {
        let result = self.machine.with_output(result);
        result.map_err(|error| format!("{error}\n  (output of the {side})").into())
    }

    /// Returns the output of QEMU.
    pub(crate) fn stderr(&self) -> String {
        self.machine.stderr()
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let options = WaitOptions::with_timeout(STEP_TIMEOUT);
        Ok(self.machine.qemu().execute(command, arguments, &options)?)
    }

    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let vcpus = self.vcpus;
        self.machine.serial().wait_until_ready(vcpus)
    }

    /// Sets capabilities and parameters, which are the same on both sides.
    pub(crate) fn prepare(&mut self, mode: Mode) -> Result<()> {
        let capabilities: Vec<_> = mode
            .capabilities()
            .iter()
            .map(|name| json!({"capability": name, "state": true}))
            .collect();
        if !capabilities.is_empty() {
            let arguments = json!({"capabilities": capabilities});
            self.execute("migrate-set-capabilities", arguments)?;
        }
        if let Mode::Multifd(channels) = mode {
            let arguments = json!({"multifd-channels": channels});
            self.execute("migrate-set-parameters", arguments)?;
        }
        Ok(())
    }

    /// Listens for a migration. Returns the address in a syntax that QEMU and cpreg both accept.
    pub(crate) fn listen(&mut self, transport: Transport, folder: &Path) -> Result<String> {
        let address = match transport {
            Transport::Unix => format!("unix:{}", folder.join("incoming").display()),
            Transport::Tcp => "tcp:127.0.0.1:0".to_owned(),
        };
        self.execute("migrate-incoming", json!({"uri": address}))?;
        if transport == Transport::Unix {
            return Ok(address);
        }
        let migration = self.execute("query-migrate", json!({}))?;
        let port = &migration["socket-address"][0]["port"];
        let port = port
            .as_str()
            .ok_or_else(|| format!("query-migrate has no listening address: {migration}"))?;
        Ok(format!("tcp:127.0.0.1:{port}"))
    }

    /// Returns `true` if the process has exited.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.machine.qemu().try_wait()?.is_some())
    }

    /// Prevents the migration from converging.
    pub(crate) fn throttle(&mut self, mode: Mode) -> Result<()> {
        let parameters = if mode.is_postcopy() {
            json!({"max-bandwidth": POSTCOPY_BANDWIDTH, "downtime-limit": 1})
        } else {
            json!({"max-bandwidth": PRECOPY_BANDWIDTH, "downtime-limit": 1})
        };
        self.execute("migrate-set-parameters", parameters)?;
        Ok(())
    }

    /// Starts to send the VM.
    pub(crate) fn send(&mut self, mode: Mode, address: &str) -> Result<()> {
        self.throttle(mode)?;
        self.execute("migrate", json!({"uri": address}))?;
        Ok(())
    }

    /// Waits until part of RAM has been sent; in precopy all of it, and some again.
    pub(crate) fn wait_until_ram_sent(&mut self, mode: Mode) -> Result<()> {
        self.wait("RAM is not sent", |end| {
            let migration = end.execute("query-migrate", json!({}))?;
            let ram = |name: &str| migration["ram"][name].as_u64().unwrap_or_default();
            let is_enough_sent = if mode.is_postcopy() {
                ram("transferred") >= POSTCOPY_START_LEN
            } else {
                ram("dirty-sync-count") >= MIN_PRECOPY_ROUNDS
            };
            // A migration ends early if the guest had no time to write.
            Ok((is_enough_sent || has_ended(&migration["status"])).then_some(()))
        })
    }

    /// Lets the migration converge. The device state is sent next.
    pub(crate) fn begin_switchover(&mut self, mode: Mode) -> Result<()> {
        if mode.is_postcopy() {
            let migration = self.execute("query-migrate", json!({}))?;
            let remaining = migration["ram"]["remaining"].as_u64().unwrap_or_default();
            if migration["status"] != "active" || remaining < POSTCOPY_START_LEN {
                return Err(format!("too late to switch to postcopy: {migration}").into());
            }
            self.execute("migrate-start-postcopy", json!({}))?;
        } else {
            let arguments = json!({"max-bandwidth": 1_u64 << 40, "downtime-limit": 60_000});
            self.execute("migrate-set-parameters", arguments)?;
        }
        Ok(())
    }

    /// Waits until the migration has ended at the source.
    pub(crate) fn wait_until_ended(&mut self) -> Result<Status> {
        self.wait("the migration does not end", |end| {
            let migration = end.execute("query-migrate", json!({}))?;
            Ok(has_ended(&migration["status"]).then_some(()))
        })?;
        // The state of the guest changes a moment after the status of the migration.
        let mut status = self.status()?;
        let deadline = Instant::now() + STEP_TIMEOUT;
        while !["postcopy-paused", "cancelled"].contains(&status.migration.as_str())
            && status.vm == "finish-migrate"
            && Instant::now() < deadline
        {
            thread::sleep(POLL_INTERVAL);
            status = self.status()?;
        }
        Ok(status)
    }

    pub(crate) fn status(&mut self) -> Result<Status> {
        let migration = self.execute("query-migrate", json!({}))?;
        let vm = self.execute("query-status", json!({}))?;
        let word = |value: &Value| value["status"].as_str().unwrap_or("none").to_owned();
        Ok(Status {
            migration: word(&migration),
            vm: word(&vm),
        })
    }

    /// Returns the reply of `query-migrate`.
    pub(crate) fn query_migrate(&mut self) -> Result<Value> {
        self.execute("query-migrate", json!({}))
    }

    /// Returns the number of STOP events so far.
    pub(crate) fn stop_count(&mut self) -> usize {
        let events = self.machine.qemu().qmp().take_events();
        events.iter().filter(|event| event.name == "STOP").count()
    }

    /// Returns the counter value of each vCPU.
    pub(crate) fn counts(&mut self) -> Result<Vec<u64>> {
        let mut counts = Vec::new();
        for vcpu in 0..u64::from(self.vcpus) {
            let address = COUNTER_ADDRESS + vcpu * COUNTER_STRIDE;
            let command = json!({"command-line": format!("xp /1gx {address:#x}")});
            let output = self.execute("human-monitor-command", command)?;
            // Example of a line: "0000000041000000: 0x0000000000000017".
            let count = output
                .as_str()
                .and_then(|line| line.split_once(": 0x"))
                .and_then(|(_, digits)| u64::from_str_radix(digits.trim(), 16).ok())
                .ok_or_else(|| format!("not a word of memory: {output}"))?;
            counts.push(count);
        }
        Ok(counts)
    }

    /// Waits until every vCPU has counted beyond these values.
    pub(crate) fn wait_until_counted_past(&mut self, before: &[u64]) -> Result<()> {
        self.wait("the guest does not count", |end| {
            let now = end.counts()?;
            let have_all = before.iter().zip(&now).all(|(before, now)| now > before);
            Ok(have_all.then_some(()))
        })
    }

    /// Checks that the guest counts at this side.
    pub(crate) fn assert_counting(&mut self) -> Result<()> {
        let counts = self.counts()?;
        self.wait_until_counted_past(&counts)
    }

    /// Asks the running guest for its findings.
    pub(crate) fn findings(&mut self) -> Result<Findings> {
        self.machine.serial().send(b'C')?;
        self.machine.serial().findings(STEP_TIMEOUT)
    }

    /// Checks that nothing runs at a destination that did not get the whole VM. Returns its state:
    /// exited, waiting, or hanging.
    pub(crate) fn assert_not_running(&mut self) -> Result<&'static str> {
        let deadline = Instant::now() + EXIT_TIMEOUT;
        let options = WaitOptions::with_timeout(REPLY_TIMEOUT);
        loop {
            if self.machine.qemu().try_wait()?.is_some() {
                return Ok("the destination has exited");
            }
            let status = self
                .machine
                .qemu()
                .execute("query-status", json!({}), &options);
            match status {
                Ok(status) if status["status"] == "inmigrate" => {
                    if Instant::now() >= deadline {
                        return Ok("the destination waits");
                    }
                }
                Ok(status) => {
                    return Err(format!("the guest runs at the destination: {status}").into());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Exited(_) => return Ok("the destination has exited"),
                    // A destination that has lost all channels of multifd at once sometimes waits
                    // forever for its own threads.
                    _ if self.is_idle()? => return Ok("the destination hangs"),
                    _ => return Err(error.into()),
                },
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Returns `true` if the guest runs here, and counts.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        if self.has_ended()? {
            return Ok(false);
        }
        let options = WaitOptions::with_timeout(REPLY_TIMEOUT);
        let status = self
            .machine
            .qemu()
            .execute("query-status", json!({}), &options);
        match status {
            Ok(status) if status["status"] == "running" => self.assert_counting().map(|()| true),
            Ok(_) => Ok(false),
            Err(error) => match error.kind() {
                ErrorKind::Exited(_) => Ok(false),
                // A destination may hang after the loss of all multifd channels.
                _ if self.is_idle()? => Ok(false),
                _ => Err(error.into()),
            },
        }
    }

    /// Returns `true` if the process uses no processor time, unlike a counting guest.
    fn is_idle(&mut self) -> Result<bool> {
        let path = format!("/proc/{}/stat", self.id());
        let ticks = || -> Result<u64> {
            let stat = std::fs::read_to_string(&path)?;
            // After the name in parentheses come fields 14 and 15 of proc(5).
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let mut fields = fields.split(' ').skip(11);
            let mut next = || fields.next().and_then(|field| field.parse::<u64>().ok());
            Ok(next().unwrap_or_default() + next().unwrap_or_default())
        };
        let before = ticks()?;
        thread::sleep(Duration::from_millis(500));
        // A tick is a hundredth of a second.
        Ok(ticks()? - before < 5)
    }

    fn wait<T>(
        &mut self,
        problem: &str,
        mut poll: impl FnMut(&mut Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            if let Some(value) = poll(self)? {
                return Ok(value);
            }
            if Instant::now() >= deadline {
                let status = self.status()?;
                return Err(format!("{problem} within {STEP_TIMEOUT:?}: {status:?}").into());
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Returns `true` if a migration has ended at the source.
fn has_ended(status: &Value) -> bool {
    ["completed", "failed", "cancelled", "postcopy-paused"]
        .iter()
        .any(|end| status == end)
}
