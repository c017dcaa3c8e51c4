//! The table as JSON, schema `cpreg.tolerances/2`.

use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;

use super::Exporter;
use crate::json;
use crate::printer::Printer;
use crate::tolerance::entries;
use crate::tolerance::model::TolerancesReport;

/// Exports the table as JSON, with complete entries.
#[derive(Clone, Copy, Debug)]
pub struct Json;

impl Exporter for Json {
    fn export(
        &self,
        tolerances: &Tolerances,
        selection: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()> {
        let report = TolerancesReport::new(&entries(tolerances, selection));
        printer.json(&json::document(&report)?);
        Ok(())
    }
}
