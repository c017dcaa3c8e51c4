//! [`Output`]: the rows of a matrix in the chosen format, written as they come.

use cpreg_report::matrix::csv;
use cpreg_report::matrix::model::{
    LeftOutSource, LineDetails, MatrixHeader, MatrixLine, MatrixRow, MatrixSummary,
};
use cpreg_report::matrix::text::TableText;

use crate::arguments::{self, MatrixFormat};
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
}

impl Output {
    /// Prints the head of the matrix.
    pub(super) fn new(
        arguments: &arguments::Matrix,
        printer: &mut Printer,
        header: MatrixHeader,
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
        };
        Ok(Self {
            form,
            is_closed: false,
        })
    }

    /// Prints a row.
    pub(super) fn add_row(&mut self, printer: &mut Printer, row: MatrixRow) -> Result<(), Failure> {
        match &mut self.form {
            Form::Text(table) => table.print_row(printer, &row),
            Form::Csv => csv::print_row(printer, &row),
            Form::Json => print_line(printer, row)?,
        }
        Ok(())
    }

    /// Prints a source that was left out. Its error is already on standard error.
    pub(super) fn add_left_out(
        &self,
        printer: &mut Printer,
        source: LeftOutSource,
    ) -> Result<(), Failure> {
        match &self.form {
            Form::Text(_) | Form::Csv => Ok(()),
            Form::Json => print_line(printer, source),
        }
    }

    /// Prints the counts.
    pub(super) fn finish(
        &mut self,
        printer: &mut Printer,
        summary: &MatrixSummary,
    ) -> Result<(), Failure> {
        match &self.form {
            Form::Text(table) => table.print_summary(printer, summary),
            Form::Csv => {}
            Form::Json => print_line(printer, summary)?,
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
    let mut text =
        text.map_err(|error| Failure::new("cannot print the report").with_cause(error))?;
    text.push('\n');
    printer.json(&text);
    Ok(())
}
