//! `cargo xtask gen-id-fields`: KVM's rule for the values of ID registers, by kernel release.
//!
//! From source trees of Linux the generator makes `data/id-fields.tsv`, and from that file the Rust
//! table `crates/cpreg/src/destination/accept/id_fields.rs`. Both are checked in. Without trees the
//! generator only makes the Rust table. `--check` writes nothing, and fails if a file is not
//! current.
//!
//! Rows of the file, separated by tabs; the first line names the source of the facts:
//!
//! - `release` version tree rule, oldest first. The rule is `current` if KVM takes only the current
//!   value, and `types` if KVM compares each field by its type.
//! - `rule` name first last: a special rule, with the first and the last examined release that has
//!   it.
//! - `field` register name msb lsb sign type safe origin first last. The type is `lower`, `higher`,
//!   `higher-or-zero` or `exact`; `safe` is the safe value of type `exact`. The origin is `kvm` if
//!   KVM overrides the type of `cpufeature.c`.
//!
//! | module | content |
//! |---|---|
//! | [`tree`] | field types and special rules in one source tree of Linux |
//! | [`sysreg`] | positions of fields and values of enumerations, from `tools/sysreg` |
//! | [`cpp`] | parsing of C source: removal of comments, and the arguments of macros |
//! | [`table`] | table of the rules of all releases, and its text file |
//! | [`render`](mod@render) | the table as Rust code |

mod cpp;
mod render;
mod sysreg;
mod table;
#[cfg(test)]
mod tests;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use self::render::render;
use self::table::Table;
use self::tree::KernelTree;
use crate::error::Result;
use crate::paths::repository;

const TABLE: &str = "data/id-fields.tsv";
const OUTPUT: &str = "crates/cpreg/src/destination/accept/id_fields.rs";

/// Writes the files; with `check`, only compares them with the existing ones.
pub(crate) fn run(check: bool, trees: &[PathBuf]) -> Result<()> {
    let root = repository();
    if !trees.is_empty() {
        let trees = trees.iter().map(|tree| KernelTree::read(tree));
        let table = Table::from_trees(trees.collect::<Result<_>>()?)?;
        update(check, root, TABLE, &table.to_text())?;
    }
    let text = read(&root.join(TABLE))?;
    let table = Table::from_text(&text).map_err(|error| format!("{TABLE}:{error}"))?;
    update(check, root, OUTPUT, &render(&table)?)
}

fn update(check: bool, root: &Path, name: &str, text: &str) -> Result<()> {
    let path = root.join(name);
    if check {
        if read(&path)? != text {
            return Err(format!("{name} is not current: run cargo xtask gen-id-fields").into());
        }
        return Ok(());
    }
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}
