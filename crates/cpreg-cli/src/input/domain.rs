//! Running domains of libvirt.

use std::path::Path;
use std::time::Duration;

use cpreg_qemu::device_state::{self, DeviceState};
use cpreg_qemu::libvirt::{DomainAddress, DomainMonitor, LibvirtAddress, Virsh};
use cpreg_qemu::qmp::WaitOptions;
use cpreg_snapshot::Description;
use cpreg_snapshot::libvirt::Domain;

use crate::failure::Failure;
use crate::printer::Printer;

/// Timeout of one reply from QEMU or libvirt. QEMU needs milliseconds to save device state, plus
/// the time to flush the disks.
pub(super) const REPLY_TIMEOUT: WaitOptions<'static> =
    WaitOptions::with_timeout(Duration::from_secs(10));

/// Returns the domain that a path names; `None` if a file has that path, or it names no domain.
///
/// # Errors
/// Returns an error for `libvirt:` without a domain.
pub(crate) fn domain_address(path: &Path) -> Result<Option<DomainAddress>, Failure> {
    let text = path.to_str().unwrap_or_default();
    if !text.starts_with(DomainAddress::PREFIX) || path.symlink_metadata().is_ok() {
        return Ok(None);
    }
    DomainAddress::parse(text).map(Some).ok_or_else(|| {
        Failure::new(format!("{text}: the name of the domain is missing")).with_hint(
            "write libvirt:DOMAIN, or libvirt:URI#DOMAIN; `virsh list --all` lists the domains; \
             `cpreg fleet --vms` also takes libvirt: and libvirt:URI# for all running domains",
        )
    })
}

/// Returns the libvirt, without a domain, that a path names; `None` if a file has that path.
pub(crate) fn libvirt_address(path: &Path) -> Option<LibvirtAddress> {
    let libvirt = LibvirtAddress::parse(path.to_str()?)?;
    path.symlink_metadata().is_err().then_some(libvirt)
}

/// Returns the addresses of all running domains of a libvirt.
pub(crate) fn list_running_domains(
    path: &Path,
    libvirt: &LibvirtAddress,
) -> Result<Vec<DomainAddress>, Failure> {
    if let Some(host) = libvirt.remote_host() {
        return Err(remote_failure("the running domains", host, "").with_path(path));
    }
    Virsh::list_running_domains(libvirt, &REPLY_TIMEOUT).map_err(|error| {
        Failure::new(format!("cannot list the domains of {}", path.display()))
            .with_path(path)
            .with_hinted_cause(error)
    })
}

/// Returns the name of this host as its libvirt reports it.
pub(crate) fn query_libvirt_host_name(uri: Option<String>) -> Result<String, Failure> {
    let name = Virsh::new(uri).query_host_name(&REPLY_TIMEOUT);
    name.map_err(|error| {
        Failure::new("cannot query the host name of libvirt").with_hinted_cause(error)
    })
}

/// Returns the error for domains of a libvirt on another host. `domain` is the domain, if the user
/// named one.
fn remote_failure(subject: &str, host: &str, domain: &str) -> Failure {
    Failure::new(format!(
        "cannot query {subject}: libvirt at {host} cannot receive a file descriptor"
    ))
    .with_hint(format!("run cpreg on that host, with libvirt:{domain}"))
}

/// Saves the device state of a running domain, without its RAM. Returns it with the description of
/// the domain.
pub(super) fn query(
    path: &Path,
    address: &DomainAddress,
    options: &WaitOptions<'_>,
    printer: &Printer,
) -> Result<(DeviceState, Option<Box<Description>>), Failure> {
    let failure = |error| {
        Failure::new(format!("cannot query the domain {}", address.domain))
            .with_path(path)
            .with_hinted_cause(error)
    };
    if let Some(host) = address.remote_host() {
        let subject = format!("the domain {}", address.domain);
        return Err(remote_failure(&subject, host, &address.domain).with_path(path));
    }
    let virsh = Virsh::new(address.uri.clone());
    let xml = virsh
        .domain_xml(&address.domain, options)
        .map_err(failure)?;
    let mut monitor = DomainMonitor::open(address, options).map_err(failure)?;
    let state = device_state::query(&mut monitor, options).map_err(failure)?;
    printer.note(format_args!(
        "libvirt marks the domain {} as tainted (custom-monitor), because cpreg queried its \
             QEMU",
        address.domain
    ));
    // The description is for people only; the stream decides.
    let domain = Domain::parse(&xml).ok();
    let domain = domain.map(|domain| domain.description("libvirt".to_owned()));
    Ok((state, domain.map(Box::new)))
}
