//! Rendering of the tables as Rust code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use textwrap::{Options, WordSplitter};

use super::data::{Counterpart, Data, Field};
use super::encoding::{Result, generic_name};
use super::tables::Tables;

/// Maximum number of columns of a comment line.
const MAX_COLUMNS: usize = 100;

/// Renders the tables as Rust code.
///
/// # Errors
/// Returns an error if a counterpart is not a register, or a register occurs twice.
pub(crate) fn render(tables: &Tables) -> Result<String> {
    let data = &tables.data;
    let mut out = String::new();
    out.push_str("//! Names, fields and values of registers. Generated from data/ by\n");
    out.push_str("//! `cargo xtask gen-registers`: do not edit.\n//!\n");
    for (file, comment) in &data.provenance {
        line(&mut out, &render_provenance(file, comment))?;
    }
    out.push_str("\nuse super::field::{Field, alternative, field, signed};\n");

    table(
        &mut out,
        "Printed names under KVM, ascending by id.",
        "NAMES_BY_ID: &[(u64, &str)]",
        tables
            .registers
            .iter()
            .map(|(id, name)| format!("({}, \"{name}\")", hex(*id))),
    )?;
    table(
        &mut out,
        "Printed names that differ where ids mean what their encoding says (TCG), ascending.",
        "ARCHITECTURAL_BY_ID: &[(u64, &str)]",
        tables
            .architectural
            .iter()
            .map(|(id, name)| format!("({}, \"{name}\")", hex(*id))),
    )?;
    table(
        &mut out,
        "Every name under KVM, ascending by name in upper case.",
        "IDS_BY_NAME: &[(&str, u64)]",
        tables
            .names
            .by_key
            .values()
            .map(|(name, id)| format!("(\"{name}\", {})", hex(*id))),
    )?;
    let mut impdef: Vec<_> = data.implementation_defined.iter().collect();
    impdef.sort();
    table(
        &mut out,
        "IMPLEMENTATION DEFINED registers, ascending by id: id, name, CPUs.",
        "IMPLEMENTATION_DEFINED: &[(u64, &str, &str)]",
        impdef
            .iter()
            .map(|(id, name, cpus)| format!("({}, \"{name}\", \"{cpus}\")", hex(*id))),
    )?;
    table(
        &mut out,
        "AArch32 ids (not Secure), ascending: id, AArch64 counterpart, its lowest bit, same fields.",
        "COUNTERPARTS: &[(u64, u64, u8, bool)]",
        counterparts(data)?.into_values(),
    )?;
    let fields: BTreeMap<String, (&String, &Vec<Field>)> = data
        .fields
        .iter()
        .filter(|(_, fields)| !fields.is_empty())
        .map(|(name, fields)| (name.to_uppercase(), (name, fields)))
        .collect();
    table(
        &mut out,
        "Fields, by register name in upper case; most significant first.",
        "FIELDS: &[(&str, &[Field])]",
        fields.values().map(|(name, fields)| {
            let fields: Vec<String> = fields.iter().map(render_field).collect();
            format!("(\"{name}\", &[{}])", fields.join(", "))
        }),
    )?;
    table(
        &mut out,
        "Values with a name: register, field or nothing, value, text.",
        "VALUES: &[(&str, &str, u64, &str)]",
        data.values.iter().map(|(register, field, value, text)| {
            format!("(\"{register}\", \"{field}\", {}, \"{text}\")", hex(*value))
        }),
    )?;
    Ok(out)
}

/// Returns the provenance of a file as an item of a list in the module's documentation.
fn render_provenance(file: &str, comment: &str) -> String {
    let options = Options::new(MAX_COLUMNS)
        .initial_indent("//! - ")
        .subsequent_indent("//!   ")
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    let text = format!("`{file}`: {}", comment.replace('<', "\\<"));
    textwrap::fill(&text, options)
}

/// Returns the rows about AArch32 registers, by id.
fn counterparts(data: &Data) -> Result<BTreeMap<u64, String>> {
    let ids: BTreeMap<&str, u64> = data
        .names
        .iter()
        .map(|(id, name)| (name.as_str(), *id))
        .collect();
    let mut counterparts = BTreeMap::new();
    for Counterpart {
        id,
        aarch64_name: other,
        lsb,
        has_same_layout: same,
    } in &data.counterparts
    {
        let counterpart = match ids.get(other.as_str()) {
            Some(id) => *id,
            None => generic_name(other)
                .ok_or_else(|| format!("aarch32.tsv: unknown register {other}"))?,
        };
        let row = format!("({}, {}, {lsb}, {same})", hex(*id), hex(counterpart));
        if counterparts.insert(*id, row).is_some() {
            return Err(format!("aarch32.tsv: {id:#x} occurs twice"));
        }
    }
    Ok(counterparts)
}

pub(crate) fn render_field(field: &Field) -> String {
    let constructor = match (field.is_alternative, field.is_signed) {
        (true, _) => "alternative",
        (false, true) => "signed",
        (false, false) => "field",
    };
    format!(
        "{constructor}(\"{}\", {}, {})",
        field.name, field.msb, field.lsb
    )
}

fn table(
    out: &mut String,
    comment: &str,
    declaration: &str,
    rows: impl Iterator<Item = String>,
) -> Result<()> {
    line(
        out,
        &format!("\n/// {comment}\n#[rustfmt::skip]\npub(super) static {declaration} = &["),
    )?;
    for row in rows {
        line(out, &format!("    {row},"))?;
    }
    line(out, "];")
}

fn line(out: &mut String, text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|error| error.to_string())
}

/// Returns a number in the style of rustfmt and clippy: hexadecimal, in groups of four digits.
pub(crate) fn hex(value: u64) -> String {
    let digits = format!("{value:x}");
    if digits.len() <= 4 {
        return format!("0x{digits}");
    }
    let padded = format!("{value:0width$x}", width = digits.len().next_multiple_of(4));
    let groups: Vec<&str> = (0..padded.len())
        .step_by(4)
        .map(|start| &padded[start..start + 4])
        .collect();
    format!("0x{}", groups.join("_"))
}
