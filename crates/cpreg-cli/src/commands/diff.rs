//! `cpreg diff A B`: compares two inputs by register and field.

use cpreg::destination::Accelerator;
use cpreg::tolerance::Tolerances;
use cpreg_report as report;
use cpreg_report::diff::Diff;
use cpreg_report::host_diff::{ComparedHost, HostDiff};
use cpreg_report::kernel_diff::model::KernelDiffReport;
use cpreg_report::value::ValueFormat;

use crate::arguments::{self, Format};
use crate::contents;
use crate::destination::hosts::{self, Guest, HostOrFile, NamedHost};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Diff, printer: &mut Printer) -> Result<Status, Failure> {
    let kernels = [&arguments.a, &arguments.b].map(|path| hosts::kernel_name(path));
    if let [Some(a), Some(b)] = kernels {
        return diff_kernels(a, b, arguments, printer);
    }
    let verify = arguments.inspect.verify;
    let a = hosts::open(&arguments.a, verify, printer)?;
    let b = hosts::open(&arguments.b, verify, printer)?;
    match (a, b) {
        (HostOrFile::Unrecorded(host), _) | (_, HostOrFile::Unrecorded(host)) => {
            Err(host.failure())
        }
        (HostOrFile::File(a), HostOrFile::File(b)) => diff_files(&a, &b, arguments, printer),
        // For a host name without features, use the features of the guest in the other input.
        (HostOrFile::Host(a), HostOrFile::File(b)) => {
            let a = a.input_for_guest(Guest::Stream(&b))?;
            diff_files(&a, &b, arguments, printer)
        }
        (HostOrFile::File(a), HostOrFile::Host(b)) => {
            let b = b.input_for_guest(Guest::Stream(&a))?;
            diff_files(&a, &b, arguments, printer)
        }
        (HostOrFile::Host(mut a), HostOrFile::Host(mut b)) => {
            // Features in the name of one host apply to the other host too.
            a.features = a.features.or(b.features);
            b.features = b.features.or(a.features);
            if a.features != b.features {
                // With different features, compare the guests on these hosts, not the hosts.
                let a = a.input_for_guest(Guest::Unspecified)?;
                let b = b.input_for_guest(Guest::Unspecified)?;
                return diff_files(&a, &b, arguments, printer);
            }
            diff_hosts(&a, &b, arguments, printer)
        }
    }
}

/// Compares two inputs that hold the registers of one guest each.
fn diff_files(
    a: &Input,
    b: &Input,
    arguments: &arguments::Diff,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let [a, b] = [contents::from_input(a)?, contents::from_input(b)?];
    let diff = Diff::new(&a, &b, arguments.all, arguments.inspect.show_secrets);
    match arguments.inspect.format {
        Format::Text => report::diff::text::print(printer, &diff),
        Format::Json => print_json(printer, &report::diff::model::DiffReport::from(&diff))?,
    }
    Ok(status(diff.is_equal()))
}

/// Compares two recorded hosts.
fn diff_hosts(
    a: &NamedHost,
    b: &NamedHost,
    arguments: &arguments::Diff,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let value_format = ValueFormat::new(Some(Accelerator::Kvm), arguments.inspect.show_secrets);
    let diff = HostDiff::new(to_compared_host(a), to_compared_host(b), value_format)?;
    match arguments.inspect.format {
        Format::Text => report::host_diff::text::print(printer, &diff),
        Format::Json => print_json(
            printer,
            &report::host_diff::model::HostDiffReport::from(&diff),
        )?,
    }
    Ok(status(diff.is_equal()))
}

/// Compares two recorded kernels on all CPUs.
fn diff_kernels(
    a: &str,
    b: &str,
    arguments: &arguments::Diff,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let index = hosts::history()?;
    let [a, b] = [a, b].map(|name| index.select_kernel(name));
    let a = a.map_err(|error| hosts::host_name_failure(&error))?;
    let b = b.map_err(|error| hosts::host_name_failure(&error))?;
    let value_format = ValueFormat::new(Some(Accelerator::Kvm), arguments.inspect.show_secrets);
    let report = KernelDiffReport::new(&a, &b, index, &Tolerances::default(), value_format)?;
    match arguments.inspect.format {
        Format::Text => report::kernel_diff::text::print(printer, &report),
        Format::Json => print_json(printer, &report)?,
    }
    Ok(status(report.equal))
}

fn to_compared_host(host: &NamedHost) -> ComparedHost<'_> {
    ComparedHost {
        argument: &host.display_name,
        record: &host.record,
        features: host.features,
    }
}

const fn status(is_equal: bool) -> Status {
    if is_equal {
        Status::Success
    } else {
        Status::Refused
    }
}
