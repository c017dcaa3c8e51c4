//! The answer of `show`: what a file holds, or the part of it that was asked for.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the answer, once, for both forms |
//! | [`model`] | its model, schema `cpreg.show/2` |
//! | `json` | the answer as its model |
//! | [`text`] | its text |

mod json;
pub mod model;
pub mod text;

use cpreg::register::{Field, RegisterId};

use crate::contents::{Contents, CoreRegister, VcpuState};
use crate::field::{FieldValue, RegisterSelection, decode_fields};
use crate::rows::{ExtensionRow, RegisterRow};
use crate::value::ValueFormat;

/// What is shown.
#[derive(Debug)]
pub struct ContentsView<'a> {
    /// The file.
    pub contents: &'a Contents,
    /// Style of names and values.
    pub value_format: ValueFormat,
    /// Only these, if there are any.
    pub selection: Vec<RegisterSelection>,
    /// Decode fields.
    pub show_fields: bool,
    /// How many vCPUs are shown.
    pub vcpu_count: usize,
    /// The core registers by vCPU.
    pub vcpu_states: Vec<(usize, &'a VcpuState)>,
    /// The registers.
    pub registers: Vec<RegisterRow>,
    /// The extensions.
    pub extensions: Vec<ExtensionRow>,
}

impl ContentsView<'_> {
    /// Whether a core register was asked for.
    ///
    /// By name too: under TCG `SP_EL1` is a system register's name, but no list has that register.
    pub fn is_selected(&self, general: &CoreRegister) -> bool {
        self.selection.iter().any(|wanted| {
            general.id == Some(wanted.id) || general.name == self.value_format.name(wanted.id)
        })
    }

    /// The registers that were asked for and are nowhere.
    pub fn missing_registers(&self) -> Vec<RegisterId> {
        let is_there = |wanted: &&RegisterSelection| {
            let listed = self.registers.iter().any(|row| row.key == wanted.id);
            let mut general = self
                .vcpu_states
                .iter()
                .flat_map(|(_, core)| &core.registers);
            listed
                || general.any(|register| {
                    register.id == Some(wanted.id)
                        || register.name == self.value_format.name(wanted.id)
                })
        };
        let missing = self.selection.iter().filter(|wanted| !is_there(wanted));
        missing.map(|wanted| wanted.id).collect()
    }

    /// The fields to show of a register: those asked for, or all.
    pub fn selected_fields(&self, id: RegisterId, value: u64) -> Vec<FieldValue> {
        let mut chosen = self
            .selection
            .iter()
            .filter(|wanted| wanted.id == id)
            .peekable();
        if chosen.peek().is_none() && !self.show_fields {
            return Vec::new();
        }
        let chosen: Option<Vec<Field>> = chosen.map(|wanted| wanted.field).collect();
        match chosen {
            Some(fields) if !fields.is_empty() => fields
                .into_iter()
                .map(|field| FieldValue::new(id, field, value))
                .collect(),
            _ => decode_fields(id, value),
        }
    }
}
