//! An installed QEMU as a destination: the command line of a user or of libvirt, isolated and
//! probed.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use cpreg::destination::Accelerator;
use cpreg::hardware::HardwareFacts;
use cpreg_hosts::Profile;
use cpreg_hosts::fact_program::{FactProgram, ProgramState};
use cpreg_hosts::profile::ProfileOrigin;
use cpreg_qemu::guest_program::{self, GuestProgram};
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

/// Time that a guest may take to read the properties of its host.
const FACT_PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);

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
    let (mut profile, result) = probe_isolated(&isolated, options)?;
    match read_facts(&isolated, &result, &options.wait) {
        Ok(facts) => profile.destination.hardware = profile.destination.hardware.or(facts),
        Err(reason) => printer.note(format_args!(
            "not recorded: properties of the hardware that only a guest can read: {reason}"
        )),
    }
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
    probe_isolated(isolated, options).map(|(profile, _)| profile)
}

/// Starts the QEMU of an isolated command line. Returns its profile, and what the probe found.
fn probe_isolated(
    isolated: &IsolatedCommand,
    options: &ProbeOptions<'_>,
) -> Result<(Profile, ProbeResult), Failure> {
    let result = probe(&isolated.command, &options.wait)
        .map_err(|error| Failure::new("cannot probe this QEMU").with_hinted_cause(error))?;
    let mut profile = to_profile(options.name.clone(), &result)?;
    if let Some(shape) = &mut profile.destination.shape
        && (!options.has_devices || !isolated.unverified.is_empty())
    {
        shape.ram.clear();
        shape.devices.clear();
    }
    Ok((profile, result))
}

/// Returns the properties of the host that the QEMU's guest reads.
///
/// # Errors
/// Returns the reason if the guest does not read them.
fn read_facts(
    isolated: &IsolatedCommand,
    qemu: &ProbeResult,
    wait: &WaitOptions<'_>,
) -> Result<HardwareFacts, String> {
    let (machine, ram_len) = (&qemu.machine, qemu.ram_len);
    if !guest_program::is_virt(machine) {
        return Err(format!("cpreg has no program for the machine {machine}"));
    }
    if !qemu.is_aarch64 {
        return Err("the guest does not start in AArch64 state".to_owned());
    }
    let program_len = FactProgram::MEMORY_LEN as u64;
    if ram_len < 2 * program_len {
        return Err(format!("the guest has only {ram_len} bytes of RAM"));
    }
    let program = FactProgram::new(Some(guest_program::VIRT_GIC_DISTRIBUTOR));
    let program = GuestProgram {
        code: program.code(),
        address: guest_program::free_virt_address(ram_len, program_len),
        results_offset: FactProgram::RESULTS_OFFSET as u64,
        results_len: FactProgram::RESULTS_LEN,
    };
    let wait = WaitOptions {
        timeout: wait.timeout.min(FACT_PROGRAM_TIMEOUT),
        ..*wait
    };
    let is_finished = |bytes: &[u8]| ProgramState::from_results(bytes) != ProgramState::Running;
    let results = guest_program::run(&isolated.command, program, is_finished, &wait)
        .map_err(|error| error.to_string())?;
    match ProgramState::from_results(&results) {
        ProgramState::Done(readings) => Ok(readings.facts),
        _ => Err("the guest starts at another exception level than EL1".to_owned()),
    }
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
