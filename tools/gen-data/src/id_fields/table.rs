//! Table of the rules of all releases, and its text file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::tree::{FieldType, KernelTree};
use crate::error::Result;

/// Rules of all examined releases.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Source of the facts.
    pub(super) provenance: String,
    /// Version, full version of the tree, and `true` if KVM compares fields by type.
    pub(super) releases: Vec<(String, String, bool)>,
    /// Name of a special rule, with the indices of the first and the last release that has it.
    pub(super) rules: Vec<(String, [usize; 2])>,
    /// Field, with the indices of the first and the last release that has it.
    pub(super) fields: Vec<(FieldType, [usize; 2])>,
}

impl Table {
    /// Combines the trees, oldest first.
    ///
    /// # Errors
    /// Returns an error if two trees have the same version.
    pub(super) fn from_trees(mut trees: Vec<KernelTree>) -> Result<Self> {
        trees.sort_by_key(|tree| tree.version);
        if let Some(pair) = trees
            .windows(2)
            .find(|pair| pair[0].version == pair[1].version)
        {
            let [first, second] = [&pair[0].release, &pair[1].release];
            return Err(format!("{first} and {second} have the same version").into());
        }
        let mut rules: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut fields: BTreeMap<&FieldType, Vec<usize>> = BTreeMap::new();
        for (number, tree) in trees.iter().enumerate() {
            for rule in &tree.rules {
                rules.entry(rule).or_default().push(number);
            }
            for field in &tree.fields {
                fields.entry(field).or_default().push(number);
            }
        }
        let releases = trees.iter().map(|tree| {
            let (major, minor) = tree.version;
            let version = format!("{major}.{minor}");
            (version, tree.release.clone(), tree.has_types)
        });
        let rules = rules.into_iter().flat_map(|(rule, numbers)| {
            let ranges = ranges(&numbers).into_iter();
            ranges.map(move |range| (rule.to_owned(), range))
        });
        let fields = fields.into_iter().flat_map(|(field, numbers)| {
            let ranges = ranges(&numbers).into_iter();
            ranges.map(move |range| (field.clone(), range))
        });
        let releases: Vec<_> = releases.collect();
        Ok(Self {
            provenance: provenance(releases.iter().map(|(_, release, _)| release.as_str())),
            releases,
            rules: rules.collect(),
            fields: fields.collect(),
        })
    }

    /// Returns the text of the file.
    pub(super) fn to_text(&self) -> String {
        let mut out = format!("# {}\n", self.provenance);
        let version = |number: usize| &*self.releases[number].0;
        for (version, release, has_types) in &self.releases {
            let rule = if *has_types { "types" } else { "current" };
            let _ = writeln!(out, "release\t{version}\t{release}\t{rule}");
        }
        for (rule, [first, last]) in &self.rules {
            let (first, last) = (version(*first), version(*last));
            let _ = writeln!(out, "rule\t{rule}\t{first}\t{last}");
        }
        for (field, [first, last]) in &self.fields {
            let FieldType { register, name, .. } = field;
            let (msb, lsb, kind) = (field.msb, field.lsb, &field.kind);
            let sign = if field.is_signed {
                "signed"
            } else {
                "unsigned"
            };
            let safe = match &**kind {
                "exact" => format!("{:#x}", field.safe),
                _ => "-".to_owned(),
            };
            let origin = if field.is_override { "kvm" } else { "-" };
            let (first, last) = (version(*first), version(*last));
            let _ = writeln!(
                out,
                "field\t{register}\t{name}\t{msb}\t{lsb}\t{sign}\t{kind}\t{safe}\t{origin}\t{first}\t{last}"
            );
        }
        out
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// Returns the number of the line, and the cause.
    pub(super) fn from_text(text: &str) -> std::result::Result<Self, String> {
        let mut lines = text.lines().zip(1..);
        let first = lines.next().and_then(|(line, _)| line.strip_prefix("# "));
        let mut table = Self {
            provenance: first
                .ok_or("1: the first line must name the source")?
                .to_owned(),
            ..Self::default()
        };
        for (line, number) in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            table
                .add_row(&columns)
                .ok_or_else(|| format!("{number}: not a row of this file"))?;
        }
        Ok(table)
    }

    fn add_row(&mut self, columns: &[&str]) -> Option<()> {
        match *columns {
            ["release", version, release, rule] => {
                let has_types = match rule {
                    "types" => true,
                    "current" => false,
                    _ => return None,
                };
                self.releases
                    .push((version.to_owned(), release.to_owned(), has_types));
            }
            ["rule", rule, first, last] => {
                let range = self.range(first, last)?;
                self.rules.push((rule.to_owned(), range));
            }
            [
                "field",
                register,
                name,
                msb,
                lsb,
                sign,
                kind,
                safe,
                origin,
                first,
                last,
            ] => {
                let range = self.range(first, last)?;
                let (msb, lsb) = (msb.parse().ok()?, lsb.parse().ok()?);
                let safe = match safe {
                    "-" => 0,
                    safe => u64::from_str_radix(safe.strip_prefix("0x")?, 16).ok()?,
                };
                let field = FieldType {
                    register: register.to_owned(),
                    order: 63_u8.checked_sub(lsb)?,
                    name: name.to_owned(),
                    msb,
                    lsb,
                    is_signed: sign == "signed",
                    kind: kind.to_owned(),
                    safe,
                    is_override: origin == "kvm",
                };
                if msb < lsb || msb > 63 {
                    return None;
                }
                self.fields.push((field, range));
            }
            _ => return None,
        }
        Some(())
    }

    fn range(&self, first: &str, last: &str) -> Option<[usize; 2]> {
        let number = |version: &str| {
            let mut releases = self.releases.iter();
            releases.position(|(known, _, _)| known == version)
        };
        Some([number(first)?, number(last)?])
    }
}

/// Returns the source of the facts, as the file's first line names it.
fn provenance<'a>(releases: impl Iterator<Item = &'a str>) -> String {
    let releases: Vec<_> = releases.collect();
    format!(
        "KVM's rule for values of ID registers, by release. From arch/arm64/kernel/cpufeature.c \
         (types), arch/arm64/kvm/sys_regs.c (KVM's own types, special rules) and \
         arch/arm64/tools/sysreg (positions) of Linux {} as in Debian's linux-source packages, by \
         cargo xtask gen-id-fields. Rows: release version tree rule | rule name first last | field \
         register name msb lsb sign type safe-value origin first last",
        releases.join(", ")
    )
}

/// Returns the ranges of consecutive numbers.
fn ranges(numbers: &[usize]) -> Vec<[usize; 2]> {
    let mut ranges: Vec<[usize; 2]> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some([_, last]) if *last + 1 == *number => *last = *number,
            _ => ranges.push([*number, *number]),
        }
    }
    ranges
}
