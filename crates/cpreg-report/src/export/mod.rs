//! Exports of the table of tolerances for other programs: `cpreg tolerances --export`.
//!
//! | file | contents |
//! |---|---|
//! | `qemu.rs` | C for `target/arm` of QEMU 11.1 and later |
//! | `firecracker.rs` | a shell script for Firecracker's `snapshot-editor` |
//! | `json.rs` | JSON for any other program, with complete entries |
//! | `table.rs` | entries in the form that the first two formats share |
//!
//! The tables of other programs are less expressive than cpreg's. An entry that a format cannot
//! express becomes a comment with the rule and the reason for the omission.

mod firecracker;
mod json;
mod qemu;
mod table;

use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;

pub use firecracker::{Firecracker, pair_script};
pub use json::Json;
pub use qemu::Qemu;

use crate::printer::Printer;

/// A format that the table of tolerances is exported in.
pub trait Exporter {
    /// Prints the entries of these registers, or all entries if no register is given.
    ///
    /// # Errors
    /// Returns an error if the entries cannot be serialised.
    fn export(
        &self,
        tolerances: &Tolerances,
        selection: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()>;
}
