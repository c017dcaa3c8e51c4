//! The answer of `show`: what a file holds, or the part of it that was asked for.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms |
//! | [`model`] | its model, schema `cpreg.show/1` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::register::{Field, RegisterId};

use crate::contents::{Contents, Core, General};
use crate::field::{FieldValue, Wanted, all_fields};
use crate::rows::{ExtensionRow, RegisterRow};
use crate::value::Printing;

/// What is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The file.
    pub contents: &'a Contents,
    /// Style of names and values.
    pub printing: Printing,
    /// Only these, if there are any.
    pub wanted: Vec<Wanted>,
    /// Decode fields.
    pub fields: bool,
    /// How many vCPUs are shown.
    pub chosen: usize,
    /// The core registers by vCPU.
    pub cores: Vec<(usize, &'a Core)>,
    /// The registers.
    pub registers: Vec<RegisterRow>,
    /// The extensions.
    pub extensions: Vec<ExtensionRow>,
}

impl Shown<'_> {
    /// Whether a core register was asked for.
    ///
    /// By name too: under TCG `SP_EL1` is a system register's name, but no list has that register.
    pub fn wants_general(&self, general: &General) -> bool {
        self.wanted.iter().any(|wanted| {
            general.id == Some(wanted.id) || general.name == self.printing.name(wanted.id)
        })
    }

    /// The registers that were asked for and are nowhere.
    pub fn missing(&self) -> Vec<RegisterId> {
        let is_there = |wanted: &&Wanted| {
            let listed = self.registers.iter().any(|row| row.key == wanted.id);
            let mut general = self.cores.iter().flat_map(|(_, core)| &core.registers);
            listed
                || general.any(|register| {
                    register.id == Some(wanted.id) || register.name == self.printing.name(wanted.id)
                })
        };
        let missing = self.wanted.iter().filter(|wanted| !is_there(wanted));
        missing.map(|wanted| wanted.id).collect()
    }

    /// The fields to show of a register: those asked for, or all.
    pub fn fields_of(&self, id: RegisterId, value: u64) -> Vec<FieldValue> {
        let mut chosen = self
            .wanted
            .iter()
            .filter(|wanted| wanted.id == id)
            .peekable();
        if chosen.peek().is_none() && !self.fields {
            return Vec::new();
        }
        let chosen: Option<Vec<Field>> = chosen.map(|wanted| wanted.field).collect();
        match chosen {
            Some(fields) if !fields.is_empty() => fields
                .into_iter()
                .map(|field| FieldValue::of(id, field, value))
                .collect(),
            _ => all_fields(id, value),
        }
    }
}
