//! Running domains of libvirt.

use std::path::Path;

use cpreg_qemu::device_state::{self, DeviceState};
use cpreg_qemu::libvirt::{DomainAddress, DomainMonitor, Virsh};
use cpreg_qemu::qmp::WaitOptions;
use cpreg_snapshot::Description;
use cpreg_snapshot::libvirt::Domain;

use crate::failure::Failure;
use crate::printer::Printer;

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
            "write libvirt:DOMAIN, or libvirt:URI#DOMAIN; `virsh list --all` lists the domains",
        )
    })
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
        return Err(Failure::new(format!(
            "cannot query the domain {}: libvirt at {host} cannot receive a file descriptor",
            address.domain
        ))
        .with_path(path)
        .with_hint(format!(
            "run cpreg on that host, with libvirt:{}",
            address.domain
        )));
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
