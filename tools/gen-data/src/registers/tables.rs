//! Tables for the generated file: all rows, checked together and sorted.

use std::collections::BTreeMap;

use super::data::{Data, Field};
use super::encoding::{Result, SYSREG};

/// Tables for the generated file.
pub(crate) struct Tables {
    /// Printed names under KVM, by id.
    pub(crate) registers: BTreeMap<u64, String>,
    /// Printed names under TCG that differ from those under KVM, by id.
    pub(crate) architectural: BTreeMap<u64, String>,
    pub(crate) names: Names,
    pub(crate) data: Data,
}

impl Tables {
    /// Checks the consistency of all rows, and sorts them.
    ///
    /// # Errors
    /// Returns an error if the files are inconsistent.
    pub(crate) fn from_data(mut data: Data) -> Result<Self> {
        lay_out_fields(&mut data)?;
        let mut registers = data.kvm.clone();
        let mut architectural = BTreeMap::new();
        let mut names = Names::default();
        let core: BTreeMap<&str, u64> = data
            .kvm
            .iter()
            .map(|(id, name)| (name.as_str(), *id))
            .collect();
        for (id, name) in &data.names {
            if data.kvm.contains_key(id) {
                // KVM uses this id for another register.
                architectural.insert(*id, name.clone());
            } else if let Some(core) = core.get(name.as_str()) {
                // A core register and a system register have the same name. The bare name is KVM's
                // core register. Under TCG, which has no such core registers, it is the system
                // register.
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
        for (id, name) in &data.kvm {
            names.add(name, *id)?;
        }
        for (name, id) in &data.aliases {
            if !registers.contains_key(id) {
                return Err(format!("alias {name} of a register without name"));
            }
            names.add(name, *id)?;
        }
        // Common names of the two swapped timer ids.
        let timer = |low: u64| data.names.get(&(SYSREG | low)).cloned();
        if let (Some(compare), Some(count)) = (timer(0xdf1a), timer(0xdf02)) {
            names.add(&count, SYSREG | 0xdf1a)?;
            names.add(&compare, SYSREG | 0xdf02)?;
        }
        check_fields(&data, &names)?;
        Ok(Self {
            registers,
            architectural,
            names,
            data,
        })
    }
}

/// Marks signed fields, and copies shared layouts. Of fields that share bits, marks all but one as
/// alternatives.
fn lay_out_fields(data: &mut Data) -> Result<()> {
    for (register, field) in &data.signed_fields {
        data.fields
            .get_mut(register)
            .and_then(|fields| fields.iter_mut().find(|known| known.name == *field))
            .ok_or_else(|| format!("fields-extra.tsv: unknown signed field {register}.{field}"))?
            .is_signed = true;
    }
    for (register, other) in &data.layouts {
        let fields = data
            .fields
            .get(other)
            .ok_or_else(|| format!("no fields of {other}"))?;
        data.fields.insert(register.clone(), fields.clone());
    }
    for fields in data.fields.values_mut() {
        mark_alternatives(fields);
    }
    Ok(())
}

/// Checks that fields belong to registers, and named values to fields.
fn check_fields(data: &Data, names: &Names) -> Result<()> {
    for register in data.fields.keys() {
        let is_register =
            names.by_key.contains_key(&register.to_uppercase()) || register.contains("[<n>]");
        if !is_register {
            return Err(format!("fields of {register}, which is not a register"));
        }
    }
    for (register, field, _, text) in &data.values {
        let fields = data.fields.get(register);
        if !field.is_empty()
            && !fields.is_some_and(|fields| fields.iter().any(|known| known.name == *field))
        {
            return Err(format!(
                "value {text} of {register}.{field}, which is not a field"
            ));
        }
    }
    Ok(())
}

/// Keeps one of the fields that share bits as the register's layout, and marks the others.
///
/// Fields from cpreg's own files are preferred, then fields with real names to placeholders, then
/// wider fields, then earlier rows.
fn mark_alternatives(fields: &mut [Field]) {
    fields.sort_by_key(|field| {
        let is_placeholder = field.name.contains('<')
            || matches!(field.name.as_str(), "IMPLEMENTATION DEFINED" | "Reserved");
        (
            !field.is_override,
            is_placeholder,
            std::cmp::Reverse(field.msb - field.lsb),
        )
    });
    let mut used_bits = 0_u64;
    for field in fields.iter_mut() {
        let mask = (u64::MAX >> (63 - (field.msb - field.lsb))) << field.lsb;
        field.is_alternative = used_bits & mask != 0;
        if !field.is_alternative {
            used_bits |= mask;
        }
    }
    fields.sort_by_key(|field| std::cmp::Reverse((field.msb, field.lsb)));
}

/// All names under KVM. Each name has one id.
#[derive(Default)]
pub(crate) struct Names {
    /// Name and id, by name in upper case.
    pub(crate) by_key: BTreeMap<String, (String, u64)>,
}

impl Names {
    fn add(&mut self, name: &str, id: u64) -> Result<()> {
        if !name.is_ascii() || name.contains(['"', '\\', '.']) {
            return Err(format!("{name} is not a name"));
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
