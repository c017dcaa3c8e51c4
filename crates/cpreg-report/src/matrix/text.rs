//! A matrix as a table for a terminal.
//!
//! Columns are numbered, because names of hosts are wider than a cell. A terminal that is too
//! narrow for all columns gets the cells of a row below its name.

use std::collections::BTreeMap;

use cpreg_fleet::cell::Symbol;

use super::model::{CellReport, MatrixHeader, MatrixRow, MatrixSummary};
use crate::printer::{Printer, Verbosity, heading, style, styled};
use crate::text::pluralize;

/// Number of cells between two spaces.
const GROUP: usize = 10;
/// Columns that a name needs beside the cells.
const NAME_COLUMNS: usize = 30;
/// Maximum number of different reasons that are counted.
const MAX_REASONS: usize = 1000;
/// Maximum number of reasons in a short report.
const MAX_SHORT_REASONS: usize = 8;

/// Reason with the number of its cells, and one of them as an example.
#[derive(Clone, Debug)]
struct ReasonCount {
    count: usize,
    source: String,
    destination: String,
}

/// Printer of the rows and of what they have in common.
#[derive(Debug)]
pub struct TableText {
    destinations: usize,
    verbosity: Verbosity,
    reasons: BTreeMap<(String, String), ReasonCount>,
    /// Number of cells whose reasons are not counted apart.
    other_reasons: usize,
}

impl TableText {
    /// Prints the destinations, and returns the printer of the rows.
    pub fn new(printer: &mut Printer, header: &MatrixHeader, verbosity: Verbosity) -> Self {
        let table = Self {
            destinations: header.destinations.len(),
            verbosity,
            reasons: BTreeMap::new(),
            other_reasons: 0,
        };
        if verbosity != Verbosity::Quiet {
            printer.line(heading("destinations"));
            for (index, name) in header.destinations.iter().enumerate() {
                printer.line(format_args!("{:>4}  {name}", index + 1));
            }
            printer.line("");
            table.print_numbers(printer);
        }
        table
    }

    /// Returns `true` if the cells of a row fit beside its name.
    fn fits(&self, printer: &Printer) -> bool {
        let gaps = self.destinations.saturating_sub(1) / GROUP;
        self.destinations + gaps + NAME_COLUMNS <= printer.width()
    }

    /// Prints the numbers of the columns, one digit below the other.
    fn print_numbers(&self, printer: &mut Printer) {
        if !self.fits(printer) {
            return;
        }
        let digits = self.destinations.to_string().len();
        for digit in (0..digits).rev() {
            let power = 10_usize.pow(u32::try_from(digit).unwrap_or_default());
            let numbers = (1..=self.destinations).map(|number| {
                if digit > 0 && number < power {
                    ' '
                } else {
                    char::from_digit(u32::try_from(number / power % 10).unwrap_or(0), 10)
                        .unwrap_or(' ')
                }
            });
            let line = in_groups(numbers).join(" ");
            printer.line(styled(style::DIM, line.trim_end()));
        }
    }

    /// Prints a row.
    pub fn print_row(&mut self, printer: &mut Printer, row: &MatrixRow) {
        for cell in &row.cells {
            self.count_reason(row, cell);
        }
        if self.verbosity == Verbosity::Quiet {
            return;
        }
        let symbols = row.cells.iter().flat_map(|cell| cell.symbol.chars());
        let groups = in_groups(symbols);
        if self.fits(printer) {
            let cells = groups.join(" ");
            printer.line(format_args!(
                "{cells}  {}",
                styled(style::NAME, &row.source)
            ));
            return;
        }
        printer.line(styled(style::NAME, &row.source));
        let per_line = (printer.width().saturating_sub(6) / (GROUP + 1)).max(1);
        for (index, line) in groups.chunks(per_line).enumerate() {
            let first = index * per_line * GROUP + 1;
            printer.line(format_args!("{first:>4}  {}", line.join(" ")));
        }
    }

    fn count_reason(&mut self, row: &MatrixRow, cell: &CellReport) {
        let Some(explanation) = cell.explanation() else {
            return;
        };
        let key = (cell.symbol.clone(), explanation);
        if let Some(known) = self.reasons.get_mut(&key) {
            known.count += 1;
        } else if self.reasons.len() < MAX_REASONS {
            let count = ReasonCount {
                count: 1,
                source: row.source.clone(),
                destination: cell.destination.clone(),
            };
            self.reasons.insert(key, count);
        } else {
            self.other_reasons += 1;
        }
    }

    /// Prints the counts with the meaning of each symbol, and the reasons.
    pub fn print_summary(&self, printer: &mut Printer, summary: &MatrixSummary) {
        if self.verbosity != Verbosity::Quiet {
            printer.line("");
        }
        let cells: usize = summary.symbols.values().sum();
        printer.line(format_args!(
            "{}: {} at {}",
            pluralize(cells, "cell"),
            pluralize(summary.rows, "VM"),
            pluralize(self.destinations, "destination")
        ));
        for symbol in Symbol::ALL {
            let name = symbol.character().to_string();
            if let Some(count) = summary.symbols.get(&name) {
                printer.paragraph(&format!("  {name}  {count:>7}  "), symbol.meaning());
            }
        }
        if summary.left_out > 0 {
            printer.paragraph(
                "",
                format_args!(
                    "left out, because cpreg cannot use them: {}",
                    pluralize(summary.left_out, "input")
                ),
            );
        }
        if self.verbosity != Verbosity::Quiet {
            self.print_reasons(printer);
        }
    }

    fn print_reasons(&self, printer: &mut Printer) {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        if reasons.is_empty() {
            return;
        }
        reasons.sort_by(|one, other| other.1.count.cmp(&one.1.count).then(one.0.cmp(other.0)));
        let shown = if self.verbosity == Verbosity::Verbose {
            reasons.len()
        } else {
            MAX_SHORT_REASONS
        };
        printer.line("");
        printer.line(heading("reasons, the most frequent first"));
        for ((symbol, explanation), it) in reasons.iter().take(shown) {
            printer.paragraph(
                &format!("  {symbol}  {:>7}  ", it.count),
                format_args!("{explanation} ({} at {})", it.source, it.destination),
            );
        }
        let hidden = reasons.iter().skip(shown).map(|(_, it)| it.count);
        let hidden = hidden.sum::<usize>() + self.other_reasons;
        if hidden > 0 {
            printer.paragraph(
                "",
                format_args!(
                    "{} of other reasons; -v lists up to {MAX_REASONS} reasons, and `--format csv` \
                     all",
                    pluralize(hidden, "cell")
                ),
            );
        }
        printer.paragraph(
            "",
            "`cpreg check SOURCE DESTINATION` explains one cell in full",
        );
    }
}

/// Splits characters into groups of ten.
pub(crate) fn in_groups(characters: impl Iterator<Item = char>) -> Vec<String> {
    let characters: Vec<char> = characters.collect();
    let groups = characters.chunks(GROUP);
    groups.map(|group| group.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use cpreg_fleet::Cell;

    use super::*;

    fn header(count: usize) -> MatrixHeader {
        MatrixHeader {
            cpreg_version: "0.1.0".to_owned(),
            loader: None,
            destinations: (1..=count).map(|number| format!("host-{number}")).collect(),
            left_out: Vec::new(),
        }
    }

    fn print(width: usize, count: usize, verbosity: Verbosity) -> String {
        let mut printer = Printer::with_width(width);
        let header = header(count);
        let mut table = TableText::new(&mut printer, &header, verbosity);
        let cells = vec![Cell::undecidable("no evidence".to_owned()); count];
        let row = MatrixRow::new("vm".to_owned(), 1, &header.destinations, &cells);
        table.print_row(&mut printer, &row);
        let mut summary = MatrixSummary::default();
        summary.add(&row);
        table.print_summary(&mut printer, &summary);
        anstream::adapter::strip_str(&printer.into_text()).to_string()
    }

    #[test]
    fn cells_are_beside_the_name_if_they_fit() {
        let text = print(100, 12, Verbosity::Short);
        assert!(text.contains("\n         1 11\n"), "{text}");
        assert!(
            text.contains("\n1234567890 12\n?????????? ??  vm\n"),
            "{text}"
        );
        assert!(
            text.contains("  ?       12  no evidence (vm at host-1)\n"),
            "{text}"
        );
    }

    #[test]
    fn cells_are_below_the_name_on_a_narrow_terminal() {
        let text = print(40, 45, Verbosity::Short);
        let rows = "\nvm\n   1  ?????????? ?????????? ??????????\n  31  ?????????? ?????\n";
        assert!(text.contains(rows), "{text}");
        let columns = text.lines().map(|line| line.chars().count()).max();
        assert!(columns <= Some(40), "{text}");
    }

    #[test]
    fn a_quiet_report_has_only_the_counts() {
        let text = print(100, 3, Verbosity::Quiet);
        assert_eq!(
            text,
            "3 cells: 1 VM at 3 destinations\n  ?        3  unknown: not enough information to \
             decide\n"
        );
    }
}
