//! Report of `diff`: the differences between two files.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | the comparison, for both forms |
//! | [`model`] | its model, schema `cpreg.diff/2` |
//! | `json` | conversion of the comparison to the model |
//! | [`text`] | text of the comparison |
//!
//! `check` decides what a difference means for a migration.

mod json;
pub mod model;
pub mod text;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::accept::tcg;
use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::{Accelerator, DestinationVcpu};
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg::shape;
use cpreg::vm::{Content, Extension};

use crate::contents::{Contents, VcpuState};
use crate::rows::{ExtensionRow, RegisterRow, Row, extensions, registers, rows};
use crate::value::ValueFormat;

/// Differences between two inputs, A and B.
#[derive(Debug)]
pub struct Diff<'a> {
    /// The first input.
    pub a: &'a Contents,
    /// The second input.
    pub b: &'a Contents,
    /// Format of names and values.
    pub value_format: ValueFormat,
    /// `true` if the comparison includes values that running guests change.
    pub all: bool,
    /// Differences of the machine shapes.
    pub shape: Vec<shape::ShapeDifference>,
    /// Registers that only A lists.
    pub only_in_a: Vec<RegisterRow>,
    /// Registers that only B lists.
    pub only_in_b: Vec<RegisterRow>,
    /// Registers that both list, with different values: first A's value, then B's.
    pub values: Vec<Row<RegisterId, (Value, Value)>>,
    /// Core registers that differ. They are compared only with `all`, and only if both inputs are
    /// streams.
    pub core_registers: Vec<Row<CoreRegisterKey, CoreRegisterPair>>,
    /// Extensions that only A has.
    pub extensions_only_in_a: Vec<ExtensionRow>,
    /// Extensions that only B has.
    pub extensions_only_in_b: Vec<ExtensionRow>,
    /// Extensions that both have, with different contents: first A's content, then B's.
    pub extensions: Vec<Row<Cow<'static, str>, (Content, Content)>>,
    /// Counts of the omitted differences, registers and vCPUs.
    pub omissions: DiffOmissions,
    /// Number of registers that both have and whose values were compared.
    pub compared_registers: usize,
}

/// A core register: its position in the vCPU's list, its name, and its id if KVM has one.
pub type CoreRegisterKey = (usize, String, Option<RegisterId>);

/// Value of a core register in A and in B; `None` if the vCPU is in another execution state.
pub type CoreRegisterPair = (Option<u64>, Option<u64>);

/// Counts of differences that the report omits, and of registers and vCPUs that only one input has.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOmissions {
    /// Number of differing registers, including core registers, that running guests change.
    pub registers: usize,
    /// Number of differing extensions that running guests change.
    pub extensions: usize,
    /// Number of registers without a value in a profile.
    pub registers_without_value: usize,
    /// Number of vCPUs that only one input has.
    pub vcpus: usize,
}

impl<'a> Diff<'a> {
    /// Compares two files.
    pub fn new(a: &'a Contents, b: &'a Contents, all: bool, show_secrets: bool) -> Self {
        let accelerators = [a.destination.accelerator, b.destination.accelerator];
        let value_format = ValueFormat::new(accelerators[0].or(accelerators[1]), show_secrets);
        let mut diff = Self {
            a,
            b,
            value_format,
            all,
            shape: shape_differences(a, b),
            only_in_a: Vec::new(),
            only_in_b: Vec::new(),
            values: Vec::new(),
            core_registers: Vec::new(),
            extensions_only_in_a: Vec::new(),
            extensions_only_in_b: Vec::new(),
            extensions: Vec::new(),
            omissions: DiffOmissions::default(),
            compared_registers: 0,
        };
        diff.omissions.vcpus = a.vcpus().len().abs_diff(b.vcpus().len());
        diff.compare_registers(accelerators);
        diff.compare_extensions();
        diff.compare_core_registers();
        diff
    }

    /// Returns `true` if the comparison found no difference.
    pub fn is_equal(&self) -> bool {
        self.shape.is_empty() && self.differing_registers() == 0 && self.differing_extensions() == 0
    }

    /// Returns the number of registers that differ.
    pub fn differing_registers(&self) -> usize {
        self.only_in_a.len() + self.only_in_b.len() + self.values.len() + self.core_registers.len()
    }

    /// Returns the number of extensions that differ.
    pub fn differing_extensions(&self) -> usize {
        self.extensions_only_in_a.len() + self.extensions_only_in_b.len() + self.extensions.len()
    }

    /// Returns pairs of vCPUs with their number: A's vCPU first, then B's. A vCPU without a partner
    /// is left out.
    fn pairs(
        &self,
    ) -> impl Iterator<Item = (usize, (&'a DestinationVcpu, &'a DestinationVcpu))> + use<'a> {
        self.a.vcpus().iter().zip(self.b.vcpus()).enumerate()
    }

    fn compare_registers(&mut self, accelerators: [Option<Accelerator>; 2]) {
        let only = |one: &'a DestinationVcpu, other: &'a DestinationVcpu| {
            let registers = one.registers().iter().cloned();
            let registers = registers.filter(|register| other.get(register.id).is_none());
            DestinationVcpu::new(registers, Vec::new())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.only_in_a = registers(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.only_in_b = registers(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

        let mut in_both = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        let mut omitted = BTreeSet::new();
        let mut differing = Vec::new();
        for (number, (a, b)) in self.pairs() {
            for register in a.registers() {
                let id = register.id;
                let Some(other) = b.get(id) else {
                    continue;
                };
                in_both.insert(id);
                let is_changed = accelerators
                    .into_iter()
                    .any(|accelerator| is_changed_by_guests(accelerator, id));
                match (&register.value, &other.value) {
                    (Some(a), Some(b)) if a == b => {}
                    (Some(_), Some(_)) if is_changed && !self.all => {
                        omitted.insert(id);
                    }
                    (Some(a), Some(b)) => differing.push((number, id, (a.clone(), b.clone()))),
                    _ => {
                        unknown.insert(id);
                    }
                }
            }
        }
        self.values = rows(differing);
        self.compared_registers = in_both
            .difference(&omitted)
            .filter(|id| !unknown.contains(id))
            .count();
        self.omissions.registers += omitted.len();
        self.omissions.registers_without_value = unknown.len();
    }

    fn compare_extensions(&mut self) {
        let only = |one: &'a DestinationVcpu, other: &'a DestinationVcpu| {
            let extensions = one.extensions.iter().cloned();
            let extensions =
                extensions.filter(|extension| other.extension(&extension.name).is_none());
            DestinationVcpu::new([], extensions.collect())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.extensions_only_in_a = extensions(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.extensions_only_in_b = extensions(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

        let mut omitted = BTreeSet::new();
        let mut differing = Vec::new();
        for (number, (a, b)) in self.pairs() {
            for extension in &a.extensions {
                let Some(other) = b.extension(&extension.name) else {
                    continue;
                };
                if extension.content == other.content {
                    continue;
                }
                // QEMU's feature bits describe the CPU; all other extensions hold state of the
                // guest.
                if self.all || extension.name == Extension::FEATURES {
                    let contents = (extension.content.clone(), other.content.clone());
                    differing.push((number, extension.name.clone(), contents));
                } else {
                    omitted.insert(extension.name.clone());
                }
            }
        }
        self.extensions = rows(differing);
        self.omissions.extensions = omitted.len();
    }

    fn compare_core_registers(&mut self) {
        let mut differing = Vec::new();
        let registers = |state: &VcpuState| state.registers.clone();
        let pairs = self.a.vcpu_states.iter().map(registers);
        let pairs = pairs.zip(self.b.vcpu_states.iter().map(registers));
        for (number, (a, b)) in pairs.enumerate() {
            let mut values: BTreeMap<CoreRegisterKey, CoreRegisterPair> = BTreeMap::new();
            for (position, register) in a.into_iter().enumerate() {
                let key = (position, register.name, register.id);
                values.entry(key).or_default().0 = Some(register.value);
            }
            for (position, register) in b.into_iter().enumerate() {
                let key = (position, register.name, register.id);
                values.entry(key).or_default().1 = Some(register.value);
            }
            let unequal = values.into_iter().filter(|(_, (a, b))| a != b);
            differing.extend(unequal.map(|(key, values)| (number, key, values)));
        }
        let rows = rows(differing);
        if self.all {
            self.core_registers = rows;
        } else {
            self.omissions.registers += rows.len();
        }
    }

    /// Returns the number of vCPUs that were compared.
    pub fn compared_vcpus(&self) -> usize {
        self.a.vcpus().len().min(self.b.vcpus().len())
    }

    /// Returns `true` if the set contains all compared vCPUs, so that a line needs no vCPU numbers.
    pub fn is_all_vcpus(&self, vcpus: &VcpuSet) -> bool {
        vcpus.iter().count() == self.compared_vcpus()
    }
}

/// Returns the differences of the machine shapes, including the accelerator.
fn shape_differences(a: &Contents, b: &Contents) -> Vec<shape::ShapeDifference> {
    let accelerator = b
        .destination
        .accelerator_difference(a.destination.accelerator);
    let mut differences: Vec<_> = accelerator.into_iter().collect();
    if let (Some(source), Some(destination)) = (&a.destination.shape, &b.destination.shape) {
        differences.extend(source.differences(destination));
    }
    differences
}

/// Returns `true` if running guests change the register. Its values then show nothing about the
/// hosts.
fn is_changed_by_guests(accelerator: Option<Accelerator>, id: RegisterId) -> bool {
    match accelerator {
        Some(Accelerator::Tcg) => !tcg::is_constant(id),
        Some(Accelerator::Kvm | Accelerator::Hvf) | None => {
            matches!(
                RegisterKind::from_id(id),
                RegisterKind::Storage | RegisterKind::Counter
            )
        }
    }
}
