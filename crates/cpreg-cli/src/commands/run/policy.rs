//! The policy of `cpreg run`, from its options or a file.

use std::fs;
use std::path::{Path, PathBuf};

use cpreg::hardware::HardwareFacts;
use cpreg::register::Naming;
use cpreg_kvm::{Host as _, Kvm};
use cpreg_vcpu_filter::policy::{HostFacts, LogFormat, LogOutput, LogTarget};
use cpreg_vcpu_filter::{Baseline, Candidate, GuestList, Policy};

use crate::arguments::{Format, Run, TrueFalse};
use crate::destination::hosts::{self, HostOrFile};
use crate::failure::Failure;
use crate::input::Content;
use crate::platform::kernel_release;
use crate::printer::Printer;
use crate::{consents, tolerances};

/// Returns the JSON document of the policy.
pub(super) fn document(arguments: &Run, printer: &Printer) -> Result<String, Failure> {
    let (policy, receiving) = match &arguments.policy.policy {
        Some(path) => read(path)?,
        None => (from_options(arguments, printer)?, None),
    };
    let receiving = match arguments.receiving {
        Some(receiving) => Some(receiving == TrueFalse::True),
        None => receiving,
    };
    let log = match &arguments.start.log {
        Some(target) => Some(log_target(target, arguments.log_format)?),
        None => policy.log.clone(),
    };
    let host = if arguments.start.print_libvirt {
        // The domain may start on another host, where the library learns the kernel's release.
        HostFacts::default()
    } else {
        host_facts()
    };
    let policy = Policy {
        log,
        host,
        ..policy
    };
    let document = policy.to_json(receiving);
    document.map_err(|error| Failure::new("cannot write the policy").with_cause(error))
}

/// Reads a policy file.
fn read(path: &Path) -> Result<(Policy, Option<bool>), Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
    Policy::parse(&text).map_err(|error| {
        Failure::new(format!("cannot use {}", path.display()))
            .with_path(path)
            .with_cause(error)
            .with_hint("`cpreg run --print-policy` prints the policy of its other options")
    })
}

fn from_options(arguments: &Run, printer: &Printer) -> Result<Policy, Failure> {
    let consents = consents::read_for_any_vm(&arguments.consents, Naming::Kvm)?;
    if let Some(name) = consents.drop_extensions.first() {
        return Err(Failure::new(format!(
            "--drop {name}: an extension is no register, and QEMU loads it itself"
        ))
        .with_hint("`cpreg convert` and `cpreg relay` remove extensions"));
    }
    let tolerances = tolerances::read(&arguments.consents.tolerances, printer)?;
    let mut sources = Vec::new();
    for path in &arguments.policy.from {
        sources.push(Source::open(path, printer)?);
    }
    let source_hardware = match sources.as_slice() {
        [only] => only.hardware,
        _ => HardwareFacts::UNKNOWN,
    };
    let candidates = if sources.is_empty() {
        Candidate::from_index(hosts::history()?, &tolerances, &consents)
    } else {
        let lists = sources.into_iter().flat_map(|source| source.lists);
        Candidate::from_hosts(lists, &tolerances, &consents)
    };
    let entries = tolerances.entries().iter();
    let operator_entries = entries.filter(|entry| entry.is_operator_entry).cloned();
    Ok(Policy {
        is_receiving: false,
        candidates,
        drop: consents.drop_registers.clone(),
        consents,
        operator_entries: operator_entries.collect(),
        born_with: settings(arguments)?,
        log: None,
        host: HostFacts::default(),
        source_hardware,
    })
}

/// Returns the settings of `--baseline`, followed by those of `--born-with`.
fn settings(arguments: &Run) -> Result<Vec<cpreg::plan::SetConsent>, Failure> {
    let mut born_with = Vec::new();
    for path in &arguments.policy.baseline {
        let text = fs::read_to_string(path).map_err(|error| Failure::io("read", path, error))?;
        let baseline = Baseline::from_json(&text).and_then(|baseline| baseline.to_consents());
        born_with.extend(baseline.map_err(|error| {
            Failure::new(format!("cannot use {}", path.display()))
                .with_path(path)
                .with_cause(error)
        })?);
    }
    for text in &arguments.policy.born_with {
        born_with.push(consents::parse_set("--born-with", text, Naming::Kvm)?);
    }
    Ok(born_with)
}

/// Host from which a VM may come.
struct Source {
    lists: Vec<GuestList>,
    hardware: HardwareFacts,
}

impl Source {
    /// Opens a recorded host or a profile.
    fn open(path: &Path, printer: &Printer) -> Result<Self, Failure> {
        match hosts::open(path, false, printer)? {
            HostOrFile::Host(host) => Ok(Self {
                lists: GuestList::from_record(&host.record),
                hardware: host.record.source_hardware(),
            }),
            HostOrFile::Unrecorded(host) => Err(host
                .failure()
                .with_context(format!("--from {}", path.display()))),
            HostOrFile::File(input) => match &input.content {
                Content::Profile(profile) => Ok(Self {
                    lists: profile
                        .destination
                        .vcpus
                        .iter()
                        .map(GuestList::from_vcpu)
                        .collect(),
                    hardware: profile.destination.source_hardware(),
                }),
                _ => Err(Failure::new(format!(
                    "--from {}: neither a recorded host nor a profile",
                    path.display()
                ))
                .with_hint(
                    "`cpreg hosts` lists recorded hosts; `cpreg probe` records a host or a profile",
                )),
            },
        }
    }
}

/// Returns the properties of this host, as far as they are known without a VM.
fn host_facts() -> HostFacts {
    let kvm = Kvm::open().ok();
    let hardware = kvm.map(|kvm| HardwareFacts {
        is_emulated: kvm.identity().emulated,
        ..kvm.hardware()
    });
    HostFacts {
        kernel_release: kernel_release(),
        hardware: hardware.unwrap_or(HardwareFacts::UNKNOWN),
    }
}

/// Checks the target of the log: `fd:N`, or a file that can be written.
fn log_target(text: &Path, format: Format) -> Result<LogTarget, Failure> {
    let format = match format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let number = text.to_str().and_then(|text| text.strip_prefix("fd:"));
    let output = if let Some(number) = number {
        let descriptor = number.parse().ok().filter(|descriptor| *descriptor >= 0);
        let link = PathBuf::from(format!("/proc/self/fd/{number}"));
        // The descriptors of this program itself end with it.
        let descriptor = descriptor.filter(|_| link.symlink_metadata().is_ok());
        let descriptor = descriptor.ok_or_else(|| {
            Failure::new(format!("--log fd:{number}: this descriptor is not open"))
                .with_hint("open it in the shell that starts cpreg: 3>>FILE, and --log fd:3")
        })?;
        LogOutput::Descriptor(descriptor)
    } else {
        let path = std::path::absolute(text).map_err(|error| Failure::io("find", text, error))?;
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        file.map_err(|error| Failure::io("open", &path, error))?;
        LogOutput::File(path)
    };
    Ok(LogTarget { output, format })
}
