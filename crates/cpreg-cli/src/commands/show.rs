//! `cpreg show FILE`: shows the content of a stream or profile, or a recorded host.

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
    let inspect = &arguments.inspect;
    let input = match hosts::open(&arguments.file, inspect.verify, printer)? {
        HostOrFile::Host(host) => return show_host(&host, arguments, printer),
        HostOrFile::Unrecorded(host) => return Err(host.failure()),
        HostOrFile::File(input) => input,
    };
    let contents = contents::from_input(&input)?;
    let value_format = ValueFormat::new(contents.destination.accelerator, inspect.show_secrets);
    let selection: Vec<RegisterSelection> = arguments
        .registers
        .iter()
        .map(|text| parse_selection(text, value_format.naming))
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
    let is_selected = |number: &usize| arguments.vcpu.is_none_or(|vcpu| vcpu == *number);
    let vcpus = || {
        let vcpus = contents.vcpus().iter().enumerate();
        vcpus.filter(|(number, _)| is_selected(number))
    };
    let mut registers = rows::registers(vcpus());
    if !selection.is_empty() {
        registers.retain(|row| selection.iter().any(|selected| selected.id == row.key));
    }
    let extensions = if selection.is_empty() {
        rows::extensions(vcpus())
    } else {
        Vec::new()
    };
    let states = contents.vcpu_states.iter().enumerate();
    let view = ContentsView {
        contents: &contents,
        value_format,
        selection,
        show_fields: arguments.fields,
        vcpu_count: vcpus().count(),
        vcpu_states: states.filter(|(number, _)| is_selected(number)).collect(),
        registers,
        extensions,
    };
    match inspect.format {
        Format::Text => report::show::text::print(printer, &view),
        Format::Json => print_json(printer, &report::show::model::ShowReport::from(&view))?,
    }
    Ok(status(view.missing_registers().is_empty()))
}

/// Shows a recorded host, or its registers for a guest if the name has features.
fn show_host(
    host: &hosts::NamedHost,
    arguments: &arguments::Show,
    printer: &mut Printer,
) -> Result<Status, Failure> {
    let name = &host.display_name;
    if arguments.vcpu.is_some() {
        return Err(Failure::new(format!("{name} is a host, and has no vCPUs"))
            .with_hint("--vcpu is for streams and profiles"));
    }
    let value_format = ValueFormat::new(Some(Accelerator::Kvm), arguments.inspect.show_secrets);
    let texts = arguments.registers.iter();
    let selection = texts.map(|text| parse_selection(text, value_format.naming));
    let selection: Vec<RegisterSelection> = selection.collect::<Result<_, _>>()?;
    if host.features.is_none() && (arguments.fields || !selection.is_empty()) {
        return Err(host.missing_features());
    }
    let guest =
        |features| GuestView::new(name, &host.record, features, selection, arguments.fields);
    let view = HostView {
        argument: name,
        record: &host.record,
        guest: host.features.map(guest).transpose()?,
        value_format,
    };
    match arguments.inspect.format {
        Format::Text => report::host::text::print(printer, &view),
        Format::Json => print_json(printer, &report::host::model::HostReport::from(&view))?,
    }
    let guest = view.guest.as_ref();
    Ok(status(guest.is_none_or(|guest| {
        guest.missing_registers().next().is_none()
    })))
}

/// Returns the exit status: `Refused` if a selected register is absent.
const fn status(has_all: bool) -> Status {
    if has_all {
        Status::Success
    } else {
        Status::Refused
    }
}

/// Parses a register in any of its spellings, or a field as REG.FIELD.
pub(super) fn parse_selection(text: &str, naming: Naming) -> Result<RegisterSelection, Failure> {
    if !text.contains('.') {
        return names::parse_register(text, naming).map(|id| RegisterSelection { id, field: None });
    }
    let field = names::parse_field(text, naming)?;
    Ok(RegisterSelection {
        id: field.id,
        field: Some(field.field),
    })
}
