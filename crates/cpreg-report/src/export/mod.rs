//! The table of tolerances for programs that keep such a table themselves: `cpreg tolerances --export`.
//!
//! | file | contents |
//! |---|---|
//! | `qemu.rs` | C for `target/arm` of QEMU 11.1 and later |
//! | `firecracker.rs` | a shell script for Firecracker's `snapshot-editor` |
//! | `json.rs` | JSON for any other program, with all that an entry says |
//! | `table.rs` | the entries as the first two formats share them |
//!
//! The programs' own tables can say less than ours. An entry that one cannot express becomes a
//! comment that says what cpreg does and why the entry is left out.

mod firecracker;
mod json;
mod qemu;
mod table;

use cpreg::register::RegisterId;
use cpreg::tolerance::Tolerances;

pub use firecracker::Firecracker;
pub use json::Json;
pub use qemu::Qemu;

use crate::printer::Printer;

/// A format that the table of tolerances is exported in.
pub trait Exporter {
    /// Prints the entries about these registers; all entries, if no register is named.
    ///
    /// # Errors
    /// If the entries cannot be serialised.
    fn export(
        &self,
        tolerances: &Tolerances,
        wanted: &[RegisterId],
        printer: &mut Printer,
    ) -> serde_json::Result<()>;
}
