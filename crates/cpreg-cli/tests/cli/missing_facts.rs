//! Every unknown verdict names the missing fact and a command that finds it: all recorded streams
//! with a third of the recorded hosts, and with each other.

use cpreg::destination::{Accelerator, Destination};
use cpreg::plan::{Check, Consents, Verdict};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::HostIndex;
use cpreg_report::check::model::CheckReport;
use cpreg_report::check::{CheckFindings, Loading, SourceKind, SourceSummary, text};
use cpreg_report::command::TypedCommand;
use cpreg_report::printer::{MAX_WIDTH, Printer, Verbosity};
use cpreg_report::value::ValueFormat;

use crate::fatal::{recorded_destinations, recorded_vms};
use crate::fixtures::{file_names, unpack_file};
use crate::run::streams;

/// Part of the hosts, with and without loader, that the test checks: one in three.
const SAMPLE_STEP: usize = 3;

/// Checks a VM and returns the verdict. An unknown verdict must name a fact and a command.
fn check(name: &str, is_new_vm: bool, vm: &Vm, destination: &Destination) -> Verdict {
    let tolerances = Tolerances::default();
    let findings = CheckFindings {
        source: SourceSummary {
            container: None,
            loading: Loading::Incoming,
            name: name.to_owned(),
            kind: if is_new_vm {
                SourceKind::NewVm
            } else {
                SourceKind::Stream
            },
            machine: None,
            vcpus: Some(vm.vcpus.len()),
            accelerator: Some(Accelerator::Kvm),
            run_state: None,
            open_method: String::new(),
        },
        vm: vm.clone(),
        destination,
        provenance: "recorded",
        tolerances: &tolerances,
        shape: Vec::new(),
        check: Check::new(vm, destination, &tolerances, &Consents::default()),
        sets: Vec::new(),
        value_format: ValueFormat::new(Some(Accelerator::Kvm), false),
        dry_run: None,
        alternatives: None,
        loader_verdicts: Check::verdicts_by_loader(
            vm,
            destination,
            &tolerances,
            &Consents::default(),
        ),
        command: TypedCommand::default(),
        written: None,
    };
    let verdict = findings.verdict();
    let report = CheckReport::from(&findings);
    let label = format!("{name} to {}", destination.name);
    if verdict != Verdict::Unknown {
        assert!(report.missing_facts.is_empty(), "{label}");
        return verdict;
    }
    assert!(!report.missing_facts.is_empty(), "{label}");
    let is_command = |step: &String| step.contains("`cpreg ");
    assert!(report.next_steps.iter().any(is_command), "{label}");
    let command = report.next_command.as_deref();
    assert!(
        command.is_some_and(|it| it.starts_with("cpreg ")),
        "{label}"
    );
    let mut printer = Printer::default();
    text::print(&mut printer, &findings, Verbosity::Short);
    let printed = anstream::adapter::strip_str(&printer.into_text()).to_string();
    // Only commands are longer than a line of the report.
    let mut lines = printed.lines();
    let is_long = |line: &&str| line.chars().count() > MAX_WIDTH;
    let long = lines.find(|line| is_long(line) && !line.starts_with("    cpreg "));
    assert_eq!(long, None, "{label}");
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let steps = findings.next_steps();
    let commands = steps.iter().flat_map(|step| &step.commands);
    let mut named = report.missing_facts.iter().chain(commands);
    assert!(named.all(|it| words.contains(it)), "{label}: {printed}");
    verdict
}

/// Returns each of these hosts with and without a known loader.
fn with_and_without_loader(hosts: Vec<Destination>) -> impl Iterator<Item = Destination> {
    hosts.into_iter().flat_map(|host| {
        let without = Destination {
            loader: None,
            ..host.clone()
        };
        [host, without]
    })
}

#[test]
fn an_unknown_verdict_names_a_fact_and_a_command() {
    let index = HostIndex::built_in().expect("the checked-in index");
    let vms = recorded_vms();
    let folder = streams().join("kvm");
    let names = file_names(&folder).into_iter();
    let names = names.filter(|name| name.ends_with(".stream.xz"));
    let written: Vec<_> = names
        .map(|name| {
            let stream = cpreg_stream::Stream::open(&unpack_file(&folder.join(&name)));
            let destination = stream.expect("a stream").destination(name);
            destination.expect("a destination")
        })
        .collect();
    assert_eq!(written.len(), vms.len());
    let mut unknown = [0; 2];
    for (name, vm) in &vms {
        let hosts = recorded_destinations(&index, vm);
        let hosts = with_and_without_loader(hosts).step_by(SAMPLE_STEP);
        for (number, host) in hosts.enumerate() {
            let verdict = check(name, number % 2 == 0, vm, &host);
            unknown[0] += usize::from(verdict == Verdict::Unknown);
        }
        for host in &written {
            let verdict = check(name, false, vm, host);
            unknown[1] += usize::from(verdict == Verdict::Unknown);
        }
    }
    assert!(unknown[0] > 0 && unknown[1] > 0, "{unknown:?}");
}
