//! Rows of the files in `data/`.

use std::collections::BTreeMap;

use super::encoding::{Result, coprocessor, number, parse_u8, system_register};

/// A field of a register.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) msb: u8,
    pub(crate) lsb: u8,
    /// `true` if the field is from one of cpreg's own files, which take precedence for shared bits.
    pub(crate) is_override: bool,
    /// `true` if a preferred field has some of the same bits.
    pub(crate) is_alternative: bool,
    pub(crate) is_signed: bool,
}

/// AArch32 register, with the AArch64 register that it is a view of.
pub(crate) struct Counterpart {
    pub(crate) id: u64,
    pub(crate) aarch64_name: String,
    /// Lowest bit of the AArch64 register in the view.
    pub(crate) lsb: u8,
    pub(crate) has_same_layout: bool,
}

/// Rows of all files, before they are checked together.
#[derive(Default)]
pub(crate) struct Data {
    pub(crate) provenance: Vec<(String, String)>,
    /// Printed names of system registers and AArch32 registers, by id.
    pub(crate) names: BTreeMap<u64, String>,
    /// Printed names of KVM's own registers, by id.
    pub(crate) kvm: BTreeMap<u64, String>,
    /// Names that are accepted but not printed.
    pub(crate) aliases: Vec<(String, u64)>,
    /// Names that are valid on some CPUs only: id, name, CPUs.
    pub(crate) implementation_defined: Vec<(u64, String, String)>,
    pub(crate) counterparts: Vec<Counterpart>,
    pub(crate) fields: BTreeMap<String, Vec<Field>>,
    /// Registers with the fields of another register.
    pub(crate) layouts: Vec<(String, String)>,
    pub(crate) signed_fields: Vec<(String, String)>,
    pub(crate) values: Vec<(String, String, u64, String)>,
    pub(crate) dropped_fields: usize,
}

impl Data {
    /// Adds the rows of a file. An error has the number of the line.
    pub(crate) fn add(
        &mut self,
        file: &str,
        text: &str,
    ) -> std::result::Result<(), (usize, String)> {
        for (index, line) in text.lines().enumerate() {
            if index == 0 {
                let Some(comment) = line.strip_prefix("# ") else {
                    return Err((1, "the first line must name the source of the facts".into()));
                };
                self.provenance.push((file.to_owned(), comment.to_owned()));
            } else if !line.starts_with('#') && !line.is_empty() {
                let columns: Vec<&str> = line.split('\t').collect();
                self.add_row(file, &columns)
                    .map_err(|message| (index + 1, message))?;
            }
        }
        Ok(())
    }

    fn add_row(&mut self, file: &str, columns: &[&str]) -> Result<()> {
        match (file, columns) {
            ("sysregs.tsv", &[name, op0, op1, crn, crm, op2]) => {
                let id = system_register([op0, op1, crn, crm, op2])?;
                insert(&mut self.names, id, name)
            }
            ("names-extra.tsv", &[name, op0, op1, crn, crm, op2, kind]) => {
                let id = system_register([op0, op1, crn, crm, op2])?;
                self.add_name(id, name, kind)
            }
            ("kvm-registers.tsv", ["register", id, name, aliases @ ..]) => {
                let id = number(id)?;
                self.aliases
                    .extend(aliases.iter().map(|alias| ((*alias).to_owned(), id)));
                insert(&mut self.kvm, id, name)
            }
            ("kvm-registers.tsv", ["alias", id, aliases @ ..]) => {
                let id = number(id)?;
                let is_no_name =
                    |alias: &&&str| self.names.get(&id).is_none_or(|name| name != **alias);
                let aliases: Vec<_> = aliases.iter().filter(is_no_name).collect();
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
                let (id, _) = id.ok_or_else(|| format!("unknown register {name}"))?;
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
                        aarch64_name: counterpart.into(),
                        lsb: parse_u8(lsb, 63)?,
                        has_same_layout: layout == "same",
                    });
                }
                if kind == "nameless" {
                    Ok(())
                } else {
                    self.add_name(id, name, kind)
                }
            }
            ("fields.tsv", &[register, field, msb, lsb]) => {
                self.add_field(register, field, msb, lsb, false)
            }
            ("fields-extra.tsv" | "kvm-registers.tsv", &["field", register, field, msb, lsb]) => {
                for register in self.expand(register) {
                    self.add_field(&register, field, msb, lsb, true)?;
                }
                Ok(())
            }
            ("fields-extra.tsv", &["signed", register, field]) => {
                self.signed_fields.push((register.into(), field.into()));
                Ok(())
            }
            _ => Err("not a row of this file".to_owned()),
        }
    }

    fn add_name(&mut self, id: u64, name: &str, kind: &str) -> Result<()> {
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
            Err(format!("unknown kind {kind}"))
        }
    }

    /// Returns the registers that match a name with `<n>` for a number.
    ///
    /// A name with `[<n>]` matches only itself, because the crate parses the index.
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

    fn add_field(
        &mut self,
        register: &str,
        name: &str,
        msb: &str,
        lsb: &str,
        is_override: bool,
    ) -> Result<()> {
        let (msb, lsb) = (parse_u8(msb, 127)?, parse_u8(lsb, 127)?);
        if msb < lsb {
            return Err(format!("field {name} has msb below lsb"));
        }
        // Bits above 63 belong to the 128-bit forms of PAR and TTBR, which no id has.
        if msb > 63 {
            self.dropped_fields += 1;
            return Ok(());
        }
        let fields = self.fields.entry(register.to_owned()).or_default();
        let is_same =
            |field: &&mut Field| field.name == name && (field.msb, field.lsb) == (msb, lsb);
        if let Some(known) = fields.iter_mut().find(is_same) {
            known.is_override |= is_override;
        } else {
            fields.push(Field {
                name: name.to_owned(),
                msb,
                lsb,
                is_override,
                is_alternative: false,
                is_signed: false,
            });
        }
        Ok(())
    }
}

fn insert(map: &mut BTreeMap<u64, String>, id: u64, name: &str) -> Result<()> {
    match map.insert(id, name.to_owned()) {
        Some(other) => Err(format!("{id:#x} is both {other} and {name}")),
        None => Ok(()),
    }
}
