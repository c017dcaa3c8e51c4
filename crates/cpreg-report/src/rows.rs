//! [`Row`] of a register or extension: its values, each with the vCPUs that hold the value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cpreg::destination::DestinationVcpu;
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Content;

/// A register or extension with its values; vCPUs with the same value are merged.
#[derive(Debug)]
pub struct Row<K, V> {
    /// The register or extension.
    pub key: K,
    /// Values, each with the vCPUs that hold the value, ordered by the lowest vCPU.
    pub values: Vec<(VcpuSet, V)>,
}

/// Merges items of the form (vCPU, key, value) into rows, in ascending order of the keys.
pub fn rows<K: Ord, V: Ord>(items: impl IntoIterator<Item = (usize, K, V)>) -> Vec<Row<K, V>> {
    let mut by_key: BTreeMap<K, BTreeMap<V, VcpuSet>> = BTreeMap::new();
    for (vcpu, key, value) in items {
        by_key
            .entry(key)
            .or_default()
            .entry(value)
            .or_default()
            .insert(vcpu);
    }
    by_key
        .into_iter()
        .map(|(key, values)| {
            let mut values: Vec<_> = values.into_iter().map(|(v, vcpus)| (vcpus, v)).collect();
            values.sort_by_cached_key(|(vcpus, _)| vcpus.iter().next());
            Row { key, values }
        })
        .collect()
}

/// Row of a register; a value is `None` if a profile lacks it.
pub type RegisterRow = Row<RegisterId, Option<Value>>;

/// Returns the rows of the registers of the given vCPUs.
pub fn registers<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a DestinationVcpu)>,
) -> Vec<RegisterRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let registers = vcpu.registers().iter();
        registers.map(move |register| (number, register.id, register.value.clone()))
    }))
}

/// Row of an extension.
pub type ExtensionRow = Row<Cow<'static, str>, Content>;

/// Returns the rows of the extensions of the given vCPUs.
pub fn extensions<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a DestinationVcpu)>,
) -> Vec<ExtensionRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let extensions = vcpu.extensions.iter();
        extensions.map(move |extension| (number, extension.name.clone(), extension.content.clone()))
    }))
}
