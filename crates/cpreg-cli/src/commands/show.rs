//! `cpreg show FILE`: what a stream or profile holds, and what a recorded host is.

use cpreg::destination::Accelerator;
use cpreg::register::Naming;
use cpreg_report as report;
use cpreg_report::field::RegisterSelection;
use cpreg_report::host::{GuestView, HostView};
use cpreg_report::rows;
use cpreg_report::show::ContentsView;
use cpreg_report::value::ValueFormat;

use crate::arguments::{self, Format};
use crate::contents;
use crate::destination::hosts::{self, HostOrFile};
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Show, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.inspect;
    let input = match hosts::open(&arguments.file, reading.verify, printer)? {
        HostOrFile::Host(host) => return show_host(&host, arguments, printer),
        HostOrFile::File(input) => input,
    };
    let contents = contents::from_input(&input)?;
    let printing = ValueFormat::new(contents.destination.accelerator, reading.show_secrets);
    let wanted: Vec<RegisterSelection> = arguments
        .registers
        .iter()
        .map(|text| parse_wanted(text, printing.naming))
        .collect::<Result<_, _>>()?;
    let count = contents.vcpus().len();
    if let Some(vcpu) = arguments.vcpu.filter(|vcpu| *vcpu >= count) {
        return Err(
            Failure::new(format!("{} has no vCPU {vcpu}", arguments.file.display())).with_hint(
                match count {
                    1 => "it has one, number 0".to_owned(),
                    count => format!("it has {count}, numbered from 0"),
                },
            ),
        );
    }
    let chosen = |number: &usize| arguments.vcpu.is_none_or(|vcpu| vcpu == *number);
    let vcpus = || {
        let vcpus = contents.vcpus().iter().enumerate();
        vcpus.filter(|(number, _)| chosen(number))
    };
    let mut registers = rows::registers(vcpus());
    if !wanted.is_empty() {
        registers.retain(|row| wanted.iter().any(|wanted| wanted.id == row.key));
    }
    let extensions = if wanted.is_empty() {
        rows::extensions(vcpus())
    } else {
        Vec::new()
    };
    let cores = contents.vcpu_states.iter().enumerate();
    let shown = ContentsView {
        contents: &contents,
        value_format: printing,
        selection: wanted,
        show_fields: arguments.fields,
        vcpu_count: vcpus().count(),
        vcpu_states: cores.filter(|(number, _)| chosen(number)).collect(),
        registers,
        extensions,
    };
    match reading.format {
        Format::Text => report::show::text::print(printer, &shown),
        Format::Json => print_json(printer, &report::show::model::ShowReport::from(&shown))?,
    }
    Ok(Status::Success)
}

/// A recorded host; with features in its name what such a guest has.
fn show_host(
    host: &hosts::NamedHost,
    arguments: &arguments::Show,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let written = &host.display_name;
    if arguments.vcpu.is_some() {
        return Err(
            Failure::new(format!("{written} is a host, and has no vCPUs"))
                .with_hint("--vcpu is for streams and profiles"),
        );
    }
    let printing = ValueFormat::new(Some(Accelerator::Kvm), arguments.inspect.show_secrets);
    let texts = arguments.registers.iter();
    let wanted = texts.map(|text| parse_wanted(text, printing.naming));
    let wanted: Vec<RegisterSelection> = wanted.collect::<Result<_, _>>()?;
    if host.features.is_none() && (arguments.fields || !wanted.is_empty()) {
        return Err(host.missing_features());
    }
    let guest =
        |features| GuestView::new(written, &host.record, features, wanted, arguments.fields);
    let shown = HostView {
        argument: written,
        record: &host.record,
        guest: host.features.map(guest).transpose()?,
        value_format: printing,
    };
    match arguments.inspect.format {
        Format::Text => report::host::text::print(printer, &shown),
        Format::Json => print_json(printer, &report::host::model::HostReport::from(&shown))?,
    }
    Ok(Status::Success)
}

/// A register by any of its spellings, or REG.FIELD.
pub(super) fn parse_wanted(text: &str, naming: Naming) -> Result<RegisterSelection, Failure> {
    if !text.contains('.') {
        return names::parse_register(text, naming).map(|id| RegisterSelection { id, field: None });
    }
    let field = names::parse_field(text, naming)?;
    Ok(RegisterSelection {
        id: field.id,
        field: Some(field.field),
    })
}
