//! Text of `hosts`.

use cpreg_hosts::host_index;

use super::model::{HostSummary, HostsReport, KernelIdentity, Recording};
use crate::printer::{Printer, style, styled};
use crate::text::pluralize;
use crate::unrecorded::{KernelRelation, UnrecordedKernel};

/// Prints the hosts under their kernels. `in_detail` adds the number of registers of each guest.
pub fn print(printer: &mut Printer, report: &HostsReport, in_detail: bool) {
    if let Some(unrecorded) = &report.unrecorded_kernel {
        print_unrecorded(printer, unrecorded);
        if report.hosts.is_empty() {
            return;
        }
        printer.line("");
    }
    let mut kernel = None;
    for host in &report.hosts {
        let host_kernel = &host.kernel;
        if kernel != Some(host_kernel) {
            if kernel.is_some() {
                printer.line("");
            }
            kernel = Some(host_kernel);
            printer.line(format_args!(
                "{}  {}{}",
                styled(style::NAME, format_args!("linux-{}", host_kernel.version)),
                host_kernel.release,
                package_suffix(host_kernel)
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
            styled(style::NAME, format_args!("{:<16}", cpu_and_mode(host))),
            recorded.join("  ")
        ));
    }
    printer.line("");
    let registers = if in_detail {
        " and, in parentheses, the number of registers that KVM lists"
    } else {
        ""
    };
    printer.line(format_args!(
        "{}, each with the vCPU features of its recorded guests{registers}",
        pluralize(report.hosts.len(), "host")
    ));
    printer.line(format_args!(
        "{}: {}: valid for the kernels, not for the values of a real machine",
        styled(style::DIM, "scope"),
        host_index::RECORDING_ORIGIN
    ));
}

/// Prints the use of the listed hosts in place of a kernel that was not recorded.
fn print_unrecorded(printer: &mut Printer, unrecorded: &UnrecordedKernel) {
    let UnrecordedKernel { host, relation, .. } = unrecorded;
    let probe = format!("run `cpreg probe kvm -o host.json` on {host}, and name the file");
    let (use_of_hosts, fix) = if *relation == KernelRelation::SAME_SERIES {
        (
            "the hosts below have releases of its series: they stand for it if they agree",
            None,
        )
    } else if *relation == KernelRelation::BETWEEN_SERIES {
        (
            "its kernel is between those of the hosts below: `check` plans the VM at both, and gives \
             a verdict if they agree",
            None,
        )
    } else if *relation == KernelRelation::OUTSIDE_SERIES {
        (
            "the hosts below are the nearest, and all are older or all newer: `check` shows the \
             plan there, and the verdict is unknown",
            Some(probe),
        )
    } else {
        (unrecorded.reason.as_str(), Some(probe))
    };
    printer.line(format_args!(
        "{} was not recorded: {use_of_hosts}",
        styled(style::NAME, host)
    ));
    if let Some(fix) = fix {
        printer.line(format_args!("  {}: {fix}", styled(style::HINT, "fix")));
    }
}

/// Returns the version of the distribution's package, or an empty text if the record has none.
fn package_suffix(kernel: &KernelIdentity) -> String {
    let package = kernel.package.as_ref();
    package.map_or_else(String::new, |package| format!(" (package {package})"))
}

/// Returns the CPU model and the host's mode: `max+nested`.
fn cpu_and_mode(host: &HostSummary) -> String {
    match &host.mode {
        Some(mode) => format!("{}+{mode}", host.cpu),
        None => host.cpu.clone(),
    }
}

/// Returns the features as in the name of a destination: `pmu,sve`.
fn features(recording: &Recording) -> String {
    if recording.features.is_empty() {
        "none".to_owned()
    } else {
        recording.features.join(",")
    }
}
