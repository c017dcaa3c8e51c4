//! `cpreg baseline HOST…`: the settings with which a new VM moves among hosts, in both directions.

use std::path::{Path, PathBuf};

use cpreg::destination::loader::Program;
use cpreg::destination::{Accelerator, Features, Version};
use cpreg::register::Naming;
use cpreg_fleet::baseline::advice::advise;
use cpreg_fleet::baseline::{Baseline, Wishes};
use cpreg_fleet::{Host, PlanInputs};
use cpreg_report::baseline::model::{BaselineReport, QemuOptions};
use cpreg_report::baseline::{BaselineFindings, text};
use cpreg_report::names::Verdict;

use crate::arguments::baseline::{BaselineArgs, BaselineTarget};
use crate::arguments::{self, ConsentArgs, Format, LoaderArgs};
use crate::consents;
use crate::destination::hosts::{self, HostOrFile};
use crate::destination::parse_loader;
use crate::failure::{Failure, Status};
use crate::fleet_hosts;
use crate::input::Content;
use crate::names::parse_field;
use crate::printer::{Printer, print_json};
use crate::tolerances;

pub(crate) fn run(
    arguments: &arguments::Baseline,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let qemu = qemu_version(&arguments.search)?;
    let wishes = wishes(&arguments.search)?;
    let tolerances = tolerances::read(&arguments.tolerances, printer)?;
    let consents = ConsentArgs {
        accept: arguments.search.accept.clone(),
        ..ConsentArgs::default()
    };
    let consents = consents::read_for_any_vm(&consents, Naming::Kvm)?;
    let inputs = PlanInputs {
        tolerances: &tolerances,
        consents: &consents,
    };
    let hosts = open_hosts(&arguments.search.hosts, printer)?;
    let hosts: Vec<_> = hosts.iter().collect();
    let not_recorded = |error| not_recorded(&error);
    let find = |wishes: &Wishes| Baseline::find(&hosts, wishes, inputs).map_err(not_recorded);
    let baseline = find(&wishes)?;
    let mut firecracker = find(&firecracker_wishes(&wishes, &baseline))?;
    firecracker.lost_features = baseline.unmet_wishes().cloned().collect();
    let advice = match arguments.search.target {
        None => advise(&baseline, &hosts, &wishes, inputs).map_err(not_recorded)?,
        Some(_) => Vec::new(),
    };
    let names: Vec<_> = hosts.iter().map(|host| host.name().to_owned()).collect();
    let emulated = hosts.iter().filter(|host| is_emulated(host));
    let report = BaselineReport::from(&BaselineFindings {
        hosts: &names,
        emulated: &emulated
            .map(|host| host.name().to_owned())
            .collect::<Vec<_>>(),
        baseline: &baseline,
        firecracker: &firecracker,
        advice: &advice,
    });
    match (arguments.search.target, arguments.format) {
        (Some(target), _) => print_for(target, qemu, &report, printer),
        (None, Format::Text) => {
            text::print(printer, &report);
            Ok(status(&report.verdict))
        }
        (None, Format::Json) => {
            print_json(printer, &report)?;
            Ok(status(&report.verdict))
        }
    }
}

/// Returns the wishes for a guest of Firecracker, which has no feature that its template does not
/// name.
fn firecracker_wishes(wishes: &Wishes, baseline: &Baseline) -> Wishes {
    let lacking = wishes.features.difference(baseline.features);
    Wishes {
        exact_features: Some(wishes.features.difference(lacking)),
        ..wishes.clone()
    }
}

fn status(verdict: &Verdict) -> Status {
    Status::of_many(*verdict == Verdict::REFUSED, *verdict == Verdict::UNKNOWN)
}

/// Prints the settings for one program. Notes say what they do not achieve.
fn print_for(
    target: BaselineTarget,
    qemu: Option<Version>,
    report: &BaselineReport,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let dialects = &report.dialects;
    let mut verdict = &report.verdict;
    let mut summary = &report.summary;
    let missing: &[String] = match target {
        BaselineTarget::Qemu => {
            let options = qemu_options(&dialects.qemu, qemu);
            printer.line(format_args!("-cpu {}", options.cpu));
            &options.missing
        }
        BaselineTarget::Libvirt => {
            // The printer escapes the end of a line.
            dialects
                .libvirt
                .xml
                .lines()
                .for_each(|line| printer.line(line));
            &dialects.libvirt.missing
        }
        BaselineTarget::Firecracker => {
            let firecracker = &dialects.firecracker;
            print_json(printer, &firecracker.template)?;
            (verdict, summary) = (&firecracker.verdict, &firecracker.summary);
            &firecracker.missing
        }
        BaselineTarget::Run => {
            print_json(printer, &dialects.run.baseline)?;
            if !dialects.run.options.is_empty() {
                printer.note(format_args!(
                    "only some hosts list these registers; a VM without them loads in more \
                     programs without cpreg: cpreg run --baseline FILE {}",
                    dialects.run.options.join(" ")
                ));
            }
            &[]
        }
    };
    if status(verdict) != Status::Success {
        printer.note(format_args!("{verdict}: {summary}"));
    }
    if missing.is_empty() {
        return Ok(status(verdict));
    }
    printer.note(format_args!(
        "no option for {}; `cpreg run --baseline` sets them (cpreg baseline HOSTS… --for run)",
        missing.join(", ")
    ));
    Ok(Status::Refused)
}

/// Returns the options of a version of QEMU, by default those of the newest.
fn qemu_options(options: &[QemuOptions], version: Option<Version>) -> &QemuOptions {
    let is_old = version.is_some_and(|version| version < Version::new(11, 0));
    &options[usize::from(!is_old)]
}

/// Returns the version of QEMU in the arguments.
fn qemu_version(arguments: &BaselineArgs) -> Result<Option<Version>, Failure> {
    let loader = parse_loader(&LoaderArgs {
        loader: arguments.loader.clone(),
    })?;
    let Some(loader) = loader else {
        return Ok(None);
    };
    if loader.program != Program::QEMU || loader.version < Version::new(7, 0) {
        return Err(Failure::new(format!(
            "--loader {loader}: the settings have a form for QEMU 7.0 and later"
        ))
        .with_hint("`--for firecracker` and `--for run` have no versions"));
    }
    Ok(Some(loader.version))
}

/// Returns what the user keeps.
fn wishes(arguments: &BaselineArgs) -> Result<Wishes, Failure> {
    const FEATURES: [Features; 5] = [
        Features::PMU,
        Features::SVE,
        Features::POINTER_AUTHENTICATION,
        Features::MTE,
        Features::EL2,
    ];
    let mut wishes = Wishes::default();
    for text in &arguments.keep {
        let feature = Features::from_name(text).filter(|feature| FEATURES.contains(feature));
        match feature {
            Some(feature) => wishes.features = wishes.features | feature,
            None if text.contains('.') => wishes.fields.push(parse_field(text, Naming::Kvm)?),
            None => {
                let names = FEATURES.map(|feature| feature.to_string());
                return Err(
                    Failure::new(format!("`{text}` is not a feature to keep")).with_hint(format!(
                        "features are {}; or name a field, REG.FIELD",
                        names.join(", ")
                    )),
                );
            }
        }
    }
    Ok(wishes)
}

/// Opens the hosts. A host that is named twice counts once.
fn open_hosts(paths: &[PathBuf], printer: &Printer) -> Result<Vec<Host>, Failure> {
    let mut opened: Vec<Host> = Vec::new();
    for path in paths {
        for host in find_hosts(path, printer)? {
            if opened.iter().any(|other| other.name() == host.name()) {
                printer.note(format_args!(
                    "{} is named twice, and counts once",
                    host.name()
                ));
            } else {
                opened.push(host);
            }
        }
    }
    if opened.len() < 2 {
        return Err(Failure::new("a baseline needs at least two hosts")
            .with_hint("`cpreg hosts` lists the recorded hosts; `cpreg probe kvm` records one"));
    }
    Ok(opened)
}

/// Returns the hosts that an argument names, as for `cpreg matrix`.
///
/// A host that cannot be used is an error, because a baseline without it would not hold there.
fn find_hosts(path: &Path, printer: &Printer) -> Result<Vec<Host>, Failure> {
    let Some(named) = fleet_hosts::find_by_name(path)? else {
        let files = fleet_hosts::files(path)?;
        return files.iter().map(|file| open_host(file, printer)).collect();
    };
    if let Some(features) = named.iter().find_map(Host::features) {
        return Err(features_failure(path, features));
    }
    if named.iter().any(|host| host.record().is_none()) {
        // Its kernel was not recorded, and the error names those next to it.
        return Ok(vec![open_host(path, printer)?]);
    }
    Ok(named)
}

fn features_failure(path: &Path, features: Features) -> Failure {
    Failure::new(format!(
        "{} names the features {features}, and the baseline chooses them",
        path.display()
    ))
    .with_hint("name the host without features, and keep features with --keep")
}

fn open_host(path: &Path, printer: &Printer) -> Result<Host, Failure> {
    let input = match hosts::open(path, false, printer)? {
        HostOrFile::Host(host) => {
            return match host.features {
                Some(features) => Err(features_failure(path, features)),
                None => Ok(Host::recorded(host.display_name, host.record)),
            };
        }
        HostOrFile::Unrecorded(host) => return Err(host.failure()),
        HostOrFile::File(input) => input,
    };
    let name = path.display().to_string();
    match input.content {
        Content::Profile(profile) if profile.destination.accelerator == Some(Accelerator::Kvm) => {
            Ok(Host::profile(name, profile.destination))
        }
        Content::Profile(_) => Err(Failure::new(format!(
            "{name} is not the profile of a KVM host"
        ))
        .with_hint("only KVM lets a program set the registers of a new VM")),
        _ => Err(
            Failure::new(format!("{name} holds a VM, and a host is needed"))
                .with_hint("name a recorded host, its file, or a profile (`cpreg probe`)"),
        ),
    }
}

fn is_emulated(host: &Host) -> bool {
    let destination = host.destination(Features::NONE, Program::QEMU);
    destination.is_ok_and(|destination| destination.is_emulated())
}

fn not_recorded(error: &cpreg_hosts::Error) -> Failure {
    Failure::new(error.to_string())
        .with_hint("`cpreg probe kvm` on the host records it with all its features")
}
