//! The text of `hosts`.

use cpreg_hosts::host_index;

use super::model::{HostSummary, HostsReport, KernelIdentity, Recording};
use crate::printer::{Printer, style, styled};
use crate::text::pluralize;

/// Prints the hosts under their kernels. `in_detail`: also how many registers each lists.
pub fn print(printer: &mut Printer, report: &HostsReport, in_detail: bool) {
    let mut kernel = None;
    for host in &report.hosts {
        let own = &host.kernel;
        if kernel != Some(own) {
            if kernel.is_some() {
                printer.line("");
            }
            kernel = Some(own);
            printer.line(format_args!(
                "{}  {}{}",
                styled(style::NAME, format_args!("linux-{}", own.version)),
                own.release,
                package(own)
            ));
        }
        let recorded = host.recordings.iter().map(|recording| {
            if in_detail {
                format!("{} ({})", features(recording), recording.registers)
            } else {
                features(recording)
            }
        });
        let recorded: Vec<_> = recorded.collect();
        printer.line(format_args!(
            "  {}  {}",
            styled(style::NAME, format_args!("{:<16}", cpu(host))),
            recorded.join("  ")
        ));
    }
    printer.line("");
    let registers = if in_detail {
        " and, in brackets, how many registers KVM lists for it"
    } else {
        ""
    };
    printer.line(format_args!(
        "{}; beside each the vCPU features of the guests that were recorded{registers}",
        pluralize(report.hosts.len(), "host")
    ));
    printer.line(format_args!(
        "{}: {}: right about the kernels, no proof of a real machine's values",
        styled(style::DIM, "scope"),
        host_index::SOURCE
    ));
}

/// The distribution's package, if the kernel says it.
fn package(kernel: &KernelIdentity) -> String {
    let package = kernel.package.as_ref();
    package.map_or_else(String::new, |package| format!(" (package {package})"))
}

/// The CPU model, and the host's mode: `max+nested`.
fn cpu(host: &HostSummary) -> String {
    match &host.mode {
        Some(mode) => format!("{}+{mode}", host.cpu),
        None => host.cpu.clone(),
    }
}

/// The features as they are written behind a host's name: `pmu,sve`.
fn features(recording: &Recording) -> String {
    if recording.features.is_empty() {
        "none".to_owned()
    } else {
        recording.features.join(",")
    }
}
