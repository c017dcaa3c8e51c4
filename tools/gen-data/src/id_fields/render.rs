//! Rendering of the table as Rust code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cpreg::register::RegisterId;
use textwrap::{Options, WordSplitter};

use super::table::Table;
use super::tree::FieldType;
use crate::error::Result;
use crate::registers::hex;

/// Maximum number of columns of a comment line.
const MAX_COLUMNS: usize = 100;

/// Renders the table as Rust code.
///
/// # Errors
/// Returns an error if a register or a type is not known.
pub(super) fn render(table: &Table) -> Result<String> {
    let mut out = String::new();
    out.push_str(
        "//! KVM's rule for ID registers, by release. Generated from data/id-fields.tsv by\n",
    );
    out.push_str("//! `cargo xtask gen-id-fields`: do not edit.\n//!\n");
    let options = Options::new(MAX_COLUMNS)
        .initial_indent("//! ")
        .subsequent_indent("//! ")
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    let provenance = table.provenance.split(" Rows:").next().unwrap_or_default();
    out.push_str(&textwrap::fill(provenance, options));
    out.push_str("\n\nuse super::id_rule::ReleaseRule::{self, Current, Types};\n");
    out.push_str("use super::id_rule::SpecialRule;\n");
    out.push_str(
        "use super::id_rule::{FieldRule, exact, higher, higher_or_zero, lower, signed};\n",
    );
    out.push_str("use crate::destination::Version;\n");

    let releases = table.releases.iter().map(|(version, _, has_types)| {
        let version = version.replace('.', ", ");
        let rule = if *has_types { "Types" } else { "Current" };
        format!("(Version::new({version}), {rule})")
    });
    render_table(
        &mut out,
        "Examined releases, oldest first. Other tables refer to them by index.",
        "RELEASES: &[(Version, ReleaseRule)]",
        releases,
    );
    let rules = table.rules.iter().map(|(rule, [first, last])| {
        let name: String = rule.split('-').map(capitalized).collect();
        format!("(SpecialRule::{name}, {first}, {last})")
    });
    render_table(
        &mut out,
        "Special rules, with the first and the last release that has each.",
        "SPECIAL_RULES: &[(SpecialRule, u8, u8)]",
        rules,
    );
    let mut registers: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (field, range) in &table.fields {
        let id: RegisterId = field.register.parse().map_err(|error| format!("{error}"))?;
        registers
            .entry(id.raw())
            .or_default()
            .push(render_field(field, *range)?);
    }
    render_table(
        &mut out,
        "Fields that KVM compares, by register id; most significant first.",
        "FIELDS: &[(u64, &[FieldRule])]",
        registers
            .into_iter()
            .map(|(id, fields)| format!("({}, &[{}])", hex(id), fields.join(", "))),
    );
    Ok(out)
}

fn render_field(field: &FieldType, [first, last]: [usize; 2]) -> Result<String> {
    let position = format!("{}, {}", field.msb, field.lsb);
    let rule = match (&*field.kind, field.is_signed) {
        ("lower", false) => format!("lower({position}, {first}, {last})"),
        ("lower", true) => format!("signed({position}, {first}, {last})"),
        ("higher", false) => format!("higher({position}, {first}, {last})"),
        ("higher-or-zero", false) => format!("higher_or_zero({position}, {first}, {last})"),
        ("exact", false) => format!("exact({position}, {}, {first}, {last})", hex(field.safe)),
        (kind, _) => {
            let FieldType { register, name, .. } = field;
            return Err(format!("{register}.{name}: no rule for the type {kind}").into());
        }
    };
    Ok(rule)
}

fn render_table(
    out: &mut String,
    comment: &str,
    declaration: &str,
    rows: impl Iterator<Item = String>,
) {
    let _ = writeln!(
        out,
        "\n/// {comment}\n#[rustfmt::skip]\npub(super) static {declaration} = &["
    );
    for row in rows {
        let _ = writeln!(out, "    {row},");
    }
    out.push_str("];\n");
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}
