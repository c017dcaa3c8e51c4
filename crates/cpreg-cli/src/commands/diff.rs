//! `cpreg diff A B`: what differs, by name and field.

use cpreg::destination::Accelerator;
use cpreg_report as report;
use cpreg_report::diff::Diff;
use cpreg_report::host_diff::{HostDiff, Side};
use cpreg_report::value::Printing;

use crate::arguments::{self, Format};
use crate::contents;
use crate::destination::hosts::{self, Guest, Named, Opened};
use crate::failure::{Failure, Status};
use crate::input::Input;
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Diff, printer: &mut Printer) -> Result<Status, Failure> {
    let verify = arguments.reading.verify;
    let a = hosts::open(&arguments.a, verify, printer)?;
    let b = hosts::open(&arguments.b, verify, printer)?;
    match (a, b) {
        (Opened::File(a), Opened::File(b)) => files(&a, &b, arguments, printer),
        // A host without features in its name is taken for the guest on the other side.
        (Opened::Host(a), Opened::File(b)) => {
            let a = a.input_for_guest(Guest::In(&b))?;
            files(&a, &b, arguments, printer)
        }
        (Opened::File(a), Opened::Host(b)) => {
            let b = b.input_for_guest(Guest::In(&a))?;
            files(&a, &b, arguments, printer)
        }
        (Opened::Host(mut a), Opened::Host(mut b)) => {
            // Named for one of them they are meant for both.
            a.features = a.features.or(b.features);
            b.features = b.features.or(a.features);
            if a.features != b.features {
                // Guests of two kinds, which are compared like those of two VMMs.
                let a = a.input_for_guest(Guest::Nobody)?;
                let b = b.input_for_guest(Guest::Nobody)?;
                return files(&a, &b, arguments, printer);
            }
            recorded(&a, &b, arguments, printer)
        }
    }
}

/// Two streams or profiles.
fn files(
    a: &Input,
    b: &Input,
    arguments: &arguments::Diff,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let [a, b] = [contents::of(a)?, contents::of(b)?];
    let diff = Diff::new(&a, &b, arguments.all, arguments.reading.secrets);
    match arguments.reading.format {
        Format::Text => report::diff::text::print(printer, &diff),
        Format::Json => print_json(printer, &report::diff::model::Report::from(&diff))?,
    }
    Ok(status(diff.is_equal()))
}

/// Two recorded hosts.
fn recorded(
    a: &Named,
    b: &Named,
    arguments: &arguments::Diff,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let printing = Printing::new(Some(Accelerator::Kvm), arguments.reading.secrets);
    let diff = HostDiff::new(side(a), side(b), printing)?;
    match arguments.reading.format {
        Format::Text => report::host_diff::text::print(printer, &diff),
        Format::Json => print_json(printer, &report::host_diff::model::Report::from(&diff))?,
    }
    Ok(status(diff.is_equal()))
}

/// A recorded host as it is compared.
fn side(named: &Named) -> Side<'_> {
    Side {
        written: &named.written,
        record: &named.record,
        features: named.features,
    }
}

const fn status(is_equal: bool) -> Status {
    if is_equal {
        Status::Done
    } else {
        Status::Refused
    }
}
