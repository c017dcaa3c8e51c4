//! Tests of faults during a migration between two example VMMs: if either VMM dies or refuses, the
//! guest runs in exactly one place. Both VMMs run in one emulated host, and connect over 127.0.0.1.
//!
//! The connection is slow (`--bandwidth`). A VMM is killed when the sender prints a certain
//! progress line, so no test depends on timing.

use std::fmt::Write as _;
use std::path::Path;

use super::fixture::{Fixture, RESULTS, host_label};
use crate::evaluate::{MoveOutcome, VmmOutput, evaluate};
use e2e_framework::Result;
use e2e_framework::lab::boot::EmulatedHost;
use e2e_framework::lab::cpu::Cpu;
use e2e_framework::lab::job::Job;
use e2e_framework::lab::kernels::Kernel;

/// Kernel and CPU model of the host.
const KERNEL: &str = "6.12.107";
const CPU: &str = "neoverse-n1";

/// A value that no KVM of [`KERNEL`] accepts (`kvm_arm_set_fw_reg`): PSCI 1.9. cpreg knows this
/// limit, and refuses without a query to the kernel.
const REJECTED_SETTING: &str = "PSCI_VERSION=0x10009";

/// Beginning of the sender's progress line in a pre-copy round.
const PRE_COPY_LINE: &str = "pre-copy: round 2,";
/// Progress line of the sender when the guest is stopped.
const STOPPED_LINE: &str = "the guest is stopped";

/// Shell functions of the script. Each test has its own port. SIGKILL ends a process with status
/// 137.
const SCRIPT: &str = "\
# kill_when TEXT NAME: forwards lines, and kills the process NAME at the first line that begins with TEXT.
kill_when() {
    while read -r line; do
        echo \"$line\"
        case \"$line\" in \"$1\"*) kill -9 $(cat /tmp/$2.pid) ;; esac
    done
}
# as NAME COMMAND...: runs the command and records its id, its output and its exit status.
as() {
    name=$1
    shift
    sh -c 'echo $$ > /tmp/'$name'.pid; exec \"$@\"' as \"$@\" 2>&1
    echo $? > /out/$name.status
}
# fault NAME PORT TEXT VICTIM KIB RECEIVER-OPTIONS...
fault() {
    name=$1 port=$2 text=$3 victim=$4 kib=$5
    shift 5
    as $name-receiver cpreg-vmm receive 127.0.0.1:$port --timeout 60 --seconds 3 \"$@\" > /out/$name-receiver &
    as $name-sender cpreg-vmm send 127.0.0.1:$port --timeout 60 --seconds-before 3 --seconds-after 3 --bandwidth $kib | kill_when \"$text\" $name-$victim > /out/$name-sender
    wait
}
";

/// A test and its check.
struct FaultCase {
    name: &'static str,
    description: &'static str,
    /// Beginning of the sender's progress line at which the victim is killed.
    trigger: &'static str,
    /// VMM that is killed: `sender` or `receiver`.
    victim: &'static str,
    /// Limit of the connection's bandwidth, in KiB per second.
    bandwidth: u32,
    /// Options of the receiver.
    options: &'static str,
    /// Check of the output of the sender and of the receiver.
    check: fn(&VmmOutput, &VmmOutput) -> Result<()>,
}

const FAULTS: [FaultCase; 5] = [
    FaultCase {
        name: "unhurt",
        description: "slow connection, no fault: the guest moves",
        trigger: "-",
        victim: "receiver",
        bandwidth: 256,
        options: "",
        check: check_unaffected,
    },
    FaultCase {
        name: "receiver-pre-copy",
        description: "receiver killed in the pre-copy",
        trigger: PRE_COPY_LINE,
        victim: "receiver",
        bandwidth: 64,
        options: "",
        check: check_sender_continues,
    },
    FaultCase {
        name: "receiver-final",
        description: "receiver killed while the guest is stopped",
        trigger: STOPPED_LINE,
        victim: "receiver",
        bandwidth: 64,
        options: "",
        check: check_sender_continues,
    },
    FaultCase {
        name: "refused",
        description: "a value that the destination does not accept",
        trigger: "-",
        victim: "receiver",
        bandwidth: 256,
        options: "--set ",
        check: check_refused,
    },
    FaultCase {
        name: "sender-pre-copy",
        description: "sender killed in the pre-copy",
        trigger: PRE_COPY_LINE,
        victim: "sender",
        bandwidth: 64,
        options: "",
        check: check_receiver_idle,
    },
];

/// Returns the host for these tests, among the tested ones.
///
/// # Errors
/// Returns an error if the host is not among the tested ones.
pub(crate) fn host<'a>(kernels: &'a [Kernel], cpus: &'a [Cpu]) -> Result<(&'a Kernel, &'a Cpu)> {
    let kernel = kernels.iter().find(|kernel| kernel.version == KERNEL);
    let cpu = cpus.iter().find(|cpu| cpu.to_string() == CPU);
    Ok(kernel.zip(cpu).ok_or("no host for the faults")?)
}

/// Boots the host, and runs all tests.
pub(crate) fn test(fixture: &Fixture<'_>, kernel: &Kernel, cpu: &Cpu) {
    let mut script = SCRIPT.to_owned();
    for (number, fault) in FAULTS.iter().enumerate() {
        let FaultCase {
            name,
            trigger,
            victim,
            bandwidth,
            options,
            ..
        } = fault;
        let value = if options.is_empty() {
            ""
        } else {
            REJECTED_SETTING
        };
        let _ = writeln!(
            script,
            "fault {name} {} '{trigger}' {victim} {bandwidth} {options}{value}",
            4000 + number
        );
    }
    let job = Job {
        script,
        programs: vec![fixture.programs.join("cpreg-vmm")],
        ..Job::default()
    };
    let host = EmulatedHost::new(kernel, cpu);
    let name = format!("{}__faults", host.name());
    let results = fixture.lab.folder.join("results").join(RESULTS).join(name);
    let booted = host.run(fixture.lab, &job, &results);
    for fault in &FAULTS {
        let outcome = match &booted {
            Ok(()) => check(fault, &results),
            Err(error) => Err(error.to_string().into()),
        };
        let name = format!("{}: {}", host_label(kernel, cpu), fault.description);
        fixture.tally.count(&name, outcome);
    }
}

fn check(fault: &FaultCase, results: &Path) -> Result<()> {
    let output = |end: &str| VmmOutput::read(results, &format!("{}-{end}", fault.name));
    let (sender, receiver) = (output("sender")?, output("receiver")?);
    (fault.check)(&sender, &receiver).map_err(|error| {
        let (sender, receiver) = (sender.indented(), receiver.indented());
        format!("  {error}\n  sender {sender}  receiver {receiver}").into()
    })
}

/// Exit status of a process that SIGKILL ended.
const SIGKILL_STATUS: &str = "137";

fn check_unaffected(sender: &VmmOutput, receiver: &VmmOutput) -> Result<()> {
    match evaluate(sender, receiver)? {
        MoveOutcome::Moved { .. }
            if sender.text.contains(PRE_COPY_LINE) && sender.text.contains(STOPPED_LINE) =>
        {
            Ok(())
        }
        _ => Err("the guest did not move".into()),
    }
}

/// Checks that the guest continues at the sender after the receiver died.
fn check_sender_continues(sender: &VmmOutput, receiver: &VmmOutput) -> Result<()> {
    let has_cause = sender.text.lines().any(|line| line.starts_with("failed: "));
    if receiver.status != SIGKILL_STATUS || receiver.has_run() {
        return Err("the receiver was not killed before the guest ran".into());
    }
    if sender.status != "2" || !has_cause {
        return Err("the sender does not report its failure".into());
    }
    Ok(sender.check_guest_continues()?)
}

fn check_refused(sender: &VmmOutput, receiver: &VmmOutput) -> Result<()> {
    let outcome = evaluate(sender, receiver)?;
    if outcome.blockers() == ["PSCI_VERSION"] {
        Ok(())
    } else {
        Err(format!("expected to be refused for PSCI_VERSION, not {outcome:?}").into())
    }
}

/// Checks that the receiver runs nothing after the sender died, and reports that.
fn check_receiver_idle(sender: &VmmOutput, receiver: &VmmOutput) -> Result<()> {
    if sender.status != SIGKILL_STATUS {
        return Err("the sender was not killed".into());
    }
    let has_reported = receiver
        .text
        .lines()
        .any(|line| line == "the guest does not run here");
    if receiver.status != "2" || receiver.has_run() || !has_reported {
        return Err("the receiver does not report that it runs nothing".into());
    }
    Ok(())
}
