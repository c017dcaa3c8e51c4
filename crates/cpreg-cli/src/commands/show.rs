//! `cpreg show FILE`: what a stream or profile holds, and what a recorded host is.

use cpreg::destination::Accelerator;
use cpreg::register::Naming;
use cpreg_report as report;
use cpreg_report::field::Wanted;
use cpreg_report::host::{ShownGuest, ShownHost};
use cpreg_report::rows;
use cpreg_report::show::Shown;
use cpreg_report::value::Printing;

use crate::arguments::{self, Format};
use crate::contents;
use crate::destination::hosts::{self, Opened};
use crate::failure::{Failure, Status};
use crate::names;
use crate::printer::{Printer, print_json};

pub(crate) fn run(arguments: &arguments::Show, printer: &mut Printer) -> Result<Status, Failure> {
    let reading = &arguments.reading;
    let input = match hosts::open(&arguments.file, reading.verify, printer)? {
        Opened::Host(host) => return show_host(&host, arguments, printer),
        Opened::File(input) => input,
    };
    let contents = contents::of(&input)?;
    let printing = Printing::new(contents.destination.accelerator, reading.secrets);
    let wanted: Vec<Wanted> = arguments
        .registers
        .iter()
        .map(|text| wanted(text, printing.naming))
        .collect::<Result<_, _>>()?;
    let count = contents.vcpus().len();
    if let Some(vcpu) = arguments.vcpu.filter(|vcpu| *vcpu >= count) {
        return Err(
            Failure::new(format!("{} has no vCPU {vcpu}", arguments.file.display())).hint(
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
    let cores = contents.cores.iter().enumerate();
    let shown = Shown {
        contents: &contents,
        printing,
        wanted,
        fields: arguments.fields,
        chosen: vcpus().count(),
        cores: cores.filter(|(number, _)| chosen(number)).collect(),
        registers,
        extensions,
    };
    match reading.format {
        Format::Text => report::show::text::print(printer, &shown),
        Format::Json => print_json(printer, &report::show::model::Report::from(&shown))?,
    }
    Ok(Status::Done)
}

/// A recorded host; with features in its name what such a guest has.
fn show_host(
    host: &hosts::Named,
    arguments: &arguments::Show,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let written = &host.written;
    if arguments.vcpu.is_some() {
        return Err(
            Failure::new(format!("{written} is a host, and has no vCPUs"))
                .hint("--vcpu is for streams and profiles"),
        );
    }
    let printing = Printing::new(Some(Accelerator::Kvm), arguments.reading.secrets);
    let texts = arguments.registers.iter();
    let wanted = texts.map(|text| wanted(text, printing.naming));
    let wanted: Vec<Wanted> = wanted.collect::<Result<_, _>>()?;
    if host.features.is_none() && (arguments.fields || !wanted.is_empty()) {
        return Err(host.unsaid());
    }
    let guest =
        |features| ShownGuest::new(written, &host.record, features, wanted, arguments.fields);
    let shown = ShownHost {
        written,
        record: &host.record,
        guest: host.features.map(guest).transpose()?,
        printing,
    };
    match arguments.reading.format {
        Format::Text => report::host::text::print(printer, &shown),
        Format::Json => print_json(printer, &report::host::model::Report::from(&shown))?,
    }
    Ok(Status::Done)
}

/// A register by any of its spellings, or REG.FIELD.
pub(super) fn wanted(text: &str, naming: Naming) -> Result<Wanted, Failure> {
    if !text.contains('.') {
        return names::register(text, naming).map(|id| Wanted { id, field: None });
    }
    let field = names::field(text, naming)?;
    Ok(Wanted {
        id: field.id,
        field: Some(field.field),
    })
}
