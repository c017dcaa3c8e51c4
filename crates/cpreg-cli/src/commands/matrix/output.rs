//! [`Output`]: the rows of a matrix in the chosen format, written as they come.

use cpreg_fleet::{Cell, Row};
use cpreg_report::command::CommandKind;
use cpreg_report::matrix::csv;
use cpreg_report::matrix::model::{
    LeftOutSource, LineDetails, MatrixHeader, MatrixLine, MatrixRow, MatrixSummary,
};
use cpreg_report::matrix::page::details::CellDetails;
use cpreg_report::matrix::page::{PageBuilder, RowDetails, html};
use cpreg_report::matrix::text::TableText;

use super::page::Planes;
use crate::arguments::{self, MatrixFormat};
use crate::command_line;
use crate::destination::hosts;
use crate::failure::Failure;
use crate::printer::{self, Printer};

/// Writer of the rows.
pub(super) struct Output {
    form: Form,
    /// `true` once the reader of standard output has exited.
    is_closed: bool,
}

enum Form {
    Text(TableText),
    Csv,
    Json,
    Html(Box<PageBuilder>),
}

/// Cell, with its details for a page.
#[derive(Clone)]
pub(super) struct PrintedCell {
    pub(super) cell: Cell,
    pub(super) details: Option<CellDetails>,
}

impl PrintedCell {
    /// Returns a cell without details.
    pub(super) const fn plain(cell: Cell) -> Self {
        Self {
            cell,
            details: None,
        }
    }
}

impl Output {
    /// Prints the head of the matrix.
    pub(super) fn new(
        arguments: &arguments::Matrix,
        printer: &mut Printer,
        header: MatrixHeader,
        planes: &Planes,
    ) -> Result<Self, Failure> {
        let form = match arguments.format {
            MatrixFormat::Text => {
                let verbosity = arguments.verbosity.verbosity();
                Form::Text(TableText::new(printer, &header, verbosity))
            }
            MatrixFormat::Csv => {
                csv::print_header(printer);
                Form::Csv
            }
            MatrixFormat::Json => {
                print_line(printer, header)?;
                Form::Json
            }
            MatrixFormat::Html => {
                let typed = command_line::typed(
                    CommandKind::Check,
                    [None, None],
                    arguments.from.from.as_ref(),
                    None,
                    &arguments.consents,
                );
                let builder = PageBuilder::new(&header, planes.loaders.clone(), &typed.options);
                Form::Html(Box::new(builder))
            }
        };
        Ok(Self {
            form,
            is_closed: false,
        })
    }

    /// Prints a row. `planned` has the cells for all loaders.
    pub(super) fn add_row(
        &mut self,
        printer: &mut Printer,
        row: MatrixRow,
        planned: Row<PrintedCell>,
    ) -> Result<(), Failure> {
        match &mut self.form {
            Form::Text(table) => table.print_row(printer, &row),
            Form::Csv => csv::print_row(printer, &row),
            Form::Json => print_line(printer, row)?,
            Form::Html(page) => page.add_row(row_details(planned, row.cells.len())),
        }
        Ok(())
    }

    /// Prints a source that was left out. Its error is already on standard error.
    pub(super) fn add_left_out(
        &mut self,
        printer: &mut Printer,
        source: LeftOutSource,
    ) -> Result<(), Failure> {
        match &mut self.form {
            Form::Text(_) | Form::Csv => Ok(()),
            Form::Json => print_line(printer, source),
            Form::Html(page) => {
                page.add_left_out(&source);
                Ok(())
            }
        }
    }

    /// Prints the counts.
    pub(super) fn finish(
        &mut self,
        printer: &mut Printer,
        summary: &MatrixSummary,
    ) -> Result<(), Failure> {
        match &mut self.form {
            Form::Text(table) => table.print_summary(printer, summary),
            Form::Csv => {}
            Form::Json => print_line(printer, summary)?,
            Form::Html(page) => {
                let data = std::mem::take(page).finish(hosts::history()?);
                printer.append(&html::document(&data).map_err(print_failure)?);
            }
        }
        self.flush(printer)
    }

    /// Writes what was printed so far.
    ///
    /// A reader that has exited, as `head` does, does not end the command: its exit status is that
    /// of all rows.
    pub(super) fn flush(&mut self, printer: &mut Printer) -> Result<(), Failure> {
        if self.is_closed {
            *printer = printer.new_buffer();
            return Ok(());
        }
        match printer::finish(printer) {
            Err(failure) if failure.is_broken_pipe() => {
                self.is_closed = true;
                Ok(())
            }
            finished => finished,
        }
    }
}

fn print_line(printer: &mut Printer, line: impl Into<LineDetails>) -> Result<(), Failure> {
    let text = serde_json::to_string(&MatrixLine::from(line.into()));
    let mut text = text.map_err(print_failure)?;
    text.push('\n');
    printer.json(&text);
    Ok(())
}

fn print_failure(error: serde_json::Error) -> Failure {
    Failure::new("cannot print the report").with_cause(error)
}

/// Returns the row of a page.
///
/// A VM whose file decides the loader has the same cells for all loaders.
fn row_details(row: Row<PrintedCell>, destinations: usize) -> RowDetails {
    let cells = row.cells.into_iter().filter_map(|printed| printed.details);
    let cells: Vec<_> = cells.collect();
    let mut planes: Vec<_> = cells.chunks(destinations).map(<[_]>::to_vec).collect();
    if row.has_own_loader
        && let Some((first, others)) = planes.split_first_mut()
    {
        others.fill(first.clone());
    }
    RowDetails {
        name: row.name,
        vcpus: row.vcpus,
        is_new: row.is_new,
        planes,
    }
}
