//! The answer of `diff`: what differs between two files.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the comparison, once, for both forms |
//! | [`model`] | its model, schema `cpreg.diff/2` |
//! | `json` | the comparison as its model |
//! | [`text`] | its text |
//!
//! What a difference means for a migration is `check`'s to say.

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

/// What differs between A and B.
#[derive(Debug)]
pub struct Diff<'a> {
    /// The first file.
    pub a: &'a Contents,
    /// The second file.
    pub b: &'a Contents,
    /// Style of names and values.
    pub value_format: ValueFormat,
    /// Whether values that guests change are compared too.
    pub all: bool,
    /// Differences of the outlines.
    pub shape: Vec<shape::ShapeDifference>,
    /// Registers that only A lists.
    pub only_in_a: Vec<RegisterRow>,
    /// Registers that only B lists.
    pub only_in_b: Vec<RegisterRow>,
    /// Registers that both list with different values.
    pub values: Vec<Row<RegisterId, (Value, Value)>>,
    /// Core registers; only compared with `all`, and where both are streams.
    pub core_registers: Vec<Row<CoreRegisterKey, CoreRegisterPair>>,
    /// Extensions that only A has.
    pub extensions_only_in_a: Vec<ExtensionRow>,
    /// Extensions that only B has.
    pub extensions_only_in_b: Vec<ExtensionRow>,
    /// Extensions that both have with different contents.
    pub extensions: Vec<Row<Cow<'static, str>, (Content, Content)>>,
    /// Differences that are left out, and what could not be compared.
    pub omissions: DiffOmissions,
    /// How many registers both have, with values that were compared.
    pub compared_registers: usize,
}

/// A core register: its place among them, its name and id.
pub type CoreRegisterKey = (usize, String, Option<RegisterId>);

/// A core register's value in A and in B; none where the vCPU is in another execution state.
pub type CoreRegisterPair = (Option<u64>, Option<u64>);

/// What differs and was left out, or could not be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiffOmissions {
    /// Registers that guests change as they run, core registers included.
    pub registers: usize,
    /// Extensions that guests change as they run.
    pub extensions: usize,
    /// Registers whose value a profile does not have.
    pub registers_without_value: usize,
    /// vCPUs that only one side has.
    pub vcpus: usize,
}

impl<'a> Diff<'a> {
    /// Compares two files.
    pub fn new(a: &'a Contents, b: &'a Contents, all: bool, secrets: bool) -> Self {
        let accelerators = [a.destination.accelerator, b.destination.accelerator];
        let printing = ValueFormat::new(accelerators[0].or(accelerators[1]), secrets);
        let mut diff = Self {
            a,
            b,
            value_format: printing,
            all,
            shape: shape(a, b),
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
        diff.compare_cores();
        diff
    }

    /// Whether nothing that was compared differs.
    pub fn is_equal(&self) -> bool {
        self.shape.is_empty() && self.differing_registers() == 0 && self.differing_extensions() == 0
    }

    /// How many registers differ.
    pub fn differing_registers(&self) -> usize {
        self.only_in_a.len() + self.only_in_b.len() + self.values.len() + self.core_registers.len()
    }

    /// How many extensions differ.
    pub fn differing_extensions(&self) -> usize {
        self.extensions_only_in_a.len() + self.extensions_only_in_b.len() + self.extensions.len()
    }

    /// The vCPUs that both have, by number.
    fn pairs(
        &self,
    ) -> impl Iterator<Item = (usize, (&'a DestinationVcpu, &'a DestinationVcpu))> + use<'a> {
        self.a.vcpus().iter().zip(self.b.vcpus()).enumerate()
    }

    fn compare_registers(&mut self, accelerators: [Option<Accelerator>; 2]) {
        let only = |mine: &'a DestinationVcpu, other: &'a DestinationVcpu| {
            let registers = mine.registers().iter().cloned();
            let registers = registers.filter(|register| other.get(register.id).is_none());
            DestinationVcpu::new(registers, Vec::new())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.only_in_a = registers(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.only_in_b = registers(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

        let mut in_both = BTreeSet::new();
        let mut unknown = BTreeSet::new();
        let mut left_out = BTreeSet::new();
        let mut differing = Vec::new();
        for (number, (a, b)) in self.pairs() {
            for register in a.registers() {
                let id = register.id;
                let Some(other) = b.get(id) else {
                    continue;
                };
                in_both.insert(id);
                let changes = accelerators
                    .into_iter()
                    .any(|accelerator| is_changed_by_guests(accelerator, id));
                match (&register.value, &other.value) {
                    (Some(a), Some(b)) if a == b => {}
                    (Some(_), Some(_)) if changes && !self.all => {
                        left_out.insert(id);
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
            .difference(&left_out)
            .filter(|id| !unknown.contains(id))
            .count();
        self.omissions.registers += left_out.len();
        self.omissions.registers_without_value = unknown.len();
    }

    fn compare_extensions(&mut self) {
        let only = |mine: &'a DestinationVcpu, other: &'a DestinationVcpu| {
            let extensions = mine.extensions.iter().cloned();
            let extensions = extensions.filter(|it| other.extension(&it.name).is_none());
            DestinationVcpu::new([], extensions.collect())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.extensions_only_in_a = extensions(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.extensions_only_in_b = extensions(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

        let mut left_out = BTreeSet::new();
        let mut differing = Vec::new();
        for (number, (a, b)) in self.pairs() {
            for extension in &a.extensions {
                let Some(other) = b.extension(&extension.name) else {
                    continue;
                };
                if extension.content == other.content {
                    continue;
                }
                // QEMU's feature bits say what the CPU is; all others hold what the guest did.
                if self.all || extension.name == Extension::FEATURES {
                    let contents = (extension.content.clone(), other.content.clone());
                    differing.push((number, extension.name.clone(), contents));
                } else {
                    left_out.insert(extension.name.clone());
                }
            }
        }
        self.extensions = rows(differing);
        self.omissions.extensions = left_out.len();
    }

    fn compare_cores(&mut self) {
        let mut differing = Vec::new();
        let registers = |core: &VcpuState| core.registers.clone();
        let pairs = self.a.vcpu_states.iter().map(registers);
        let pairs = pairs.zip(self.b.vcpu_states.iter().map(registers));
        for (number, (a, b)) in pairs.enumerate() {
            let mut values: BTreeMap<CoreRegisterKey, CoreRegisterPair> = BTreeMap::new();
            for (at, register) in a.into_iter().enumerate() {
                let key = (at, register.name, register.id);
                values.entry(key).or_default().0 = Some(register.value);
            }
            for (at, register) in b.into_iter().enumerate() {
                let key = (at, register.name, register.id);
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

    /// How many vCPUs were compared.
    pub fn compared_vcpus(&self) -> usize {
        self.a.vcpus().len().min(self.b.vcpus().len())
    }

    /// Whether these are all that were compared.
    pub fn is_all_vcpus(&self, vcpus: &VcpuSet) -> bool {
        vcpus.iter().count() == self.compared_vcpus()
    }
}

/// How the outlines differ, what executes the guest included.
fn shape(a: &Contents, b: &Contents) -> Vec<shape::ShapeDifference> {
    let mut differences = Vec::new();
    let (ours, theirs) = (a.destination.accelerator, b.destination.accelerator);
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours != theirs
    {
        differences.push(shape::ShapeDifference {
            subject: "accelerator".to_owned(),
            source: Some(ours.name().to_owned()),
            destination: Some(theirs.name().to_owned()),
            blocks: true,
        });
    }
    if let (Some(ours), Some(theirs)) = (&a.destination.shape, &b.destination.shape) {
        differences.extend(ours.differences(theirs));
    }
    differences
}

/// Whether a guest changes a register's value as it runs, so that another value says nothing about the host.
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
