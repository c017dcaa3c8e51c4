//! One HTML page for a matrix: every cell with its registers, reasons, commits and remedies, and a
//! timeline of each register over the recorded kernels.
//!
//! The page needs no network, and forbids the browser to use one ([`html`]). It holds the data
//! once, as JSON ([`model`]). Its script makes the tables.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`PageBuilder`], which collects rows |
//! | [`details`] | content of a cell in words |
//! | `table` | merging of equal values |
//! | `timeline` | registers over kernels |
//! | [`fleet`] | nodes and an upgrade, which the page of a fleet adds |
//! | [`model`] | the data of a page |
//! | [`html`] | the page as a document |
//! | `assets/` | style and scripts |

pub mod details;
pub mod fleet;
pub mod html;
pub mod model;
mod table;
mod timeline;

use std::collections::BTreeMap;

use cpreg::register::RegisterId;
use cpreg_fleet::cell::Symbol;
use cpreg_hosts::HostIndex;

use self::details::{CellDetails, ItemDetails, PartDetails};
use self::model::{
    PageCell, PageData, PageLeftOut, PageLoader, PageName, PagePart, PageSource, PartItem,
    RegisterTimeline, SCHEMA, SymbolMeaning, UnchangedMeaning,
};
use self::table::Table;
use super::model::{LeftOutSource, MatrixHeader};
use crate::command::quote;
use crate::names::UnchangedLoad;
use crate::printer::escape_control;

/// Symbols of loads without cpreg, as in docs/kvm-matrix.md.
const UNCHANGED_SYMBOLS: [(UnchangedLoad, &str, &str); 4] = [
    (UnchangedLoad::LOADS, "+", "loads without cpreg"),
    (
        UnchangedLoad::LOSES_REGISTERS,
        "~",
        "loads without cpreg, but the loader loses registers",
    ),
    (UnchangedLoad::FAILS, ".", "fails without cpreg"),
    (
        UnchangedLoad::UNKNOWN,
        "?",
        "not enough information to decide, or the possible loaders differ",
    ),
];

/// Row of a page.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "`matrix` fills it")]
pub struct RowDetails {
    /// Name of the VM, or of the host of a new VM with the features of its guest.
    pub name: String,
    /// Number of vCPUs.
    pub vcpus: usize,
    /// `true` for a new VM of a host, of which no file exists.
    pub is_new: bool,
    /// Cells for each loader and destination.
    pub planes: Vec<Vec<CellDetails>>,
}

/// Collector of the rows of a page.
#[derive(Debug, Default)]
pub struct PageBuilder {
    header: PageHeader,
    sources: Vec<PageSource>,
    left_out: Vec<PageLeftOut>,
    rows: Table<Vec<Vec<usize>>>,
    cells: Table<PageCell>,
    parts: Table<PagePart>,
    texts: Table<String>,
    /// Registers in the parts, with the names that the parts use.
    registers: BTreeMap<String, RegisterId>,
}

/// Inputs that all rows share.
#[derive(Debug, Default)]
struct PageHeader {
    cpreg_version: String,
    loaders: Vec<PageLoader>,
    options: String,
    destinations: Vec<String>,
}

impl PageBuilder {
    /// Returns a page without rows. `options` are the user's consents.
    pub fn new(header: &MatrixHeader, loaders: Vec<PageLoader>, options: &[String]) -> Self {
        let options = options.iter().map(|word| format!(" {}", quote(word)));
        Self {
            header: PageHeader {
                cpreg_version: header.cpreg_version.clone(),
                loaders,
                options: options.collect(),
                destinations: header.destinations.clone(),
            },
            left_out: header.left_out.iter().map(left_out).collect(),
            ..Self::default()
        }
    }

    /// Adds a row.
    pub fn add_row(&mut self, row: RowDetails) {
        let cells = self.add_cells(row.planes);
        self.sources.push(PageSource {
            argument: escape_control(&quote(&row.name), false),
            name: escape_control(&row.name, false),
            vcpus: row.vcpus,
            is_new: row.is_new,
            row: cells,
            node: None,
            class: None,
        });
    }

    /// Adds the cells of a row, for each loader and destination, and returns their index.
    pub fn add_cells(&mut self, planes: Vec<Vec<CellDetails>>) -> usize {
        let planes = planes.into_iter().map(|plane| {
            let cells = plane.into_iter().map(|cell| self.add_cell(cell));
            cells.collect()
        });
        let planes = planes.collect();
        self.rows.insert(planes)
    }

    /// Adds a source that cannot be used.
    pub fn add_left_out(&mut self, source: &LeftOutSource) {
        self.left_out.push(left_out(source));
    }

    /// Returns the page, with the timelines of its registers.
    pub fn finish(mut self, history: &HostIndex) -> PageData {
        let registers = std::mem::take(&mut self.registers);
        let timelines = registers.into_iter().filter_map(|(name, id)| {
            let name = self.text(&name);
            timeline::timeline(history, id, name, |text| self.text(text))
        });
        let registers: Vec<RegisterTimeline> = timelines.collect();
        let destinations = self.header.destinations.into_iter().map(|name| PageName {
            argument: escape_control(&quote(&name), false),
            name: escape_control(&name, false),
        });
        let symbols = Symbol::ALL.map(|symbol| SymbolMeaning {
            symbol: symbol.character().to_string(),
            meaning: symbol.meaning().to_owned(),
        });
        let unchanged = UNCHANGED_SYMBOLS.map(|(result, symbol, meaning)| UnchangedMeaning {
            result,
            symbol: symbol.to_owned(),
            meaning: meaning.to_owned(),
        });
        let kernels = history.kernels().iter();
        PageData {
            schema: SCHEMA.to_owned(),
            cpreg_version: self.header.cpreg_version,
            symbols: symbols.into(),
            unchanged_symbols: unchanged.into(),
            loaders: self.header.loaders,
            options: self.header.options,
            destinations: destinations.collect(),
            sources: self.sources,
            left_out: self.left_out,
            rows: self.rows.into_values(),
            cells: self.cells.into_values(),
            parts: self.parts.into_values(),
            kernels: kernels.map(|kernel| kernel.version.clone()).collect(),
            registers,
            texts: self.texts.into_values(),
            fleet: None,
        }
    }

    /// Returns the index of a text. The author of an input controls the names in it.
    fn text(&mut self, text: &str) -> usize {
        self.texts.insert(escape_control(text, false))
    }

    fn texts(&mut self, texts: &[String]) -> Vec<usize> {
        texts.iter().map(|text| self.text(text)).collect()
    }

    fn add_cell(&mut self, cell: CellDetails) -> usize {
        let parts = cell.parts.iter().map(|part| self.add_part(part));
        let parts = parts.collect();
        let cell = PageCell {
            symbol: cell.symbol.to_string(),
            without_cpreg: cell.without_cpreg,
            severity: cell.severity,
            reason: cell.reason.map(|reason| self.text(&reason)),
            consents: cell.consents.map(|consents| self.text(&consents)),
            parts,
            messages: self.texts(&cell.messages),
        };
        self.cells.insert(cell)
    }

    fn add_part(&mut self, part: &PartDetails) -> usize {
        let items = part.items.iter().map(|item| self.add_item(item));
        let items = items.collect();
        let part = PagePart {
            kind: part.kind,
            decision: self.text(&part.decision),
            items,
            reason: self.text(&part.reason),
            remedies: self.texts(&part.remedies),
            history: self.texts(&part.history),
        };
        self.parts.insert(part)
    }

    fn add_item(&mut self, item: &ItemDetails) -> PartItem {
        if let Some(id) = item.register {
            // A field's register has the timeline.
            let name = item.name.split('.').next().unwrap_or_default();
            if !self.registers.contains_key(name) {
                self.registers.insert(name.to_owned(), id);
            }
        }
        let mut value = |value: &Option<String>| value.as_deref().map(|value| self.text(value));
        let (source, destination) = (value(&item.source), value(&item.destination));
        PartItem(self.text(&item.name), source, destination)
    }
}

fn left_out(source: &LeftOutSource) -> PageLeftOut {
    let error = std::iter::once(&source.error.message).chain(&source.error.causes);
    let error: Vec<_> = error.map(String::as_str).collect();
    PageLeftOut {
        name: escape_control(&source.name, false),
        error: escape_control(&error.join(": "), false),
    }
}
