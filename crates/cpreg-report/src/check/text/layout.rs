//! Parts of lines that the parts of the report share.

use cpreg::plan::VcpuSet;

use crate::check::CheckFindings;
use crate::printer::{style, styled};
use crate::text::wrap::{Item, list};

/// Returns ` (vCPU 0-3)`, or nothing if all vCPUs are meant.
pub(crate) fn vcpu_suffix(answer: &CheckFindings<'_>, vcpus: &VcpuSet) -> String {
    let all = vcpus.iter().count() == answer.source.vcpus;
    if all {
        String::new()
    } else {
        format!(" (vCPU {vcpus})")
    }
}

/// Returns lines of names, each with the text about it, commas between them.
pub(super) fn wrap_names(texts: &[(String, String)]) -> Vec<String> {
    /// Columns of a line, without a comma and a space at its end.
    const COLUMNS: usize = 100 - ", ".len();
    let items = texts.iter().map(|(name, said)| Item {
        text: format!("{}{said}", styled(style::NAME, name)),
        width: name.len() + said.len(),
    });
    list(&items.collect::<Vec<_>>(), COLUMNS)
}
