//! A matrix as comma-separated values (RFC 4180), one line for each cell.

use csv::{Terminator, WriterBuilder};

use super::model::MatrixRow;
use crate::printer::{Printer, escape_control};

/// Names of the columns.
const HEADER: [&str; 9] = [
    "source",
    "destination",
    "verdict",
    "symbol",
    "severity",
    "resolving_consent",
    "blockers",
    "reason",
    "without_cpreg",
];

/// Prints the names of the columns.
pub fn print_header(printer: &mut Printer) {
    print_records(printer, std::iter::once(HEADER.map(str::to_owned)));
}

/// Prints the cells of a row.
pub fn print_row(printer: &mut Printer, row: &MatrixRow) {
    let source = escape_control(&row.source, false);
    let records = row.cells.iter().map(|cell| {
        let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
        [
            source.clone(),
            escape_control(&cell.destination, false),
            cell.verdict.name().to_owned(),
            cell.symbol.clone(),
            name(cell.severity.as_ref().map(crate::names::Severity::name)),
            name(
                cell.resolving_consent
                    .as_ref()
                    .map(crate::names::Severity::name),
            ),
            escape_control(&cell.blockers.join(" "), false),
            escape_control(cell.reason.as_deref().unwrap_or_default(), false),
            cell.without_cpreg.name().to_owned(),
        ]
    });
    print_records(printer, records);
}

fn print_records(printer: &mut Printer, records: impl Iterator<Item = [String; 9]>) {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::Any(b'\n'))
        .from_writer(Vec::new());
    for record in records {
        // Writing to memory does not fail, and all records have the same length.
        let _ = writer.write_record(&record);
    }
    let bytes = writer.into_inner().unwrap_or_default();
    printer.append(&String::from_utf8_lossy(&bytes));
}

#[cfg(test)]
mod tests {
    use cpreg_fleet::Cell;

    use super::*;

    #[test]
    fn names_with_separators_are_quoted_and_control_characters_escaped() {
        let mut printer = Printer::default();
        print_header(&mut printer);
        let cells = [
            super::super::tests::refused_cell(),
            Cell::undecidable("because".to_owned()),
        ];
        let names = ["a \"b\"".to_owned(), "c".to_owned()];
        let row = MatrixRow::new("vm,1\n\u{202e}".to_owned(), 1, &names, &cells);
        print_row(&mut printer, &row);
        let text = printer.into_text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "source,destination,verdict,symbol,severity,resolving_consent,blockers,reason,without_cpreg",
                "\"vm,1\\n\\u{202e}\",\"a \"\"b\"\"\",refused,l,,low,TCR2_EL1 PIR_EL1 PIRE0_EL1 \
                 PMCR_EL0,only the VM has it,fails",
                "\"vm,1\\n\\u{202e}\",c,unknown,?,,,,because,unknown",
            ]
        );
    }
}
