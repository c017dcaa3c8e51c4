//! Live migrations during which something fails: the relay is killed, libvirtd restarts, strangers
//! connect, or a VM has another name at the destination.
//!
//! After each fault the VM must run on exactly one host, and libvirt's state of the VM must be that
//! of QEMU. Each killed relay dies in a phase that the case holds until the kill:
//!
//! | phase | what holds it |
//! |---|---|
//! | `setup` | the relay is stopped before the source connects, and reads nothing |
//! | `RAM` | the source sends slowly |
//! | `switchover` | QEMU waits for libvirtd to continue, and libvirtd is stopped |
//! | `end of the stream` | the relay is stopped before libvirtd continues |
//! | `result` | the destination has loaded the VM, and its host drops the result |
//! | `completed` | nothing: the source has received the result |

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::{Result, tool};
use rustix::process::Signal;
use serde_json::json;

use crate::host::Host;
use crate::pair::{LiveVm, Pair, VMS, check_output, expect_served, expect_state};
use crate::relay::{RelayService, delete_table, load_table};

/// VM that has two other names later: in its domain, and at the destination.
pub(crate) const RENAMED: [LiveVm; 2] = [VMS[0].with_name("shop"), VMS[0].with_name("mart")];

/// Slow bandwidth in MiB/s, at which no migration ends by itself.
const SLOW: &str = "1";
/// Bandwidth in MiB/s that does not limit.
const FAST: &str = "1000";

/// Name of [`DROP_RESULT`].
const TABLE: &str = "cpreg_fault";
/// Table that drops the result of a load (SHUT), which the destination's QEMU sends to the relay.
const DROP_RESULT: &str = "table inet cpreg_fault {
  chain input {
    type filter hook input priority 0
    iifname lo tcp sport 49152-49215 tcp flags & psh == psh drop
  }
}
";
/// Timeout for the packets of a connection to arrive.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(20);

/// Fault during a migration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Port scans, garbage, and 64 connections at once.
    Strangers,
    /// The relay is killed in a phase.
    KilledRelay(Phase),
    /// The relay is killed after the switch to postcopy, and `virsh migrate --postcopy-resume`
    /// continues through the next one.
    ResumedPostcopy,
    /// libvirtd restarts on both hosts while the relay waits for a migration.
    RestartedBeforeMigration,
    /// libvirtd restarts at the source while RAM is sent.
    RestartedSource,
    /// libvirtd restarts at the destination while RAM is sent.
    RestartedDestination,
    /// The domain is renamed before its start, and again by the migration.
    Renamed,
}

/// Phase of a migration in which the relay is killed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// The relay has read nothing.
    Setup,
    /// A part of RAM is sent.
    Ram,
    /// The guest is stopped, and no device state is sent.
    Switchover,
    /// The source sends the last RAM and the device state, and the relay forwards nothing of it.
    EndOfStream,
    /// The destination has loaded the VM, and the source does not know it.
    Result,
    /// The source knows that the destination has loaded the VM.
    Completed,
}

impl Fault {
    /// All faults that can be tried in both directions.
    pub(crate) const ALL: [Self; 11] = [
        Self::Strangers,
        Self::KilledRelay(Phase::Setup),
        Self::KilledRelay(Phase::Ram),
        Self::KilledRelay(Phase::Switchover),
        Self::KilledRelay(Phase::EndOfStream),
        Self::KilledRelay(Phase::Result),
        Self::KilledRelay(Phase::Completed),
        Self::RestartedBeforeMigration,
        Self::RestartedSource,
        Self::RestartedDestination,
        Self::Renamed,
    ];

    /// Returns the name of the case.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Strangers => "strangers",
            Self::KilledRelay(Phase::Setup) => "killed relay, setup",
            Self::KilledRelay(Phase::Ram) => "killed relay, RAM",
            Self::KilledRelay(Phase::Switchover) => "killed relay, switchover",
            Self::KilledRelay(Phase::EndOfStream) => "killed relay, end of the stream",
            Self::KilledRelay(Phase::Result) => "killed relay, result",
            Self::KilledRelay(Phase::Completed) => "killed relay, completed",
            Self::ResumedPostcopy => "resumed postcopy",
            Self::RestartedBeforeMigration => "restarted libvirtd, before",
            Self::RestartedSource => "restarted libvirtd, source",
            Self::RestartedDestination => "restarted libvirtd, destination",
            Self::Renamed => "renamed domain",
        }
    }
}

/// Runs a case.
///
/// # Errors
/// Returns an error if a step has another result than expected.
pub(crate) fn run(fault: Fault, pair: Pair<'_>) -> Result<()> {
    match fault {
        Fault::Strangers => run_strangers(pair),
        Fault::KilledRelay(phase) => run_killed_relay(pair, phase),
        Fault::ResumedPostcopy => run_resumed_postcopy(pair),
        Fault::RestartedBeforeMigration => run_restarted_before(pair),
        Fault::RestartedSource => run_restarted(pair, pair.from),
        Fault::RestartedDestination => run_restarted(pair, pair.to),
        Fault::Renamed => run_renamed(pair),
    }
}

fn run_strangers(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    let mut relay = RelayService::start(pair.to, &["--verbose"])?;
    pair.start(vm)?;
    send_garbage(pair)?;
    let output = pair.migrate(vm, &[])?;
    check_output(&output, &relay)?;
    if !relay.is_running()? {
        return Err("the relay has ended".into());
    }
    pair.expect_moved(vm)
}

/// Sends garbage from the source's host to redirected ports without a QEMU, 64 connections at
/// once.
fn send_garbage(pair: Pair<'_>) -> Result<()> {
    let script = format!(
        "for i in $(seq 64); do (exec 3<>/dev/tcp/{0}/$((49200 + i % 8)) && \
         if [ $((i % 2)) = 0 ]; then head -c 4000 /dev/urandom >&3; else printf QEVM >&3; fi; \
         sleep 1) 2>/dev/null & done; wait",
        pair.to.generation().address
    );
    tool::run(&mut pair.from.command(&["/bin/bash", "-c", &script]))?;
    Ok(())
}

fn run_killed_relay(pair: Pair<'_>, phase: Phase) -> Result<()> {
    let [vm, _] = VMS;
    let mut relay = RelayService::start(pair.to, &["--verbose"])?;
    pair.start(vm)?;
    if matches!(phase, Phase::Setup) {
        relay.signal(Signal::STOP)?;
    }
    let mut process = begin_slow_migration(pair, vm)?;
    let hold = match phase {
        Phase::Setup => {
            let mut source = vm.monitor(pair.from)?;
            source.wait_for_status("query-migrate", "active")?;
            Hold::default()
        }
        Phase::Ram => {
            relay.wait_for_event("setup", 1)?;
            Hold::default()
        }
        Phase::Switchover | Phase::EndOfStream | Phase::Result | Phase::Completed => {
            relay.wait_for_event("setup", 1)?;
            advance(pair, vm, &relay, phase)?
        }
    };
    relay.kill()?;
    drop(hold);
    let is_moved = matches!(phase, Phase::Completed);
    if process.wait()?.success() != is_moved {
        return Err(format!("`virsh migrate` has the wrong result\n{}", relay.output()).into());
    }
    if is_moved {
        pair.expect_moved(vm)
    } else {
        pair.expect_at_source(vm)
    }
}

/// Everything that holds a phase. Dropping it lets the migration proceed.
#[derive(Default)]
struct Hold<'h> {
    libvirtd: Option<StoppedLibvirtd<'h>>,
    result: Option<DroppedResult<'h>>,
}

/// Lets a slow migration proceed from RAM to a later phase, and holds that phase.
fn advance<'h>(
    pair: Pair<'h>,
    vm: LiveVm,
    relay: &RelayService<'_>,
    phase: Phase,
) -> Result<Hold<'h>> {
    let mut source = vm.monitor(pair.from)?;
    // QEMU waits for libvirtd before it sends device state.
    let libvirtd = StoppedLibvirtd::stop(pair.from)?;
    source.execute("migrate-set-parameters", &json!({"max-bandwidth": 1 << 30}))?;
    source.wait_for_status("query-migrate", "pre-switchover")?;
    source.wait_for_status("query-status", "finish-migrate")?;
    let mut hold = Hold::default();
    match phase {
        Phase::EndOfStream => {
            wait_for_queues(pair, false)?;
            relay.signal(Signal::STOP)?;
            drop(libvirtd);
            // If the queues are too small, QEMU's monitor does not answer until the kill.
            wait_for_queues(pair, true)?;
        }
        Phase::Result => {
            hold.result = Some(DroppedResult::new(pair.to)?);
            drop(libvirtd);
            relay.wait_for_event("device-state-sent", 1)?;
            let mut destination = vm.monitor(pair.to)?;
            destination.wait_for_status("query-status", "paused")?;
            source.wait_for_status("query-migrate", "device")?;
        }
        Phase::Completed => {
            drop(libvirtd);
            relay.wait_for_event("return-path-shut", 1)?;
        }
        _ => hold.libvirtd = Some(libvirtd),
    }
    Ok(hold)
}

/// Starts `virsh migrate` with a bandwidth at which it does not end by itself.
fn begin_slow_migration(pair: Pair<'_>, vm: LiveVm) -> Result<Child> {
    pair.from
        .virsh_output(&["migrate-setspeed", vm.name, SLOW])?;
    let mut command = pair.migrate_command(vm, &[]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// Migrates a VM after libvirtd has restarted on both hosts.
fn run_restarted_before(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    let relay = RelayService::start(pair.to, &[])?;
    pair.start(vm)?;
    for host in [pair.from, pair.to] {
        host.restart_libvirtd()?;
    }
    expect_state(pair.from, vm, Some("running"))?;
    check_output(&pair.migrate(vm, &[])?, &relay)?;
    pair.expect_moved(vm)
}

/// Restarts libvirtd of a host during a migration. The VM must stay at the source, and the next
/// migration through the same relay must succeed.
fn run_restarted(pair: Pair<'_>, host: &Host) -> Result<()> {
    let [vm, _] = VMS;
    let relay = RelayService::start(pair.to, &["--verbose"])?;
    pair.start(vm)?;
    let mut process = begin_slow_migration(pair, vm)?;
    relay.wait_for_event("setup", 1)?;
    host.restart_libvirtd()?;
    if process.wait()?.success() {
        return Err("the migration succeeded although libvirtd ended".into());
    }
    pair.expect_at_source(vm)?;
    let served = relay.wait_for_event("served", 1)?;
    if served[0]["vm"] != vm.name || served[0]["outcome"] != "failed" {
        return Err(format!("not failed: {}", served[0]).into());
    }
    pair.from
        .virsh_output(&["migrate-setspeed", vm.name, FAST])?;
    check_output(&pair.migrate(vm, &[])?, &relay)?;
    pair.expect_moved(vm)?;
    let served = relay.wait_for_event("served", 2)?;
    expect_served(&served[1], vm, "completed", "converts")
}

/// Migrates a domain that was renamed, under a third name. The log must have the name that the
/// domain has on the relay's host.
fn run_renamed(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    let [renamed, migrated] = RENAMED;
    let relay = RelayService::start(pair.to, &[])?;
    pair.define(vm, false)?;
    pair.from
        .virsh_output(&["domrename", vm.name, renamed.name])?;
    pair.start_defined(renamed)?;
    let output = pair.migrate(renamed, &["--dname", migrated.name])?;
    check_output(&output, &relay)?;
    let served = relay.wait_for_event("served", 1)?;
    expect_served(&served[0], migrated, "completed", "converts")?;
    expect_state(pair.from, renamed, Some("shut off"))?;
    expect_state(pair.to, migrated, Some("running"))
}

fn run_resumed_postcopy(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    let relay_options = ["--verbose", "--allow-no-return-path"];
    let mut relay = RelayService::start(pair.to, &relay_options)?;
    pair.start(vm)?;
    // So slow that postcopy begins before all RAM is sent, and does not end by itself.
    let slow = [
        "--postcopy",
        "--bandwidth",
        "2",
        "--postcopy-bandwidth",
        "1",
    ];
    let mut command = pair.migrate_command(vm, &slow);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = command.spawn()?;
    relay.wait_for_event("setup", 1)?;
    pair.from.virsh_output(&["migrate-postcopy", vm.name])?;
    relay.wait_for_event("device-state-sent", 1)?;
    // Only a VM that the destination has started can resume there.
    expect_state(pair.to, vm, Some("running"))?;
    relay.kill()?;
    if process.wait()?.success() {
        return Err("the migration succeeded without its relay".into());
    }
    expect_state(pair.from, vm, Some("paused"))?;
    drop(relay);

    let relay = RelayService::start(pair.to, &relay_options)?;
    let resume = [
        "--postcopy",
        "--postcopy-resume",
        "--postcopy-bandwidth",
        "100",
    ];
    let output = pair.migrate_command(vm, &resume).output()?;
    check_output(&output, &relay)?;
    pair.expect_moved(vm)?;
    let served = relay.wait_for_event("served", 1)?;
    if served[0]["vm"] == vm.name && served[0]["outcome"] == "recovered" {
        return Ok(());
    }
    Err(format!("not recovered: {}", served[0]).into())
}

/// Stopped libvirtd. It continues when this value is dropped.
struct StoppedLibvirtd<'h>(&'h Host);

impl<'h> StoppedLibvirtd<'h> {
    fn stop(host: &'h Host) -> Result<Self> {
        host.signal_libvirtd("STOP")?;
        Ok(Self(host))
    }
}

impl Drop for StoppedLibvirtd<'_> {
    fn drop(&mut self) {
        // Without libvirtd the next command fails.
        let _ = self.0.signal_libvirtd("CONT");
    }
}

/// Firewall of a host that drops the result of a load. Dropping this value removes it.
struct DroppedResult<'h>(&'h Host);

impl<'h> DroppedResult<'h> {
    fn new(host: &'h Host) -> Result<Self> {
        load_table(host, DROP_RESULT)?;
        Ok(Self(host))
    }
}

impl Drop for DroppedResult<'_> {
    fn drop(&mut self) {
        delete_table(self.0, TABLE);
    }
}

/// Waits until bytes are in the queues between the source and the relay, or none.
fn wait_for_queues(pair: Pair<'_>, expected: bool) -> Result<()> {
    let deadline = Instant::now() + QUEUE_TIMEOUT;
    loop {
        let has_bytes = pair.from.has_queued_bytes()? || pair.to.has_queued_bytes()?;
        if has_bytes == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("bytes between source and relay: {has_bytes}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}
