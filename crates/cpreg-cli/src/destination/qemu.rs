//! An installed QEMU as a destination: the command line of a user or of libvirt, isolated and
//! probed.

use std::ffi::OsString;
use std::path::Path;

use cpreg::destination::Accelerator;
use cpreg_hosts::Profile;
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_qemu::isolate::{IsolatedCommand, LocalHost, isolate};
use cpreg_qemu::libvirt::{DomainAddress, DomainXml, Virsh};
use cpreg_qemu::probe::{ProbeResult, probe};
use cpreg_qemu::qmp::WaitOptions;
use cpreg_report::rehearse::redact_command_line;
use cpreg_stream::Stream;

use crate::arguments::DEFAULT_TIMEOUT_SECONDS;
use crate::failure::Failure;
use crate::interrupt;
use crate::platform::kernel_release;
use crate::printer::Printer;

/// Options of a probe.
pub(crate) struct ProbeOptions<'a> {
    /// Name of the destination in reports; a description of the QEMU if `None`.
    pub(crate) name: Option<String>,
    /// Options that stay unchanged, whatever they touch.
    pub(crate) allowed_options: &'a [String],
    /// `true` if the RAM blocks and devices belong to the destination.
    pub(crate) has_devices: bool,
    pub(crate) wait: WaitOptions<'a>,
}

/// Starts an isolated QEMU with this command line, and records its registers.
pub(crate) fn record(
    command: &[OsString],
    options: &ProbeOptions<'_>,
    printer: &Printer,
) -> Result<Profile, Failure> {
    let isolated = isolate_command(command, options.allowed_options)?;
    if let Some(reason) = &isolated.namespace_error {
        printer.note(format_args!(
            "cannot create a network namespace, so the probed QEMU has no tap: {reason}"
        ));
    }
    let profile = record_isolated(&isolated, options)?;
    for part in &isolated.unverified {
        printer.note(format_args!(
            "not recorded: {}: {}",
            part.description, part.reason
        ));
    }
    Ok(profile)
}

/// Isolates a command line, so that its QEMU touches nothing outside itself.
pub(crate) fn isolate_command(
    command: &[OsString],
    allowed_options: &[String],
) -> Result<IsolatedCommand, Failure> {
    isolate(command, allowed_options, &LocalHost).map_err(|error| {
        Failure::new("cannot probe with this command line").with_hinted_cause(error)
    })
}

/// Starts the QEMU of an isolated command line, and records its registers.
pub(crate) fn record_isolated(
    isolated: &IsolatedCommand,
    options: &ProbeOptions<'_>,
) -> Result<Profile, Failure> {
    let result = probe(&isolated.command, &options.wait)
        .map_err(|error| Failure::new("cannot probe this QEMU").with_hinted_cause(error))?;
    let mut profile = to_profile(options.name.clone(), &result)?;
    if let Some(shape) = &mut profile.destination.shape
        && (!options.has_devices || !isolated.unverified.is_empty())
    {
        shape.ram.clear();
        shape.devices.clear();
    }
    Ok(profile)
}

/// Records the QEMU that libvirt would start for a domain.
pub(crate) fn record_domain(
    virsh: &Virsh,
    xml: DomainXml<'_>,
    options: &ProbeOptions<'_>,
    printer: &Printer,
) -> Result<Profile, Failure> {
    let command = virsh.native_command(xml, &options.wait).map_err(|error| {
        Failure::new("cannot determine the domain's QEMU command").with_hinted_cause(error)
    })?;
    record(&command, options, printer)
}

/// Records the QEMU of the domain that DESTINATION names.
pub(super) fn record_destination(
    path: &Path,
    address: &DomainAddress,
    printer: &Printer,
) -> Result<Profile, Failure> {
    if let Some(host) = address.remote_host() {
        return Err(Failure::new(format!(
            "cannot probe the QEMU of {}: it is installed on {host}",
            path.display()
        ))
        .with_path(path)
        .with_hint(format!(
            "run `cpreg probe libvirt {} -o FILE` on that host, and name the FILE here",
            address.domain
        )));
    }
    let options = ProbeOptions {
        name: Some(address.to_string()),
        allowed_options: &[],
        has_devices: true,
        wait: interrupt::wait_options(DEFAULT_TIMEOUT_SECONDS)?,
    };
    let virsh = Virsh::new(address.uri.clone());
    record_domain(
        &virsh,
        DomainXml::Domain(&address.domain),
        &options,
        printer,
    )
}

fn to_profile(name: Option<String>, result: &ProbeResult) -> Result<Profile, Failure> {
    let stream = Stream::open(&result.stream).map_err(|error| {
        Failure::new("cannot read the stream that QEMU wrote").with_inline_cause(&error)
    })?;
    let version = result.version.number();
    let name = name.unwrap_or_else(|| {
        let cpu = result.cpus.first().map_or("", String::as_str);
        format!(
            "QEMU {version}, {}, {}, {cpu}",
            result.accelerator, result.machine
        )
    });
    let mut destination = super::from_stream(name, &stream)?;
    destination.accelerator = Accelerator::from_name(&result.accelerator);
    let origin = ProfileOrigin {
        program: "qemu".to_owned(),
        version,
        package: result.version.package.clone(),
        accelerator: result.accelerator.clone(),
        machine: result.machine.clone(),
        cpu: result.cpus.first().cloned().unwrap_or_default(),
        command: redact_command_line(&result.command),
        kernel: match &*result.accelerator {
            // QEMU ran on this machine's kernel.
            "kvm" => kernel_release().unwrap_or_default(),
            _ => String::new(),
        },
    };
    Ok(Profile {
        origin,
        destination,
    })
}
