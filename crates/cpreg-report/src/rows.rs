//! [`Row`]: registers and extensions with the values they have, and on which vCPUs.

use std::borrow::Cow;
use std::collections::BTreeMap;

use cpreg::destination::DestinationVcpu;
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg::vm::Content;

/// Something by which vCPUs have values: vCPUs with one value stand together, the lowest first.
#[derive(Debug)]
pub struct Row<K, V> {
    /// The register or extension.
    pub key: K,
    /// Each value, and the vCPUs that have it.
    pub values: Vec<(VcpuSet, V)>,
}

/// The rows of what is given vCPU by vCPU, ascending by key.
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

/// A register's row; a value is `None` where a profile does not have it.
pub type RegisterRow = Row<RegisterId, Option<Value>>;

/// The registers of these vCPUs.
pub fn registers<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a DestinationVcpu)>,
) -> Vec<RegisterRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let registers = vcpu.registers().iter();
        registers.map(move |register| (number, register.id, register.value.clone()))
    }))
}

/// An extension's row.
pub type ExtensionRow = Row<Cow<'static, str>, Content>;

/// The extensions of these vCPUs.
pub fn extensions<'a>(
    vcpus: impl IntoIterator<Item = (usize, &'a DestinationVcpu)>,
) -> Vec<ExtensionRow> {
    rows(vcpus.into_iter().flat_map(|(number, vcpu)| {
        let extensions = vcpu.extensions.iter();
        extensions.map(move |it| (number, it.name.clone(), it.content.clone()))
    }))
}
