//! Parts of lines that the parts of the report share.

use cpreg::plan::VcpuSet;

use crate::check::Answer;
use crate::printer::{style, styled};

/// `, vCPUs 0-3` where not all of them agree.
pub fn on_vcpus(answer: &Answer<'_>, vcpus: &VcpuSet) -> String {
    let all = vcpus.iter().count() == answer.source.vcpus;
    if all {
        String::new()
    } else {
        format!(" (vCPU {vcpus})")
    }
}

/// Names with what is said of them, commas between, in lines of at most this many columns where that is possible.
pub(super) fn wrapped(texts: &[(String, String)]) -> Vec<String> {
    const COLUMNS: usize = 100;
    let mut lines: Vec<String> = Vec::new();
    let mut column = COLUMNS;
    for (name, said) in texts {
        let width = name.len() + said.len() + ", ".len();
        let text = format!("{}{said}", styled(style::NAME, name));
        match lines.last_mut() {
            Some(line) if column + width <= COLUMNS => {
                line.push_str(", ");
                line.push_str(&text);
                column += width;
            }
            last => {
                if let Some(line) = last {
                    line.push(',');
                }
                lines.push(text);
                column = width;
            }
        }
    }
    lines
}
