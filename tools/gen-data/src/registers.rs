//! `cargo xtask gen-registers`: turns `data/*.tsv` into `crates/cpreg/src/register/tables.rs`.
//!
//! The tables are checked in, so that building the crate needs no generator. `--check` writes
//! nothing and fails if the checked-in file is not what would be written.
//!
//! | file | rows |
//! |---|---|
//! | `sysregs.tsv` | name op0 op1 CRn CRm op2 |
//! | `names-extra.tsv` | name op0 op1 CRn CRm op2 kind: `name`, `alias` or `impdef:CPUs` |
//! | `kvm-registers.tsv` | `register` id name alias…; `alias` id name…; `field` register field msb lsb; `value` register field value text; `layout` register register |
//! | `aarch32.tsv` | name cp width opc1 CRn CRm opc2 kind counterpart bits layout; `alias` name name |
//! | `fields.tsv` | register field msb lsb |
//! | `fields-extra.tsv` | `field` register field msb lsb; `signed` register field |
//!
//! Columns are separated by tabs; a line that begins with `#` is a comment, and the first line of
//! each file says where its facts come from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::paths::repository;

const OUTPUT: &str = "crates/cpreg/src/register/tables.rs";
const FILES: [&str; 6] = [
    "sysregs.tsv",
    "names-extra.tsv",
    "kvm-registers.tsv",
    "aarch32.tsv",
    "fields.tsv",
    "fields-extra.tsv",
];

const SYSREG: u64 = 0x6030_0000_0013_0000;

type Result<T> = std::result::Result<T, String>;

/// Writes the tables, or with `--check` compares them.
pub(crate) fn run(check: bool) -> Result<()> {
    let root = repository();
    let mut data = Data::default();
    for file in FILES {
        let path = root.join("data").join(file);
        let text = read(&path)?;
        data.add(file, &text)
            .map_err(|(line, message)| format!("data/{file}:{line}: {message}"))?;
    }
    let new = data.finish()?.render()?;
    let path = root.join(OUTPUT);
    if check {
        if read(&path)? != new {
            return Err(format!(
                "{OUTPUT} is not what data/ gives: run cargo xtask gen-registers"
            ));
        }
        return Ok(());
    }
    fs::write(&path, new).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A bit field as the files give it.
#[derive(Clone, PartialEq, Eq)]
struct Field {
    name: String,
    msb: u8,
    lsb: u8,
    /// From a file of our own, which takes precedence where bits are shared.
    ours: bool,
    alternative: bool,
    signed: bool,
}

struct Counterpart {
    id: u64,
    other: String,
    lsb: u8,
    same: bool,
}

/// What the files say, before it is checked as a whole.
#[derive(Default)]
struct Data {
    provenance: Vec<(String, String)>,
    /// Printed names of system registers and AArch32 registers, by id.
    names: BTreeMap<u64, String>,
    /// Printed names of KVM's own registers, by id.
    kvm: BTreeMap<u64, String>,
    /// Names that are accepted but not printed.
    aliases: Vec<(String, u64)>,
    /// Names that hold on some CPUs only: id, name, CPUs.
    implementation_defined: Vec<(u64, String, String)>,
    counterparts: Vec<Counterpart>,
    fields: BTreeMap<String, Vec<Field>>,
    /// Registers whose fields are another one's.
    layouts: Vec<(String, String)>,
    signed: Vec<(String, String)>,
    values: Vec<(String, String, u64, String)>,
    dropped: usize,
}

impl Data {
    /// Adds a file. An error has the number of the line that it is about.
    fn add(&mut self, file: &str, text: &str) -> std::result::Result<(), (usize, String)> {
        for (index, line) in text.lines().enumerate() {
            if index == 0 {
                let Some(comment) = line.strip_prefix("# ") else {
                    return Err((
                        1,
                        "the first line must say where the facts come from".into(),
                    ));
                };
                self.provenance.push((file.to_owned(), comment.to_owned()));
            } else if !line.starts_with('#') && !line.is_empty() {
                let columns: Vec<&str> = line.split('\t').collect();
                self.row(file, &columns)
                    .map_err(|message| (index + 1, message))?;
            }
        }
        Ok(())
    }

    fn row(&mut self, file: &str, columns: &[&str]) -> Result<()> {
        match (file, columns) {
            ("sysregs.tsv", &[name, op0, op1, crn, crm, op2]) => {
                let id = system_register([op0, op1, crn, crm, op2])?;
                insert(&mut self.names, id, name)
            }
            ("names-extra.tsv", &[name, op0, op1, crn, crm, op2, kind]) => {
                let id = system_register([op0, op1, crn, crm, op2])?;
                self.named(id, name, kind)
            }
            ("kvm-registers.tsv", ["register", id, name, aliases @ ..]) => {
                let id = number(id)?;
                self.aliases
                    .extend(aliases.iter().map(|alias| ((*alias).to_owned(), id)));
                insert(&mut self.kvm, id, name)
            }
            ("kvm-registers.tsv", ["alias", id, aliases @ ..]) => {
                let id = number(id)?;
                let known = |alias: &&&str| self.names.get(&id).is_none_or(|name| name != **alias);
                let aliases: Vec<_> = aliases.iter().filter(known).collect();
                self.aliases
                    .extend(aliases.into_iter().map(|alias| ((*alias).to_owned(), id)));
                Ok(())
            }
            ("kvm-registers.tsv", &["value", register, field, value, text]) => {
                let field = if field == "-" { "" } else { field };
                self.values
                    .push((register.into(), field.into(), number(value)?, text.into()));
                Ok(())
            }
            ("kvm-registers.tsv", &["layout", register, other]) => {
                self.layouts.push((register.into(), other.into()));
                Ok(())
            }
            ("aarch32.tsv", &["alias", alias, name]) => {
                let id = self.names.iter().find(|(_, known)| *known == name);
                let (id, _) = id.ok_or_else(|| format!("no register {name}"))?;
                self.aliases.push((alias.into(), *id));
                Ok(())
            }
            (
                "aarch32.tsv",
                &[
                    name,
                    cp,
                    width,
                    opc1,
                    crn,
                    crm,
                    opc2,
                    kind,
                    counterpart,
                    bits,
                    layout,
                ],
            ) => {
                let id = coprocessor(width, [cp, opc1, crn, crm, opc2])?;
                if counterpart != "-" {
                    let lsb = bits.split_once(':').ok_or("bits must be msb:lsb")?.1;
                    self.counterparts.push(Counterpart {
                        id,
                        other: counterpart.into(),
                        lsb: small(lsb, 63)?,
                        same: layout == "same",
                    });
                }
                if kind == "nameless" {
                    Ok(())
                } else {
                    self.named(id, name, kind)
                }
            }
            ("fields.tsv", &[register, field, msb, lsb]) => {
                self.field(register, field, msb, lsb, false)
            }
            ("fields-extra.tsv" | "kvm-registers.tsv", &["field", register, field, msb, lsb]) => {
                for register in self.expand(register) {
                    self.field(&register, field, msb, lsb, true)?;
                }
                Ok(())
            }
            ("fields-extra.tsv", &["signed", register, field]) => {
                self.signed.push((register.into(), field.into()));
                Ok(())
            }
            _ => Err("not a row of this file".to_owned()),
        }
    }

    fn named(&mut self, id: u64, name: &str, kind: &str) -> Result<()> {
        if kind == "name" {
            insert(&mut self.names, id, name)
        } else if kind == "alias" {
            self.aliases.push((name.into(), id));
            Ok(())
        } else if let Some(cpus) = kind.strip_prefix("impdef:") {
            self.implementation_defined
                .push((id, name.into(), cpus.into()));
            Ok(())
        } else {
            Err(format!("no kind {kind}"))
        }
    }

    /// The registers that a name with `<n>` for a number stands for.
    ///
    /// The one with `[<n>]` stands for itself: the crate knows what it means.
    fn expand(&self, pattern: &str) -> Vec<String> {
        match pattern.split_once("<n>") {
            Some((before, after)) if !before.ends_with('[') => self
                .names
                .values()
                .filter(|name| {
                    name.strip_prefix(before)
                        .and_then(|rest| rest.strip_suffix(after))
                        .is_some_and(|middle| {
                            !middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_digit())
                        })
                })
                .cloned()
                .collect(),
            _ => vec![pattern.to_owned()],
        }
    }

    fn field(
        &mut self,
        register: &str,
        name: &str,
        msb: &str,
        lsb: &str,
        ours: bool,
    ) -> Result<()> {
        let (msb, lsb) = (small(msb, 127)?, small(lsb, 127)?);
        if msb < lsb {
            return Err(format!("field {name} ends before it begins"));
        }
        // The 128-bit forms of PAR and TTBR: no id is that wide.
        if msb > 63 {
            self.dropped += 1;
            return Ok(());
        }
        let fields = self.fields.entry(register.to_owned()).or_default();
        let same = |field: &&mut Field| field.name == name && (field.msb, field.lsb) == (msb, lsb);
        if let Some(known) = fields.iter_mut().find(same) {
            known.ours |= ours;
        } else {
            fields.push(Field {
                name: name.to_owned(),
                msb,
                lsb,
                ours,
                alternative: false,
                signed: false,
            });
        }
        Ok(())
    }

    /// Checks everything that one row cannot show, and puts it in order.
    fn finish(mut self) -> Result<Tables> {
        for (register, field) in &self.signed {
            self.fields
                .get_mut(register)
                .and_then(|fields| fields.iter_mut().find(|known| known.name == *field))
                .ok_or_else(|| format!("fields-extra.tsv: no field {register}.{field} to sign"))?
                .signed = true;
        }
        for (register, other) in &self.layouts {
            let fields = self
                .fields
                .get(other)
                .ok_or_else(|| format!("no fields of {other}"))?;
            self.fields.insert(register.clone(), fields.clone());
        }
        for fields in self.fields.values_mut() {
            mark_alternatives(fields);
        }

        let mut registers = self.kvm.clone();
        let mut architectural = BTreeMap::new();
        let mut names = Names::default();
        let core: BTreeMap<&str, u64> = self
            .kvm
            .iter()
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        for (id, name) in &self.names {
            if self.kvm.contains_key(id) {
                // KVM means something else by this id.
                architectural.insert(*id, name.clone());
            } else if let Some(core) = core.get(name.as_str()) {
                // A core register and a system register of one name: bare is KVM's core register,
                // or under TCG, which keeps no core registers so, the system register.
                architectural.insert(*id, name.clone());
                architectural.insert(*core, format!("CORE_{name}"));
                let name = format!("SYSREG_{name}");
                names.add(&name, *id)?;
                registers.insert(*id, name);
            } else {
                names.add(name, *id)?;
                registers.insert(*id, name.clone());
            }
        }
        for (id, name) in &self.kvm {
            names.add(name, *id)?;
        }
        for (name, id) in &self.aliases {
            if !registers.contains_key(id) {
                return Err(format!("alias {name} of a register without name"));
            }
            names.add(name, *id)?;
        }
        // What people call the two swapped timer ids.
        let timer = |low: u64| self.names.get(&(SYSREG | low)).cloned();
        if let (Some(compare), Some(count)) = (timer(0xdf1a), timer(0xdf02)) {
            names.add(&count, SYSREG | 0xdf1a)?;
            names.add(&compare, SYSREG | 0xdf02)?;
        }
        for register in self.fields.keys() {
            let known =
                names.by_key.contains_key(&register.to_uppercase()) || register.contains("[<n>]");
            if !known {
                return Err(format!("fields of {register}, which is no register"));
            }
        }
        for (register, field, _, text) in &self.values {
            let fields = self.fields.get(register);
            if !field.is_empty() && !fields.is_some_and(|f| f.iter().any(|f| f.name == *field)) {
                return Err(format!(
                    "value {text} of {register}.{field}, which is no field"
                ));
            }
        }
        Ok(Tables {
            registers,
            architectural,
            names,
            data: self,
        })
    }
}

/// Of fields that share bits, keeps one as the register's layout and marks the others.
///
/// Ours first, then real names before placeholders, then the wider one, then the earlier one.
fn mark_alternatives(fields: &mut [Field]) {
    fields.sort_by_key(|field| {
        let placeholder = field.name.contains('<')
            || matches!(field.name.as_str(), "IMPLEMENTATION DEFINED" | "Reserved");
        (
            !field.ours,
            placeholder,
            std::cmp::Reverse(field.msb - field.lsb),
        )
    });
    let mut taken = 0_u64;
    for field in fields.iter_mut() {
        let mask = (u64::MAX >> (63 - (field.msb - field.lsb))) << field.lsb;
        field.alternative = taken & mask != 0;
        if !field.alternative {
            taken |= mask;
        }
    }
    fields.sort_by_key(|field| std::cmp::Reverse((field.msb, field.lsb)));
}

/// Names under KVM, each of one id.
#[derive(Default)]
struct Names {
    by_key: BTreeMap<String, (String, u64)>,
}

impl Names {
    fn add(&mut self, name: &str, id: u64) -> Result<()> {
        if !name.is_ascii() || name.contains(['"', '\\', '.']) {
            return Err(format!("{name} is no name"));
        }
        match self
            .by_key
            .insert(name.to_uppercase(), (name.to_owned(), id))
        {
            Some((_, other)) if other != id => {
                Err(format!("{name} is both {other:#x} and {id:#x}"))
            }
            _ => Ok(()),
        }
    }
}

struct Tables {
    registers: BTreeMap<u64, String>,
    architectural: BTreeMap<u64, String>,
    names: Names,
    data: Data,
}

impl Tables {
    fn render(&self) -> Result<String> {
        let data = &self.data;
        let mut out = String::new();
        out.push_str("//! Names, fields and values of registers. Generated from data/ by\n");
        out.push_str("//! `cargo xtask gen-registers`: do not edit.\n//!\n");
        for (file, comment) in &data.provenance {
            line(
                &mut out,
                &format!("//! `{file}`: {}", comment.replace('<', "\\<")),
            )?;
        }
        out.push_str("\nuse super::field::{Field, alternative, field, signed};\n");

        table(
            &mut out,
            "Printed names under KVM, ascending by id.",
            "NAMES_BY_ID: &[(u64, &str)]",
            self.registers
                .iter()
                .map(|(id, name)| format!("({}, \"{name}\")", hex(*id))),
        )?;
        table(
            &mut out,
            "Printed names that differ where ids mean what their encoding says (TCG), ascending.",
            "ARCHITECTURAL_BY_ID: &[(u64, &str)]",
            self.architectural
                .iter()
                .map(|(id, name)| format!("({}, \"{name}\")", hex(*id))),
        )?;
        table(
            &mut out,
            "Every name under KVM, ascending by name in upper case.",
            "IDS_BY_NAME: &[(&str, u64)]",
            self.names
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
        let ids: BTreeMap<&str, u64> = data
            .names
            .iter()
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        let mut counterparts = BTreeMap::new();
        for Counterpart {
            id,
            other,
            lsb,
            same,
        } in &data.counterparts
        {
            let counterpart = match ids.get(other.as_str()) {
                Some(id) => *id,
                None => generic_name(other)
                    .ok_or_else(|| format!("aarch32.tsv: no register {other}"))?,
            };
            let row = format!("({}, {}, {lsb}, {same})", hex(*id), hex(counterpart));
            if counterparts.insert(id, row).is_some() {
                return Err(format!("aarch32.tsv: {id:#x} is there twice"));
            }
        }
        table(
            &mut out,
            "AArch32 ids (not Secure), ascending: id, AArch64 counterpart, its lowest bit, same fields.",
            "COUNTERPARTS: &[(u64, u64, u8, bool)]",
            counterparts.into_values(),
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
}

fn render_field(field: &Field) -> String {
    let constructor = match (field.alternative, field.signed) {
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

/// A number as rustfmt and clippy like it: hexadecimal, in groups of four digits.
fn hex(value: u64) -> String {
    let digits = format!("{value:x}");
    if digits.len() <= 4 {
        return format!("0x{digits}");
    }
    let padded = format!("{value:0width$x}", width = digits.len().next_multiple_of(4));
    let groups: Vec<&str> = (0..padded.len())
        .step_by(4)
        .map(|at| &padded[at..at + 4])
        .collect();
    format!("0x{}", groups.join("_"))
}

fn insert(map: &mut BTreeMap<u64, String>, id: u64, name: &str) -> Result<()> {
    match map.insert(id, name.to_owned()) {
        Some(other) => Err(format!("{id:#x} is both {other} and {name}")),
        None => Ok(()),
    }
}

fn number(text: &str) -> Result<u64> {
    text.strip_prefix("0x")
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| format!("{text} is no hexadecimal number"))
}

fn small(text: &str, most: u8) -> Result<u8> {
    text.parse()
        .ok()
        .filter(|value| *value <= most)
        .ok_or_else(|| format!("{text} is no number up to {most}"))
}

fn system_register(encoding: [&str; 5]) -> Result<u64> {
    let [op0, op1, crn, crm, op2] = encoding;
    Ok(SYSREG
        | u64::from(small(op0, 3)?) << 14
        | u64::from(small(op1, 7)?) << 11
        | u64::from(small(crn, 15)?) << 7
        | u64::from(small(crm, 15)?) << 3
        | u64::from(small(op2, 7)?))
}

/// The id of a nameless register, spelt `S3_0_C15_C2_0`.
fn generic_name(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.strip_prefix('S')?.split('_').collect();
    let &[op0, op1, crn, crm, op2] = parts.as_slice() else {
        return None;
    };
    system_register([
        op0,
        op1,
        crn.strip_prefix('C')?,
        crm.strip_prefix('C')?,
        op2,
    ])
    .ok()
}

/// QEMU's id of an AArch32 register that is not the Secure instance.
fn coprocessor(width: &str, encoding: [&str; 5]) -> Result<u64> {
    let [cp, opc1, crn, crm, opc2] = encoding;
    let size = match width {
        "32" => 2_u64,
        "64" => 3,
        _ => return Err(format!("no width {width}")),
    };
    let cp = small(cp, 15)?;
    if !matches!(cp, 14 | 15) {
        return Err(format!("no coprocessor {cp}"));
    }
    Ok(0x4000_0000_2000_0000
        | size << 52
        | u64::from(cp) << 16
        | u64::from(small(crn, 15)?) << 11
        | u64::from(small(crm, 15)?) << 7
        | u64::from(small(opc1, 15)?) << 3
        | u64::from(small(opc2, 7)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(data: &mut Data, file: &str, rows: &str) -> std::result::Result<(), (usize, String)> {
        data.add(file, &format!("# Made up.\n{rows}"))
    }

    /// The layout and the alternatives that rows of the two field files give.
    fn fields(theirs: &str, ours: &str) -> String {
        let mut data = Data::default();
        add(
            &mut data,
            "sysregs.tsv",
            "R1_EL1\t3\t0\t1\t0\t0\nR12_EL1\t3\t0\t1\t0\t1",
        )
        .unwrap();
        add(&mut data, "fields.tsv", theirs).unwrap();
        add(&mut data, "fields-extra.tsv", ours).unwrap();
        let tables = data.finish().unwrap();
        let fields = tables.data.fields.values().flatten().map(render_field);
        fields.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_checked_in_tables_are_current() {
        assert_eq!(run(true), Ok(()));
    }

    #[test]
    fn one_layout_and_its_alternatives() {
        assert_eq!(
            fields("R1_EL1\tA\t3\t2\nR1_EL1\tW\t7\t2\nR1_EL1\tP<n>\t9\t0", ""),
            "alternative(\"P<n>\", 9, 0) field(\"W\", 7, 2) alternative(\"A\", 3, 2)"
        );
        // Ours wins over a wider one of theirs; bits above 63 and repetitions are left out.
        assert_eq!(
            fields(
                "R1_EL1\tW\t7\t2\nR1_EL1\tW\t7\t2\nR1_EL1\tD\t64\t64",
                "field\tR1_EL1\tA\t3\t2\nsigned\tR1_EL1\tA"
            ),
            "alternative(\"W\", 7, 2) signed(\"A\", 3, 2)"
        );
        assert_eq!(
            fields("", "field\tR<n>_EL1\tE\t0\t0"),
            "field(\"E\", 0, 0) field(\"E\", 0, 0)"
        );
    }

    #[test]
    fn bad_rows_are_refused_with_their_line() {
        let rows = [
            ("sysregs.tsv", "A\t3\t0\t1\t0"),
            ("sysregs.tsv", "A\t3\t8\t1\t0\t0"),
            ("sysregs.tsv", "A\t3\t0\t1\t0\t0\nB\t3\t0\t1\t0\t0"),
            ("fields.tsv", "A\tF\t1\t2"),
            ("kvm-registers.tsv", "register\t12\tA"),
            ("aarch32.tsv", "A\t13\t32\t0\t0\t0\t0\tname\t-\t-\t-"),
        ];
        for (file, row) in rows {
            let (line, message) = add(&mut Data::default(), file, row).unwrap_err();
            assert_eq!(line, 1 + row.lines().count(), "{row}: {message}");
        }
        assert!(
            Data::default()
                .add("sysregs.tsv", "A\t3\t0\t1\t0\t0")
                .is_err()
        );
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let whole = [
            ("fields.tsv", "NONE\tF\t1\t0"),
            ("fields-extra.tsv", "signed\tNONE\tF"),
            (
                "kvm-registers.tsv",
                "register\t0x1\tA\tX\nregister\t0x2\tB\tX",
            ),
            ("kvm-registers.tsv", "alias\t0x1\tA"),
            (
                "kvm-registers.tsv",
                "register\t0x1\tA\nvalue\tA\tF\t0x0\ttext",
            ),
        ];
        for (file, rows) in whole {
            let mut data = Data::default();
            add(&mut data, file, rows).unwrap();
            assert!(data.finish().is_err(), "{rows}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(hex(0), "0x0");
        assert_eq!(hex(0x12), "0x12");
        assert_eq!(hex(0x1_0003), "0x0001_0003");
        assert_eq!(hex(0x6030_0000_0013_c103), "0x6030_0000_0013_c103");
    }
}
