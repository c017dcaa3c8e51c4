//! Parts of lines that the sections of the report share.

use cpreg::plan::VcpuSet;

use crate::check::CheckFindings;
use crate::printer::{style, styled};
use crate::text::wrap::{Item, list};

/// Returns ` (vCPU 0-3)`, or nothing for all vCPUs.
pub(crate) fn vcpu_suffix(findings: &CheckFindings<'_>, vcpus: &VcpuSet) -> String {
    let all = vcpus.iter().count() == findings.source.vcpus;
    if all {
        String::new()
    } else {
        format!(" (vCPU {vcpus})")
    }
}

/// Returns lines of names, each followed by its text, with commas between them.
pub(super) fn wrap_names(texts: &[(String, String)]) -> Vec<String> {
    /// Maximum columns of a line, without the comma and the space that follow a name.
    const COLUMNS: usize = 100 - ", ".len();
    let items = texts.iter().map(|(name, text)| Item {
        text: format!("{}{text}", styled(style::NAME, name)),
        width: name.len() + text.len(),
    });
    list(&items.collect::<Vec<_>>(), COLUMNS)
}
