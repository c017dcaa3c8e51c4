//! Field types and special rules in one source tree of Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::cpp::{enclosed, macro_uses, strip_comments};
use super::sysreg::Sysregs;
use crate::error::Result;

/// Field types and special rules of one kernel.
pub(super) struct KernelTree {
    /// Version: major and minor number.
    pub(super) version: (u16, u16),
    /// Full version of the tree.
    pub(super) release: String,
    /// `true` if KVM compares each field by its type.
    pub(super) has_types: bool,
    /// Names of special rules.
    pub(super) rules: BTreeSet<&'static str>,
    /// Fields of ID registers that KVM compares.
    pub(super) fields: BTreeSet<FieldType>,
}

/// Field, with the type by which KVM compares its values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FieldType {
    pub(super) register: String,
    /// 63 minus the lowest bit, so that fields sort from the most significant down.
    pub(super) order: u8,
    pub(super) name: String,
    pub(super) msb: u8,
    pub(super) lsb: u8,
    pub(super) is_signed: bool,
    /// `lower`, `higher`, `higher-or-zero` or `exact`.
    pub(super) kind: String,
    pub(super) safe: u64,
    /// `true` if the type is KVM's and not that of `cpufeature.c`.
    pub(super) is_override: bool,
}

/// Special rules: the name, and a text that only kernels with the rule have in `sys_regs.c`.
const RULES: &[(&str, &str)] = &[
    (
        "csv2-writable",
        "/* We can only differ with CSV2, and anything else is an error */",
    ),
    (
        "csv2-and-csv3-writable",
        "/* We can only differ with CSV[23], and anything else is an error */",
    ),
    ("aarch32-ignores-writes", "return REG_RAZ | REG_USER_WI;"),
    (
        "debug-version-minimum",
        "debugver < ID_AA64DFR0_EL1_DebugVer_IMP",
    ),
    (
        "aarch32-debug-version-minimum",
        "copdbg < ID_DFR0_EL1_CopDbg_Armv8",
    ),
    ("aarch32-pmu-minimum", "perfmon < ID_DFR0_EL1_PerfMon_PMUv3"),
    (
        "impdef-pmu-dropped",
        "pmuver == ID_AA64DFR0_EL1_PMUVer_IMP_DEF",
    ),
    (
        "aarch32-impdef-pmu-dropped",
        "perfmon == ID_DFR0_EL1_PerfMon_IMPDEF",
    ),
    (
        "exception-levels-required",
        "!FIELD_GET(ID_AA64PFR0_EL1_EL0, user_val)",
    ),
    ("mpam-dropped", "u64 mpam_mask = ID_AA64PFR0_EL1_MPAM_MASK;"),
    (
        "mpam-frac-dropped",
        "u64 mpam_mask = ID_AA64PFR1_EL1_MPAM_frac_MASK;",
    ),
    ("nv-dropped", "u64 nv_mask = ID_AA64MMFR2_EL1_NV_MASK;"),
    (
        "mte-frac-dropped",
        "user_mte_frac == ID_AA64PFR1_EL1_MTE_frac_ASYNC",
    ),
    ("double-lock-dropped", "static bool ignore_feat_doublelock("),
];

impl KernelTree {
    /// Reads a source tree.
    ///
    /// # Errors
    /// Returns an error if a file is missing, or is not as expected.
    pub(super) fn read(tree: &Path) -> Result<Self> {
        let read = |name: &str| -> Result<String> {
            let path = tree.join(name);
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()).into())
        };
        let with_path = |error| format!("{}: {error}", tree.display());
        let kvm = read("arch/arm64/kvm/sys_regs.c")?;
        let mut kernel = Self::parse_release(&read("Makefile")?).map_err(with_path)?;
        kernel.add_rules(&kvm);
        if kernel.has_types {
            let sysregs = Sysregs::parse(&read("arch/arm64/tools/sysreg")?);
            let cpufeature = strip_comments(&read("arch/arm64/kernel/cpufeature.c")?);
            kernel
                .add_fields(&cpufeature, &strip_comments(&kvm), &sysregs)
                .map_err(with_path)?;
        }
        Ok(kernel)
    }

    /// Returns a kernel with the version in its makefile, without rules and fields.
    pub(super) fn parse_release(makefile: &str) -> std::result::Result<Self, String> {
        let number = |name: &str| -> std::result::Result<u16, String> {
            let lines = makefile.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(key, _)| key.trim() == name);
            let value = values
                .next()
                .and_then(|(_, value)| value.trim().parse().ok());
            value.ok_or_else(|| format!("the makefile lacks {name}"))
        };
        let version = (number("VERSION")?, number("PATCHLEVEL")?);
        let release = format!("{}.{}.{}", version.0, version.1, number("SUBLEVEL")?);
        Ok(Self {
            version,
            release,
            has_types: false,
            rules: BTreeSet::new(),
            fields: BTreeSet::new(),
        })
    }

    /// Adds the rules of `sys_regs.c`.
    pub(super) fn add_rules(&mut self, kvm: &str) {
        self.has_types = kvm.contains("static int arm64_check_features(");
        let rules = RULES.iter().filter(|(_, text)| kvm.contains(text));
        self.rules.extend(rules.map(|(name, _)| *name));
    }

    /// Adds the fields of `cpufeature.c`, with the overrides of `sys_regs.c`.
    pub(super) fn add_fields(
        &mut self,
        cpufeature: &str,
        kvm: &str,
        sysregs: &Sysregs,
    ) -> std::result::Result<(), String> {
        let overrides = kvm_overrides(kvm)?;
        let layouts = layouts(cpufeature)?;
        for (register, layout) in registers(cpufeature)? {
            let encoding = sysregs.encodings.get(register);
            // `tools/sysreg` may lack registers that are no ID registers: `asm/sysreg.h` defines
            // them.
            if encoding.is_none() && ["ID_", "MVFR"].iter().any(|id| register.starts_with(id)) {
                return Err(format!("tools/sysreg lacks {register}"));
            }
            if !encoding.copied().is_some_and(is_feature_register) {
                continue;
            }
            let layout = layouts
                .get(layout)
                .ok_or_else(|| format!("cpufeature.c lacks {layout}"))?;
            for (is_signed, arguments) in layout {
                let field = parse_field(register, *is_signed, arguments, &overrides, sysregs)?;
                // One field of 64 bits means that the register has no fields.
                if field.msb - field.lsb < 63 {
                    self.fields.insert(field);
                }
            }
        }
        Ok(())
    }
}

/// Returns `true` if KVM lets user space write registers with this encoding as ID registers.
fn is_feature_register(encoding: [u8; 5]) -> bool {
    matches!(encoding, [3, 0, 0, 1..=7, _] | [3, 3, 0, 0, 1])
}

/// Fields of an array: `true` if signed, and the arguments of the macro.
type Layout<'a> = Vec<(bool, Vec<&'a str>)>;

/// Returns the arrays of `struct arm64_ftr_bits` by name.
fn layouts(cpufeature: &str) -> std::result::Result<BTreeMap<&str, Layout<'_>>, String> {
    const ARRAY: &str = "struct arm64_ftr_bits ftr_";
    let mut layouts = BTreeMap::new();
    for (start, _) in cpufeature.match_indices(ARRAY) {
        let rest = &cpufeature[start + ARRAY.len() - "ftr_".len()..];
        let (name, body) = rest
            .split_once("[] = {")
            .ok_or("an array without content")?;
        let body = enclosed(body, '{', '}').ok_or("an array without end")?;
        let mut layout: Layout<'_> = Vec::new();
        for (name, is_signed) in [("ARM64_FTR_BITS", false), ("S_ARM64_FTR_BITS", true)] {
            let uses = macro_uses(body, name).into_iter();
            layout.extend(uses.map(|arguments| (is_signed, arguments)));
        }
        layouts.insert(name.trim(), layout);
    }
    Ok(layouts)
}

/// Returns the registers that the kernel knows, with the name of their array.
fn registers(cpufeature: &str) -> std::result::Result<Vec<(&str, &str)>, String> {
    let (_, table) = cpufeature
        .split_once("arm64_ftr_regs[] = {")
        .ok_or("cpufeature.c lacks arm64_ftr_regs")?;
    let table = enclosed(table, '{', '}').ok_or("arm64_ftr_regs has no end")?;
    let mut registers = Vec::new();
    for name in ["ARM64_FTR_REG", "ARM64_FTR_REG_OVERRIDE"] {
        for arguments in macro_uses(table, name) {
            if let [register, layout, ..] = arguments.as_slice() {
                let register = register.strip_prefix("SYS_").unwrap_or(register);
                registers.push((register, *layout));
            }
        }
    }
    // The table does not name CTR_EL0's array, but the variable `arm64_ftr_reg_ctrel0` does.
    let (_, ctr) = cpufeature
        .split_once("arm64_ftr_reg_ctrel0 = {")
        .ok_or("cpufeature.c lacks arm64_ftr_reg_ctrel0")?;
    let layout = ctr
        .split_once(".ftr_bits")
        .and_then(|(_, rest)| rest.split_once('='))
        .and_then(|(_, rest)| rest.split_once(','))
        .ok_or("arm64_ftr_reg_ctrel0 lacks ftr_bits")?;
    registers.push(("CTR_EL0", layout.0.trim()));
    Ok(registers)
}

/// Returns the types that KVM sets, by the macro of the field's lowest bit.
fn kvm_overrides(kvm: &str) -> std::result::Result<BTreeMap<&str, &str>, String> {
    let (_, function) = kvm
        .split_once("static s64 kvm_arm64_ftr_safe_value(")
        .and_then(|(_, rest)| rest.split_once('{'))
        .ok_or("sys_regs.c lacks kvm_arm64_ftr_safe_value")?;
    let function = enclosed(function, '{', '}').ok_or("kvm_arm64_ftr_safe_value has no end")?;
    let mut overrides = BTreeMap::new();
    let mut fields = Vec::new();
    for line in function.lines() {
        let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        fields.extend(words.filter(|word| word.ends_with("_SHIFT")));
        if let Some((_, kind)) = line.split_once("kvm_ftr.type = ") {
            let kind = kind.trim().trim_end_matches(';');
            overrides.extend(fields.drain(..).map(|field| (field, kind)));
        }
    }
    Ok(overrides)
}

fn parse_field(
    register: &str,
    is_signed: bool,
    arguments: &[&str],
    overrides: &BTreeMap<&str, &str>,
    sysregs: &Sysregs,
) -> std::result::Result<FieldType, String> {
    let &[_, _, kind, shift, width, safe] = arguments else {
        return Err(format!("{register}: ARM64_FTR_BITS with {arguments:?}"));
    };
    let number = |text: &str| {
        let number = sysregs.evaluate(text);
        number.ok_or_else(|| format!("{register}: unknown value {text}"))
    };
    let bit = |number: u64| {
        let number = u8::try_from(number).ok().filter(|bit| *bit < 64);
        number.ok_or_else(|| format!("{register}: {shift} is not a bit"))
    };
    let lsb = bit(number(shift)?)?;
    let msb = bit(u64::from(lsb) + number(width)?.saturating_sub(1))?;
    let override_kind = overrides.get(shift);
    let kind = match *override_kind.unwrap_or(&kind) {
        "FTR_LOWER_SAFE" => "lower",
        "FTR_HIGHER_SAFE" => "higher",
        "FTR_HIGHER_OR_ZERO_SAFE" => "higher-or-zero",
        "FTR_EXACT" => "exact",
        other => return Err(format!("{register}: unknown type {other}")),
    };
    let name = shift
        .strip_prefix(register)
        .and_then(|field| field.strip_prefix('_'))
        .and_then(|field| field.strip_suffix("_SHIFT"));
    Ok(FieldType {
        register: register.to_owned(),
        order: 63 - lsb,
        name: name.unwrap_or("-").to_owned(),
        msb,
        lsb,
        is_signed,
        kind: kind.to_owned(),
        safe: if kind == "exact" { number(safe)? } else { 0 },
        is_override: override_kind.is_some(),
    })
}
