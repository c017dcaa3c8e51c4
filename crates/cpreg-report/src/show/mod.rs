//! Report of `show`: the contents of a file, or the registers that the user selects.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the view, for both forms |
//! | [`model`] | its model, schema `cpreg.show/2` |
//! | `json` | conversion of the view to the model |
//! | [`text`] | text of the view |

mod json;
pub mod model;
pub mod text;

use cpreg::register::{Field, RegisterId};

use crate::contents::{Contents, CoreRegister, VcpuState};
use crate::field::{FieldValue, RegisterSelection, decode_fields};
use crate::rows::{ExtensionRow, RegisterRow};
use crate::value::ValueFormat;

/// Contents of a file, as `show` presents them.
#[derive(Debug)]
pub struct ContentsView<'a> {
    /// Contents of the file.
    pub contents: &'a Contents,
    /// Format of names and values.
    pub value_format: ValueFormat,
    /// Registers that the user selected; an empty list selects all registers.
    pub selection: Vec<RegisterSelection>,
    /// `true` if the text also lists the fields of each register.
    pub show_fields: bool,
    /// Number of vCPUs in the view.
    pub vcpu_count: usize,
    /// Numbers of vCPUs, each with the core registers of the vCPU.
    pub vcpu_states: Vec<(usize, &'a VcpuState)>,
    /// Listed registers.
    pub registers: Vec<RegisterRow>,
    /// Extensions.
    pub extensions: Vec<ExtensionRow>,
}

impl ContentsView<'_> {
    /// Returns `true` if the user selected the core register.
    ///
    /// A register with the name of a selected id is selected too. Under TCG `SP_EL1` names a system
    /// register, but no register list contains it.
    pub fn is_selected(&self, register: &CoreRegister) -> bool {
        self.selection.iter().any(|selected| {
            register.id == Some(selected.id) || register.name == self.value_format.name(selected.id)
        })
    }

    /// Returns the selected registers that the file lacks.
    pub fn missing_registers(&self) -> Vec<RegisterId> {
        let is_present = |selected: &&RegisterSelection| {
            let is_listed = self.registers.iter().any(|row| row.key == selected.id);
            let mut core_registers = self
                .vcpu_states
                .iter()
                .flat_map(|(_, core)| &core.registers);
            is_listed
                || core_registers.any(|register| {
                    register.id == Some(selected.id)
                        || register.name == self.value_format.name(selected.id)
                })
        };
        let missing = self
            .selection
            .iter()
            .filter(|selected| !is_present(selected));
        missing.map(|selected| selected.id).collect()
    }

    /// Returns the fields of a register that the text lists: the selected fields, or all fields.
    pub fn selected_fields(&self, id: RegisterId, value: u64) -> Vec<FieldValue> {
        let mut selected = self
            .selection
            .iter()
            .filter(|selected| selected.id == id)
            .peekable();
        if selected.peek().is_none() && !self.show_fields {
            return Vec::new();
        }
        let fields: Option<Vec<Field>> = selected.map(|selected| selected.field).collect();
        match fields {
            Some(fields) if !fields.is_empty() => fields
                .into_iter()
                .map(|field| FieldValue::new(id, field, value))
                .collect(),
            _ => decode_fields(id, value),
        }
    }
}
