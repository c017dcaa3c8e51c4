//! `cpreg probe`: records the registers of a destination in a file.

use std::io;
use std::path::{Path, PathBuf};

use cpreg_hosts::HostRecord;
use cpreg_kvm::Host;
use cpreg_kvm::probe::ProbeEvent;
use cpreg_qemu::libvirt::{DomainXml, Virsh};

use crate::arguments::{
    self, ProbeKvm, ProbeLibvirt, ProbeOptionArgs, ProbeQemu, ProbeTarget, TrueFalse,
};
use crate::destination::kvm;
use crate::destination::qemu::{self, ProbeOptions};
use crate::failure::{Failure, Status};
use crate::input::domain_address;
use crate::interrupt;
use crate::printer::Printer;
use crate::small_file;

pub(crate) fn run(arguments: &arguments::Probe, printer: &mut Printer) -> Result<Status, Failure> {
    match &arguments.target {
        ProbeTarget::Qemu(arguments) => probe_qemu(arguments, printer),
        ProbeTarget::Libvirt(arguments) => probe_libvirt(arguments, printer),
        ProbeTarget::Kvm(arguments) => {
            let target = arguments.output.as_deref().map(target).transpose()?;
            let host = kvm::open()?;
            let record = record_host(&host, arguments, printer)?;
            write_or_print(record.to_json(), target.as_deref(), printer)
        }
    }
}

/// Records the host. `--cpu` and `--emulated` replace what the probe recorded.
fn record_host(
    host: &impl Host,
    arguments: &ProbeKvm,
    printer: &Printer,
) -> Result<HostRecord, Failure> {
    let on_event = |event: ProbeEvent| {
        if let Some(warning) = event.warning() {
            printer.note(warning);
        }
    };
    let mut record = cpreg_kvm::probe(host, on_event)
        .map_err(|error| Failure::new("cannot probe this machine's KVM").with_cause(error))?;
    if let Some(cpu) = &arguments.cpu {
        record.identity.cpu.clone_from(cpu);
    }
    if let Some(emulated) = arguments.emulated {
        record.identity.emulated = emulated == TrueFalse::True;
    }
    if record.identity.cpus.len() > 1 {
        printer.note(format_args!(
            "this host has {} kinds of CPU (`cpreg show` lists them), and a guest sees the \
             registers of the CPU on which its vCPU runs: run each VM on CPUs of one kind",
            record.identity.cpus.len()
        ));
    }
    Ok(record)
}

fn probe_qemu(arguments: &ProbeQemu, printer: &mut Printer) -> Result<Status, Failure> {
    let target = arguments
        .options
        .output
        .as_deref()
        .map(target)
        .transpose()?;
    let options = probe_options(&arguments.options)?;
    let profile = qemu::record(&arguments.command, &options, printer)?;
    write_or_print(profile.to_json(), target.as_deref(), printer)
}

fn probe_libvirt(arguments: &ProbeLibvirt, printer: &mut Printer) -> Result<Status, Failure> {
    let target = arguments
        .options
        .output
        .as_deref()
        .map(target)
        .transpose()?;
    let options = probe_options(&arguments.options)?;
    let domain = arguments.domain.as_path();
    let address = domain_address(domain)?;
    let uri = address.as_ref().and_then(|address| address.uri.clone());
    let virsh = Virsh::new(uri.or_else(|| arguments.connect.clone()));
    let xml = match (&address, domain.to_str()) {
        (Some(address), _) => DomainXml::Domain(&address.domain),
        (None, Some(name)) if !domain.is_file() => DomainXml::Domain(name),
        _ => DomainXml::File(domain),
    };
    let profile = qemu::record_domain(&virsh, xml, &options, printer)?;
    write_or_print(profile.to_json(), target.as_deref(), printer)
}

fn probe_options(arguments: &ProbeOptionArgs) -> Result<ProbeOptions<'_>, Failure> {
    Ok(ProbeOptions {
        name: arguments.name.clone(),
        allowed_options: &arguments.allow_option,
        has_devices: !arguments.without_devices,
        wait: interrupt::wait_options(arguments.timeout)?,
    })
}

/// Writes the record to `target`, or to standard output if `target` is `None`.
fn write_or_print(
    json: Result<String, impl std::error::Error + Send + Sync + 'static>,
    target: Option<&Path>,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let json = json.map_err(|error| Failure::new("cannot write the record").with_cause(error))?;
    match target {
        Some(path) => small_file::replace(path, json.as_bytes(), None)
            .map_err(|error| Failure::io("write", path, error))?,
        None => printer.json(&json),
    }
    Ok(Status::Success)
}

/// Returns the path to write, with links resolved. Refuses a path of a device or folder.
fn target(path: &Path) -> Result<PathBuf, Failure> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return Err(Failure::new(format!("cannot write {}", path.display()))
            .with_cause(io::Error::other("it is not a regular file"))
            .with_hint("name a file; without -o the profile goes to standard output"));
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::HostIndex;
    use cpreg_kvm::RecordedHost;

    use super::*;

    #[test]
    fn cpu_name_and_emulation_are_taken_from_the_arguments() {
        let history = HostIndex::built_in().expect("the checked-in history is valid");
        let named = history.resolve("linux-6.12.107/neoverse-n1");
        let before = named.expect("a host").host.record();
        let host = RecordedHost::new(before.clone());
        let mut arguments = ProbeKvm {
            output: None,
            cpu: None,
            emulated: None,
        };
        let printer = Printer::default();
        let record = |arguments: &ProbeKvm| {
            let record = record_host(&host, arguments, &printer);
            record.unwrap_or_else(|_| panic!("a recorded host can be probed"))
        };
        let plain = record(&arguments);
        assert_eq!(plain.identity, before.identity);
        assert_eq!(
            plain.guests.keys().collect::<Vec<_>>(),
            before.guests.keys().collect::<Vec<_>>()
        );
        arguments.cpu = Some("custom".to_owned());
        arguments.emulated = Some(TrueFalse::False);
        let identity = record(&arguments).identity;
        assert_eq!((&*identity.cpu, identity.emulated), ("custom", false));
    }
}
