//! Live migrations between two libvirts through `cpreg relay --serve`, with an unchanged
//! `virsh migrate` command.

use std::fmt;
use std::fs;
use std::process::Stdio;

use e2e_framework::{Result, tool};

use crate::certificates;
use crate::faults::{self, Fault};
use crate::host::{Generation, Host, NEW, OLD};
use crate::pair::{Pair, VMS, check_output, expect_served};
use crate::relay::RelayService;

/// One migration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    from: Generation,
    to: Generation,
    kind: Kind,
}

/// Kind of a migration.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Without cpreg: the destination cannot load the VM.
    WithoutRelay,
    /// With the relay; name, and options of `virsh migrate`.
    Success(&'static str, &'static [&'static str]),
    /// Two VMs at the same time.
    TwoVms,
    /// A destination that does not load the VM.
    Refusal,
    /// Something fails during the migration.
    Fault(Fault),
}

/// Options of `virsh migrate` that move a VM.
const SUCCESSES: [Kind; 8] = [
    Kind::Success("direct", &[]),
    Kind::Success("p2p", &["--p2p"]),
    Kind::Success(
        "p2p persistent",
        &["--p2p", "--persistent", "--undefinesource"],
    ),
    Kind::Success("xbzrle", &["--compressed", "--comp-methods", "xbzrle"]),
    Kind::Success("multifd", &["--parallel", "--parallel-connections", "3"]),
    Kind::Success("postcopy", &["--postcopy", "--postcopy-after-precopy"]),
    Kind::Success("copy-storage-all", &["--copy-storage-all"]),
    Kind::Success("tls", &["--tls"]),
];
/// More of them, over TLS.
const TLS_SUCCESSES: [Kind; 2] = [
    Kind::Success(
        "tls multifd",
        &["--tls", "--parallel", "--parallel-connections", "2"],
    ),
    Kind::Success("tls copy-storage-all", &["--tls", "--copy-storage-all"]),
];

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::WithoutRelay => "without cpreg",
            Kind::Success(name, _) => name,
            Kind::TwoVms => "two VMs",
            Kind::Refusal => "refusal",
            Kind::Fault(fault) => fault.name(),
        };
        write!(f, "live {} -> {}, {kind}", self.from.suite, self.to.suite)
    }
}

/// Returns all cases.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (from, to) in [(OLD, NEW), (NEW, OLD)] {
        let others = [Kind::TwoVms, Kind::Refusal];
        let kinds = [Kind::WithoutRelay]
            .into_iter()
            .chain(SUCCESSES)
            .chain(TLS_SUCCESSES)
            .chain(others)
            .chain(Fault::ALL.map(Kind::Fault));
        cases.extend(kinds.map(|kind| Case { from, to, kind }));
    }
    // As the destination of a resumed migration, libvirt 11.3 crashes.
    cases.push(Case {
        from: NEW,
        to: OLD,
        kind: Kind::Fault(Fault::ResumedPostcopy),
    });
    cases
}

/// Hosts of all cases.
pub(crate) struct Fixture<'h> {
    hosts: [&'h Host; 2],
}

impl<'h> Fixture<'h> {
    /// Gives both hosts certificates and the profile of another CPU.
    ///
    /// # Errors
    /// Returns an error if a certificate cannot be made, or a QEMU cannot be recorded.
    pub(crate) fn new(hosts: [&'h Host; 2]) -> Result<Self> {
        certificates::install(hosts)?;
        for host in hosts {
            // The CPU of this QEMU does not load the VM.
            let mut probe = host.command(&["/usr/local/bin/cpreg", "probe", "qemu"]);
            probe.args(["-o", "/vm/other-cpu.json", "--"]);
            probe.args(["/usr/bin/qemu-system-aarch64", "-cpu", "cortex-a72"]);
            probe.args(["-machine", "virt-7.2,accel=tcg,gic-version=3"]);
            tool::run(probe.args(["-smp", "2", "-m", "128M", "-nodefaults"]))?;
        }
        Ok(Self { hosts })
    }

    fn host(&self, generation: Generation) -> &'h Host {
        let [old, new] = self.hosts;
        if generation.suite == OLD.suite {
            old
        } else {
            new
        }
    }

    /// Runs a case.
    ///
    /// # Errors
    /// Returns an error if a step has another result than expected.
    pub(crate) fn run(&self, case: &Case) -> Result<()> {
        let pair = Pair {
            from: self.host(case.from),
            to: self.host(case.to),
        };
        let result = match case.kind {
            Kind::WithoutRelay => run_without_relay(pair),
            Kind::Success(_, options) => run_success(pair, options),
            Kind::TwoVms => run_two(pair),
            Kind::Refusal => run_refusal(pair),
            Kind::Fault(fault) => faults::run(fault, pair),
        };
        for host in self.hosts {
            for vm in VMS.into_iter().chain(faults::RENAMED) {
                // The VM need not exist.
                host.virsh(&["destroy", vm.name])?;
                host.virsh(&["undefine", vm.name])?;
            }
        }
        result
    }
}

fn run_without_relay(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    pair.start(vm)?;
    let output = pair.migrate(vm, &[])?;
    if output.status.success() {
        return Err("the VM loads without cpreg: the cases show nothing".into());
    }
    pair.expect_at_source(vm)
}

fn run_success(pair: Pair<'_>, options: &[&str]) -> Result<()> {
    let [vm, _] = VMS;
    let mut relay_options = vec!["--verbose"];
    if options.contains(&"--postcopy") {
        relay_options.push("--allow-no-return-path");
    }
    if options.contains(&"--tls") {
        relay_options.extend(["--tls-creds", certificates::FOLDER]);
    }
    let relay = RelayService::start(pair.to, &relay_options)?;
    if options.contains(&"--copy-storage-all") {
        pair.start_with_disk(vm)?;
    } else {
        pair.start(vm)?;
    }
    let output = pair.migrate(vm, options)?;
    check_output(&output, &relay)?;
    pair.expect_moved(vm)
        .map_err(|error| format!("{error}\n{}", relay.output()))?;
    let served = relay.wait_for_event("served", 1)?;
    expect_served(&served[0], vm, "completed", "converts")?;
    let events = relay.events()?;
    let count = |name: &str, channel: &str| {
        let matching = events.iter().filter(|event| event["event"] == name);
        matching
            .filter(|event| channel.is_empty() || event["channel"] == channel)
            .count()
    };
    if options.contains(&"--parallel") && count("connected", "multifd") == 0 {
        return Err(format!("no multifd channel\n{}", relay.output()).into());
    }
    if options.contains(&"--copy-storage-all") && count("forwarding", "") == 0 {
        return Err(format!("the relay saw no NBD connection\n{}", relay.output()).into());
    }
    Ok(())
}

fn run_two(pair: Pair<'_>) -> Result<()> {
    let relay = RelayService::start(pair.to, &[])?;
    for vm in VMS {
        pair.start(vm)?;
    }
    let mut processes = Vec::new();
    for vm in VMS {
        pair.permit_downtime(vm)?;
        let mut command = pair.migrate_command(vm, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        processes.push(command.spawn()?);
    }
    for process in processes {
        check_output(&process.wait_with_output()?, &relay)?;
    }
    let served = relay.wait_for_event("served", 2)?;
    for vm in VMS {
        pair.expect_moved(vm)?;
        let event = served.iter().find(|event| event["vm"] == vm.name);
        let event = event.ok_or("a VM is not in the log")?;
        expect_served(event, vm, "completed", "converts")?;
    }
    let metrics = fs::read_to_string(pair.to.path("vm/relay.prom"))?;
    if !metrics.contains("cpreg_relay_active_migrations") {
        return Err(format!("no metrics: {metrics}").into());
    }
    Ok(())
}

fn run_refusal(pair: Pair<'_>) -> Result<()> {
    let [vm, _] = VMS;
    let relay = RelayService::start(pair.to, &["--to", "/vm/other-cpu.json"])?;
    pair.start(vm)?;
    let output = pair.migrate(vm, &[])?;
    if output.status.success() {
        return Err("a refused VM was migrated".into());
    }
    let served = relay.wait_for_event("served", 1)?;
    expect_served(&served[0], vm, "refused", "refused")?;
    if served[0]["vm_location"] != "source"
        || served[0]["reasons"].as_array().is_none_or(Vec::is_empty)
    {
        return Err(format!("no reason: {}", served[0]).into());
    }
    pair.expect_at_source(vm)
}
