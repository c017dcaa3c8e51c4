//! Live migrations between two libvirts through `cpreg relay --serve`, with an unchanged
//! `virsh migrate` command.

use std::fmt;
use std::fs;
use std::process::{Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e_framework::{Result, tool};
use serde_json::Value;

use crate::certificates;
use crate::host::{Generation, Host, NEW, OLD};
use crate::relay::RelayService;
use crate::steps::domain_xml;

/// Timeout for a state of a VM.
const STATE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of `virsh migrate`, in seconds.
const MIGRATE_TIMEOUT: &str = "90";

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
    /// Port scans, garbage, and 64 connections at once.
    Strangers,
    /// The relay is killed while RAM is sent.
    KilledRelay,
    /// The relay is killed after the switch to postcopy, and `virsh migrate --postcopy-resume`
    /// continues through the next one.
    ResumedPostcopy,
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
            Kind::Strangers => "strangers",
            Kind::KilledRelay => "killed relay",
            Kind::ResumedPostcopy => "resumed postcopy",
        };
        write!(f, "live {} -> {}, {kind}", self.from.suite, self.to.suite)
    }
}

/// Returns all cases.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (from, to) in [(OLD, NEW), (NEW, OLD)] {
        let others = [
            Kind::TwoVms,
            Kind::Refusal,
            Kind::Strangers,
            Kind::KilledRelay,
        ];
        let kinds = [Kind::WithoutRelay]
            .into_iter()
            .chain(SUCCESSES)
            .chain(TLS_SUCCESSES)
            .chain(others);
        cases.extend(kinds.map(|kind| Case { from, to, kind }));
    }
    // As the destination of a resumed migration, libvirt 11.3 crashes.
    cases.push(Case {
        from: NEW,
        to: OLD,
        kind: Kind::ResumedPostcopy,
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
            Kind::WithoutRelay => pair.run_without_relay(),
            Kind::Success(_, options) => pair.run_success(options),
            Kind::TwoVms => pair.run_two(),
            Kind::Refusal => pair.run_refusal(),
            Kind::Strangers => pair.run_strangers(),
            Kind::KilledRelay => pair.run_killed_relay(),
            Kind::ResumedPostcopy => pair.run_resumed_postcopy(),
        };
        for host in self.hosts {
            for vm in VMS {
                // The VM need not exist.
                host.virsh(&["destroy", vm.name])?;
                host.virsh(&["undefine", vm.name])?;
            }
        }
        result
    }
}

/// VM of a case.
#[derive(Clone, Copy, Debug)]
struct LiveVm {
    name: &'static str,
    uuid: &'static str,
}

const VMS: [LiveVm; 2] = [
    LiveVm {
        name: "web",
        uuid: "6a1b6a3e-0000-4000-8000-000000000001",
    },
    LiveVm {
        name: "db",
        uuid: "6a1b6a3e-0000-4000-8000-000000000002",
    },
];

impl LiveVm {
    /// Returns the domain. A disk that the hosts do not share needs `--copy-storage-all`.
    fn xml(self, has_disk: bool) -> String {
        let Self { name, uuid } = self;
        let disk = format!(
            "<disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='/vm/{name}.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>"
        );
        let disk = if has_disk { &disk } else { "" };
        domain_xml(name, uuid, &format!("{name}.log"), disk)
    }
}

/// Source and destination of a case.
struct Pair<'h> {
    from: &'h Host,
    to: &'h Host,
}

impl Pair<'_> {
    /// Starts a VM at the source, and waits for its guest.
    fn start(&self, vm: LiveVm) -> Result<()> {
        self.start_with_disk(vm, false)
    }

    fn start_with_disk(&self, vm: LiveVm, has_disk: bool) -> Result<()> {
        for host in [self.from, self.to] {
            let image = format!("/vm/{}.qcow2", vm.name);
            let arguments = [
                "/usr/bin/qemu-img",
                "create",
                "-q",
                "-f",
                "qcow2",
                &image,
                "4M",
            ];
            tool::run(&mut host.command(&arguments))?;
        }
        let file = format!("vm/{}.xml", vm.name);
        fs::write(self.from.path(&file), vm.xml(has_disk))?;
        let serial = self.from.path(&format!("vm/{}.log", vm.name));
        if serial.exists() {
            fs::remove_file(&serial)?;
        }
        self.from.virsh_output(&["define", &format!("/{file}")])?;
        self.from.virsh_output(&["start", vm.name])?;
        let deadline = Instant::now() + STATE_TIMEOUT;
        while fs::metadata(&serial).map_or(0, |metadata| metadata.len()) == 0 {
            if Instant::now() > deadline {
                return Err("the guest writes nothing".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs an unchanged `virsh migrate`.
    fn migrate(&self, vm: LiveVm, options: &[&str]) -> Result<Output> {
        Ok(self.migrate_command(vm, options).output()?)
    }

    fn migrate_command(&self, vm: LiveVm, options: &[&str]) -> std::process::Command {
        let mut command = self.from.command(&["timeout", MIGRATE_TIMEOUT]);
        command
            .args(["/usr/bin/virsh", "--connect", "qemu:///system"])
            .args(["migrate", "--live", vm.name])
            .arg(format!("qemu+tcp://{}/system", self.to.generation().name))
            .args(options);
        command
    }

    /// Checks that a VM runs at the destination only.
    fn expect_moved(&self, vm: LiveVm) -> Result<()> {
        expect_state(self.to, vm, Some("running"))?;
        match state(self.from, vm)?.as_deref() {
            None | Some("shut off") => Ok(()),
            Some(state) => Err(format!("the VM is {state} at the source").into()),
        }
    }

    /// Checks that a VM runs at the source only.
    fn expect_at_source(&self, vm: LiveVm) -> Result<()> {
        expect_state(self.from, vm, Some("running"))?;
        expect_state(self.to, vm, None)
    }

    fn run_without_relay(&self) -> Result<()> {
        let [vm, _] = VMS;
        self.start(vm)?;
        let output = self.migrate(vm, &[])?;
        if output.status.success() {
            return Err("the VM loads without cpreg: the cases show nothing".into());
        }
        self.expect_at_source(vm)
    }

    fn run_success(&self, options: &[&str]) -> Result<()> {
        let [vm, _] = VMS;
        let mut relay_options = vec!["--verbose"];
        if options.contains(&"--postcopy") {
            relay_options.push("--allow-no-return-path");
        }
        if options.contains(&"--tls") {
            relay_options.extend(["--tls-creds", certificates::FOLDER]);
        }
        let relay = RelayService::start(self.to, &relay_options)?;
        self.start_with_disk(vm, options.contains(&"--copy-storage-all"))?;
        let output = self.migrate(vm, options)?;
        check_output(&output, &relay)?;
        self.expect_moved(vm)
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

    fn run_two(&self) -> Result<()> {
        let relay = RelayService::start(self.to, &[])?;
        for vm in VMS {
            self.start(vm)?;
        }
        let mut processes = Vec::new();
        for vm in VMS {
            let mut command = self.migrate_command(vm, &[]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            processes.push(command.spawn()?);
        }
        for process in processes {
            check_output(&process.wait_with_output()?, &relay)?;
        }
        let served = relay.wait_for_event("served", 2)?;
        for vm in VMS {
            self.expect_moved(vm)?;
            let event = served.iter().find(|event| event["vm"] == vm.name);
            let event = event.ok_or("a VM is not in the log")?;
            expect_served(event, vm, "completed", "converts")?;
        }
        let metrics = fs::read_to_string(self.to.path("vm/relay.prom"))?;
        if !metrics.contains("cpreg_relay_active_migrations") {
            return Err(format!("no metrics: {metrics}").into());
        }
        Ok(())
    }

    fn run_refusal(&self) -> Result<()> {
        let [vm, _] = VMS;
        let relay = RelayService::start(self.to, &["--to", "/vm/other-cpu.json"])?;
        self.start(vm)?;
        let output = self.migrate(vm, &[])?;
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
        self.expect_at_source(vm)
    }

    fn run_strangers(&self) -> Result<()> {
        let [vm, _] = VMS;
        let mut relay = RelayService::start(self.to, &["--verbose"])?;
        self.start(vm)?;
        self.send_garbage()?;
        let output = self.migrate(vm, &[])?;
        check_output(&output, &relay)?;
        if !relay.is_running()? {
            return Err("the relay has ended".into());
        }
        self.expect_moved(vm)
    }

    /// Sends garbage from the source's host to redirected ports without a QEMU, 64 connections at
    /// once.
    fn send_garbage(&self) -> Result<()> {
        let script = format!(
            "for i in $(seq 64); do (exec 3<>/dev/tcp/{0}/$((49200 + i % 8)) && \
             if [ $((i % 2)) = 0 ]; then head -c 4000 /dev/urandom >&3; else printf QEVM >&3; fi; \
             sleep 1) 2>/dev/null & done; wait",
            self.to.generation().address
        );
        tool::run(&mut self.from.command(&["/bin/bash", "-c", &script]))?;
        Ok(())
    }

    fn run_killed_relay(&self) -> Result<()> {
        let [vm, _] = VMS;
        let mut relay = RelayService::start(self.to, &["--verbose"])?;
        self.start(vm)?;
        // Too slow to end by itself.
        self.from
            .virsh_output(&["migrate-setspeed", vm.name, "1"])?;
        let mut command = self.migrate_command(vm, &[]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        relay.wait_for_event("setup", 1)?;
        relay.kill()?;
        if process.wait()?.success() {
            return Err("the migration succeeded without its relay".into());
        }
        self.expect_at_source(vm)
    }

    fn run_resumed_postcopy(&self) -> Result<()> {
        let [vm, _] = VMS;
        let relay_options = ["--verbose", "--allow-no-return-path"];
        let mut relay = RelayService::start(self.to, &relay_options)?;
        self.start(vm)?;
        // So slow that postcopy begins before all RAM is sent, and does not end by itself.
        let slow = [
            "--postcopy",
            "--bandwidth",
            "2",
            "--postcopy-bandwidth",
            "1",
        ];
        let mut command = self.migrate_command(vm, &slow);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        relay.wait_for_event("setup", 1)?;
        self.from.virsh_output(&["migrate-postcopy", vm.name])?;
        relay.wait_for_event("device-state-sent", 1)?;
        // Only a VM that the destination has started can resume there.
        expect_state(self.to, vm, Some("running"))?;
        relay.kill()?;
        if process.wait()?.success() {
            return Err("the migration succeeded without its relay".into());
        }
        expect_state(self.from, vm, Some("paused"))?;
        drop(relay);

        let relay = RelayService::start(self.to, &relay_options)?;
        let resume = [
            "--postcopy",
            "--postcopy-resume",
            "--postcopy-bandwidth",
            "100",
        ];
        check_output(&self.migrate(vm, &resume)?, &relay)?;
        self.expect_moved(vm)?;
        let served = relay.wait_for_event("served", 1)?;
        if served[0]["vm"] == vm.name && served[0]["outcome"] == "recovered" {
            return Ok(());
        }
        Err(format!("not recovered: {}", served[0]).into())
    }
}

/// Returns the state of a VM in libvirt's words; `None` if the host does not know it.
fn state(host: &Host, vm: LiveVm) -> Result<Option<String>> {
    let output = host.virsh(&["domstate", vm.name])?;
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success().then_some(state))
}

/// Waits until a VM has a state.
fn expect_state(host: &Host, vm: LiveVm, expected: Option<&str>) -> Result<()> {
    let deadline = Instant::now() + STATE_TIMEOUT;
    loop {
        let found = state(host, vm)?;
        if found.as_deref() == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            let name = host.generation().name;
            return Err(format!("{} is {found:?} on {name}, not {expected:?}", vm.name).into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn check_output(output: &Output, relay: &RelayService<'_>) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "virsh migrate: {}\n{stderr}{}",
        output.status,
        relay.output()
    )
    .into())
}

/// Checks the log line of a migration.
fn expect_served(event: &Value, vm: LiveVm, outcome: &str, verdict: &str) -> Result<()> {
    if event["vm"] == vm.name && event["outcome"] == outcome && event["verdict"] == verdict {
        return Ok(());
    }
    Err(format!("expected {}, {outcome}, {verdict}: {event}", vm.name).into())
}
