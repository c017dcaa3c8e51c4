//! The answer of `diff`: what differs between two files.
//!
//! | file | what lives there |
//! |---|---|
//! | `mod.rs` | the comparison, once, for both forms |
//! | [`model`] | its model, schema `cpreg.diff/1` |
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
use cpreg::destination::kernel::Kind;
use cpreg::destination::{Accelerator, HostVcpu};
use cpreg::plan::VcpuSet;
use cpreg::register::{RegisterId, Value};
use cpreg::shape;
use cpreg::vm::{Content, Extension};

use crate::contents::{Contents, Core};
use crate::rows::{ExtensionRow, RegisterRow, Row, extensions, registers, rows};
use crate::value::Printing;

/// What differs between A and B.
#[derive(Debug)]
pub struct Diff<'a> {
    /// The first file.
    pub a: &'a Contents,
    /// The second file.
    pub b: &'a Contents,
    /// Style of names and values.
    pub printing: Printing,
    /// Whether values that guests change are compared too.
    pub all: bool,
    /// Differences of the outlines.
    pub shape: Vec<shape::Difference>,
    /// Registers that only A lists.
    pub only_a: Vec<RegisterRow>,
    /// Registers that only B lists.
    pub only_b: Vec<RegisterRow>,
    /// Registers that both list with different values.
    pub values: Vec<Row<RegisterId, (Value, Value)>>,
    /// Core registers; only compared with `all`, and where both are streams.
    pub cores: Vec<Row<CoreKey, CorePair>>,
    /// Extensions that only A has.
    pub extensions_only_a: Vec<ExtensionRow>,
    /// Extensions that only B has.
    pub extensions_only_b: Vec<ExtensionRow>,
    /// Extensions that both have with different contents.
    pub extensions: Vec<Row<Cow<'static, str>, (Content, Content)>>,
    /// Differences that are left out, and what could not be compared.
    pub left_out: LeftOut,
    /// How many registers both have, with values that were compared.
    pub compared: usize,
}

/// A core register: its place among them, its name and id.
pub type CoreKey = (usize, String, Option<RegisterId>);

/// A core register's value in A and in B; none where the vCPU is in another execution state.
pub type CorePair = (Option<u64>, Option<u64>);

/// What differs and was left out, or could not be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    /// Registers that guests change as they run, core registers included.
    pub registers: usize,
    /// Extensions that guests change as they run.
    pub extensions: usize,
    /// Registers whose value a profile does not have.
    pub unknown: usize,
    /// vCPUs that only one side has.
    pub vcpus: usize,
}

impl<'a> Diff<'a> {
    /// Compares two files.
    pub fn new(a: &'a Contents, b: &'a Contents, all: bool, secrets: bool) -> Self {
        let accelerators = [a.destination.accelerator, b.destination.accelerator];
        let printing = Printing::new(accelerators[0].or(accelerators[1]), secrets);
        let mut diff = Self {
            a,
            b,
            printing,
            all,
            shape: shape(a, b),
            only_a: Vec::new(),
            only_b: Vec::new(),
            values: Vec::new(),
            cores: Vec::new(),
            extensions_only_a: Vec::new(),
            extensions_only_b: Vec::new(),
            extensions: Vec::new(),
            left_out: LeftOut::default(),
            compared: 0,
        };
        diff.left_out.vcpus = a.vcpus().len().abs_diff(b.vcpus().len());
        diff.compare_registers(accelerators);
        diff.compare_extensions();
        diff.compare_cores();
        diff
    }

    /// Whether nothing that was compared differs.
    pub fn is_equal(&self) -> bool {
        self.shape.is_empty() && self.registers() == 0 && self.extensions_count() == 0
    }

    /// How many registers differ.
    pub fn registers(&self) -> usize {
        self.only_a.len() + self.only_b.len() + self.values.len() + self.cores.len()
    }

    /// How many extensions differ.
    pub fn extensions_count(&self) -> usize {
        self.extensions_only_a.len() + self.extensions_only_b.len() + self.extensions.len()
    }

    /// The vCPUs that both have, by number.
    fn pairs(&self) -> impl Iterator<Item = (usize, (&'a HostVcpu, &'a HostVcpu))> + use<'a> {
        self.a.vcpus().iter().zip(self.b.vcpus()).enumerate()
    }

    fn compare_registers(&mut self, accelerators: [Option<Accelerator>; 2]) {
        let only = |mine: &'a HostVcpu, other: &'a HostVcpu| {
            let registers = mine.registers().iter().cloned();
            let registers = registers.filter(|register| other.get(register.id).is_none());
            HostVcpu::new(registers, Vec::new())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.only_a = registers(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.only_b = registers(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

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
                    .any(|accelerator| guests_change(accelerator, id));
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
        self.compared = in_both
            .difference(&left_out)
            .filter(|id| !unknown.contains(id))
            .count();
        self.left_out.registers += left_out.len();
        self.left_out.unknown = unknown.len();
    }

    fn compare_extensions(&mut self) {
        let only = |mine: &'a HostVcpu, other: &'a HostVcpu| {
            let extensions = mine.extensions.iter().cloned();
            let extensions = extensions.filter(|it| other.extension(&it.name).is_none());
            HostVcpu::new([], extensions.collect())
        };
        let only_a: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(a, b))).collect();
        let only_b: Vec<_> = self.pairs().map(|(n, (a, b))| (n, only(b, a))).collect();
        self.extensions_only_a = extensions(only_a.iter().map(|(number, vcpu)| (*number, vcpu)));
        self.extensions_only_b = extensions(only_b.iter().map(|(number, vcpu)| (*number, vcpu)));

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
        self.left_out.extensions = left_out.len();
    }

    fn compare_cores(&mut self) {
        let mut differing = Vec::new();
        let registers = |core: &Core| core.registers.clone();
        let pairs = self.a.cores.iter().map(registers);
        let pairs = pairs.zip(self.b.cores.iter().map(registers));
        for (number, (a, b)) in pairs.enumerate() {
            let mut values: BTreeMap<CoreKey, CorePair> = BTreeMap::new();
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
            self.cores = rows;
        } else {
            self.left_out.registers += rows.len();
        }
    }

    /// How many vCPUs were compared.
    pub fn vcpus(&self) -> usize {
        self.a.vcpus().len().min(self.b.vcpus().len())
    }

    /// Whether these are all that were compared.
    pub fn is_everywhere(&self, vcpus: &VcpuSet) -> bool {
        vcpus.iter().count() == self.vcpus()
    }
}

/// How the outlines differ, what executes the guest included.
fn shape(a: &Contents, b: &Contents) -> Vec<shape::Difference> {
    let mut differences = Vec::new();
    let (ours, theirs) = (a.destination.accelerator, b.destination.accelerator);
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && ours != theirs
    {
        differences.push(shape::Difference {
            what: "accelerator".to_owned(),
            source: Some(ours.name().to_owned()),
            destination: Some(theirs.name().to_owned()),
            refuses: true,
        });
    }
    if let (Some(ours), Some(theirs)) = (&a.destination.shape, &b.destination.shape) {
        differences.extend(ours.differences(theirs));
    }
    differences
}

/// Whether a guest changes a register's value as it runs, so that another value says nothing about the host.
fn guests_change(accelerator: Option<Accelerator>, id: RegisterId) -> bool {
    match accelerator {
        Some(Accelerator::Tcg) => !tcg::is_constant(id),
        Some(Accelerator::Kvm | Accelerator::Hvf) | None => {
            matches!(Kind::of(id), Kind::Storage | Kind::Counter)
        }
    }
}
