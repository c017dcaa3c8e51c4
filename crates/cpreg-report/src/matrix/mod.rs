//! Report of `matrix`: many VMs at many destinations, row by row.
//!
//! A row is written as soon as its VM is planned, so the report of any number of VMs needs little
//! memory.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | conversion of planned cells to the model |
//! | [`model`] | the lines of the JSON form, schema `cpreg.matrix/1` |
//! | [`text`] | the table for a terminal, with its legend and reasons |
//! | [`csv`] | one line for each cell |
//! | [`page`] | one HTML page without a network, with the details of every cell |

pub mod csv;
pub mod model;
pub mod page;
pub mod text;

use std::borrow::Borrow;

use cpreg_fleet::Cell;
use cpreg_fleet::cell::Blocker;

use crate::text::list_first;
use crate::value::ValueFormat;
use model::{CellReport, MatrixRow};

impl MatrixRow {
    /// Creates the row of a VM. `destinations` are the names of the columns.
    pub fn new(
        source: String,
        vcpus: usize,
        destinations: &[String],
        cells: &[impl Borrow<Cell>],
    ) -> Self {
        let format = ValueFormat::new(None, false);
        let cells = destinations.iter().zip(cells);
        Self {
            source,
            vcpus,
            cells: cells
                .map(|(name, cell)| CellReport::new(name, cell.borrow(), format))
                .collect(),
        }
    }
}

impl CellReport {
    pub(crate) fn new(destination: &str, cell: &Cell, format: ValueFormat) -> Self {
        let blockers = cell.blockers.iter().map(|blocker| match blocker {
            Blocker::Machine(part) => part.clone(),
            Blocker::Part(part) => format.part(part),
        });
        Self {
            destination: destination.to_owned(),
            verdict: cell.verdict.into(),
            symbol: cell.symbol().character().to_string(),
            severity: cell.severity.map(Into::into),
            resolving_consent: cell.resolving_consent.map(Into::into),
            blockers: blockers.collect(),
            reason: cell.reason.clone(),
            without_cpreg: cell.without_cpreg.into(),
        }
    }

    /// Returns the blockers and the reason in one line; `None` for a VM that loads.
    pub fn explanation(&self) -> Option<String> {
        /// Maximum number of blockers in the line.
        const MAX_LISTED: usize = 3;
        let has_blockers = !self.blockers.is_empty();
        let names = has_blockers.then(|| list_first(&self.blockers, MAX_LISTED));
        match (names, &self.reason) {
            (Some(names), Some(reason)) => Some(format!("{names}: {reason}")),
            (Some(names), None) => Some(names),
            (None, reason) => reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use cpreg::plan::{DecidedPart, UnchangedLoad, Verdict};
    use cpreg::register::RegisterId;
    use cpreg::severity::Severity;

    use super::*;

    /// Returns a refused cell that a consent resolves.
    pub(super) fn refused_cell() -> Cell {
        let registers = [
            RegisterId::TCR2_EL1,
            RegisterId::PIR_EL1,
            RegisterId::PIRE0_EL1,
            RegisterId::PMCR_EL0,
        ];
        let blockers = registers.map(|id| Blocker::Part(DecidedPart::Register(id)));
        Cell {
            verdict: Verdict::Refused,
            severity: None,
            resolving_consent: Some(Severity::Low),
            blockers: blockers.into(),
            reason: Some("only the VM has it".to_owned()),
            without_cpreg: UnchangedLoad::Fails,
        }
    }

    #[test]
    fn a_row_has_one_cell_for_each_destination() {
        let names = ["one".to_owned(), "two".to_owned()];
        let cells = [refused_cell(), Cell::undecidable("no evidence".to_owned())];
        let row = MatrixRow::new("vm".to_owned(), 2, &names, &cells);
        let symbols: Vec<_> = row.cells.iter().map(|cell| &*cell.symbol).collect();
        assert_eq!(symbols, ["l", "?"]);
        let explanations: Vec<_> = row.cells.iter().map(CellReport::explanation).collect();
        assert_eq!(
            explanations[0].as_deref(),
            Some("TCR2_EL1, PIR_EL1, PIRE0_EL1 and 1 more: only the VM has it")
        );
        assert_eq!(explanations[1].as_deref(), Some("no evidence"));
    }
}
