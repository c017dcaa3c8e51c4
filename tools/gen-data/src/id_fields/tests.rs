//! Tests of the generator, with synthetic sources.

use super::sysreg::Sysregs;
use super::table::Table;
use super::tree::KernelTree;
use super::*;

const SYSREG: &str = "\
Sysreg\tID_AA64DFR0_EL1\t3\t0\t0\t5\t0
SignedEnum\t39:36\tDoubleLock
\t0b0000\tIMP
EndEnum
Enum\t11:8\tPMUVer # a comment
\t0b0001\tIMP
EndEnum
EndSysreg
Sysreg\tID_AA64MMFR0_EL1\t3\t0\t0\t7\t0
Enum\t43:40\tTGRAN4_2
\t0b0001\tNI
EndEnum
EndSysreg
Sysreg\tCTR_EL0\t3\t3\t0\t0\t1
Field\t27:24\tCWG
EndSysreg
Sysreg\tMPAMIDR_EL1\t3\t0\t10\t4\t4
EndSysreg
";

const CPUFEATURE: &str = "
static const struct arm64_ftr_bits ftr_dfr[] = {
\tS_ARM64_FTR_BITS(FTR_HIDDEN, FTR_STRICT, FTR_LOWER_SAFE, ID_AA64DFR0_EL1_DoubleLock_SHIFT, 4, 0),
\t/* ARM64_FTR_BITS(not, a, field) */
\tARM64_FTR_BITS(FTR_HIDDEN, FTR_NONSTRICT, FTR_EXACT, ID_AA64DFR0_EL1_PMUVer_SHIFT, 4, 0),
\tARM64_FTR_END,
};
static const struct arm64_ftr_bits ftr_mmfr[] = {
\tARM64_FTR_BITS(FTR_VISIBLE_IF_IS_ENABLED(CONFIG_A), FTR_STRICT, FTR_EXACT,
\t\t       ID_AA64MMFR0_EL1_TGRAN4_2_SHIFT, 4, ID_AA64MMFR0_EL1_TGRAN4_2_NI),
};
static const struct arm64_ftr_bits ftr_ctr[] = {
\tARM64_FTR_BITS(FTR_VISIBLE, FTR_STRICT, FTR_HIGHER_OR_ZERO_SAFE, CTR_EL0_CWG_SHIFT, 4, 0),
};
static const struct arm64_ftr_bits ftr_single32[] = {
\tARM64_FTR_BITS(FTR_HIDDEN, FTR_STRICT, FTR_EXACT, 0, 32, 0),
};
struct arm64_ftr_reg arm64_ftr_reg_ctrel0 = {
\t.name\t\t= \"SYS_CTR_EL0\",
\t.ftr_bits\t= ftr_ctr,
};
} arm64_ftr_regs[] = {
\tARM64_FTR_REG(SYS_ID_AA64DFR0_EL1, ftr_dfr),
\tARM64_FTR_REG_OVERRIDE(SYS_ID_AA64MMFR0_EL1, ftr_mmfr, &override),
\t{ SYS_CTR_EL0, &arm64_ftr_reg_ctrel0 },
\tARM64_FTR_REG(SYS_MPAMIDR_EL1, ftr_single32),
\tARM64_FTR_REG(SYS_CNTFRQ_EL0, ftr_single32),
};
";

const KVM: &str = "
static s64 kvm_arm64_ftr_safe_value(u32 id)
{
\tcase ID_AA64DFR0_EL1_PMUVer_SHIFT:
\t\tkvm_ftr.type = FTR_LOWER_SAFE;
}
static int arm64_check_features(struct kvm_vcpu *vcpu)
u64 nv_mask = ID_AA64MMFR2_EL1_NV_MASK;
";

fn tree(makefile: &str) -> KernelTree {
    let mut tree = KernelTree::parse_release(makefile).unwrap();
    tree.add_rules(KVM);
    let cpufeature = cpp::strip_comments(CPUFEATURE);
    tree.add_fields(&cpufeature, KVM, &Sysregs::parse(SYSREG))
        .unwrap();
    tree
}

fn old_tree() -> KernelTree {
    KernelTree::parse_release("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 176\n").unwrap()
}

const NEW: &str = "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n";

#[test]
fn the_checked_in_table_is_current() {
    run(true, &[]).unwrap();
}

#[test]
fn a_tree_gives_types_with_the_overrides_of_kvm() {
    let table = Table::from_trees(vec![tree(NEW), old_tree()]).unwrap();
    let text = table.to_text();
    let rows: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        rows,
        [
            "release\t6.1\t6.1.176\tcurrent",
            "release\t7.3\t7.3.4\ttypes",
            "rule\tnv-dropped\t7.3\t7.3",
            "field\tCTR_EL0\tCWG\t27\t24\tunsigned\thigher-or-zero\t-\t-\t7.3\t7.3",
            "field\tID_AA64DFR0_EL1\tDoubleLock\t39\t36\tsigned\tlower\t-\t-\t7.3\t7.3",
            "field\tID_AA64DFR0_EL1\tPMUVer\t11\t8\tunsigned\tlower\t-\tkvm\t7.3\t7.3",
            "field\tID_AA64MMFR0_EL1\tTGRAN4_2\t43\t40\tunsigned\texact\t0x1\t-\t7.3\t7.3",
        ]
    );
    assert_eq!(Table::from_text(&text), Ok(table));
}

#[test]
fn inconsistent_sources_are_refused() {
    let same = Table::from_trees(vec![tree(NEW), tree(NEW)]);
    assert_eq!(
        same.unwrap_err().to_string(),
        "7.3.4 and 7.3.4 have the same version"
    );
    let mut tree = old_tree();
    let cpufeature = cpp::strip_comments(CPUFEATURE);
    let unknown = cpufeature.replace("TGRAN4_2_NI", "TGRAN4_2_UNKNOWN");
    let error = tree.add_fields(&unknown, KVM, &Sysregs::parse(SYSREG));
    assert!(error.unwrap_err().contains("TGRAN4_2_UNKNOWN"));
    let sysregs = Sysregs::parse(&SYSREG.replace("ID_AA64DFR0_EL1", "ID_OTHER_EL1"));
    let error = tree.add_fields(&cpufeature, KVM, &sysregs);
    assert_eq!(error.unwrap_err(), "tools/sysreg lacks ID_AA64DFR0_EL1");
    assert!(KernelTree::parse_release("VERSION = 6\n").is_err());
    for text in [
        "",
        "# Source\nrelease\t6.1\t6.1.176\tunknown",
        "# Source\nrule\tnv-dropped\t6.1\t6.1",
        "# Source\nrelease\t6.1\t6.1.176\ttypes\nfield\tA\tF\t3\t4\tsigned\tlower\t-\t-\t6.1\t6.1",
    ] {
        assert!(Table::from_text(text).is_err(), "{text}");
    }
}
