use super::*;
use crate::register::known::KNOWN;
use alloc::vec;
use proptest::prelude::*;

fn parse(text: &str) -> RegisterId {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn parse_error(text: &str) -> Error {
    text.parse::<RegisterId>().expect_err(text)
}

#[test]
fn names_in_the_tables_round_trip() {
    for naming in [Naming::Kvm, Naming::Architectural] {
        for (id, _) in tables::NAMES_BY_ID {
            let id = RegisterId::from_raw(*id);
            let name = id.name_in(naming).expect("it is in the table");
            assert_eq!(RegisterId::parse_in(name, naming), Ok(id), "{name}");
            assert_eq!(id.display_in(naming).to_string(), name);
        }
    }
    for (name, id) in tables::IDS_BY_NAME {
        assert_eq!(parse(name).raw(), *id, "{name}");
    }
    // sysregs.tsv alone has 1153 encodings.
    assert!(tables::NAMES_BY_ID.len() > 1500);
}

#[test]
fn constants_have_the_ids_of_their_names() {
    for (constant, id) in KNOWN {
        let name = constant.strip_prefix("AARCH32_").unwrap_or(constant);
        assert_eq!(parse(name), *id, "{constant}");
    }
}

#[test]
fn every_spelling_of_tcr2() {
    for text in [
        "TCR2_EL1",
        "tcr2_el1",
        " TCR2_EL1 ",
        "SYSREG_TCR2_EL1",
        "SYS_TCR2_EL1",
        "S3_0_C2_C0_3",
        "s3_0_c2_c0_3",
        "op0=3,op1=0,crn=2,crm=0,op2=3",
        "op0=3, op1=0, crn=2, crm=0, op2=3",
        "op0:3 op1:0 crn:2 crm:0 op2:3",
        "crn=2,crm=0,op0=3,op1=0,op2=3",
        "system register op0:3 op1:0 crn:2 crm:0 op2:3",
        "system register 0x1013c103",
        "0x1013c103",
        "0x603000000013c103",
        "0X603000000013C103",
        "603000000013c103",
    ] {
        assert_eq!(parse(text), RegisterId::TCR2_EL1, "{text}");
    }
    assert_eq!(RegisterId::TCR2_EL1.to_string(), "TCR2_EL1");
}

#[test]
fn spellings_of_other_classes() {
    for (text, raw, printed) in [
        ("psci_version", 0x6030_0000_0014_0000, "PSCI_VERSION"),
        (
            "KVM_REG_ARM_PSCI_VERSION",
            0x6030_0000_0014_0000,
            "PSCI_VERSION",
        ),
        ("fw reg 0", 0x6030_0000_0014_0000, "PSCI_VERSION"),
        (
            "SMCCC_ARCH_WORKAROUND_2",
            0x6030_0000_0014_0002,
            "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
        ),
        (
            "fw feat reg 3",
            0x6030_0000_0016_0003,
            "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
        ),
        (
            "VENDOR_HYP_BMAP_2",
            0x6030_0000_0016_0003,
            "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
        ),
        (
            "0x6030000000140009",
            0x6030_0000_0014_0009,
            "KVM_REG_ARM_FW_REG(9)",
        ),
        (
            "demuxed reg 6020000000110002",
            0x6020_0000_0011_0002,
            "CCSIDR_EL1[2]",
        ),
        ("ccsidr_el1[200]", 0x6020_0000_0011_00c8, "CCSIDR_EL1[200]"),
        ("CCSIDR_EL1", 0x6030_0000_0013_c800, "CCSIDR_EL1"),
        ("x30", 0x6030_0000_0010_003c, "X30"),
        ("PC", 0x6030_0000_0010_0040, "PC"),
        ("SP_EL0", 0x6030_0000_0010_003e, "SP_EL0"),
        ("SYSREG_SP_EL0", 0x6030_0000_0013_c208, "SYSREG_SP_EL0"),
        ("V31", 0x6040_0000_0010_00d0, "V31"),
        ("FPSR", 0x6020_0000_0010_00d4, "FPSR"),
        ("Z31", 0x6080_0000_0015_03e0, "Z31"),
        ("Z31[1]", 0x6080_0000_0015_03e1, "Z31[1]"),
        ("P15[0]", 0x6050_0000_0015_05e0, "P15"),
        ("FFR", 0x6050_0000_0015_0600, "FFR"),
        ("SVE_VLS", 0x6060_0000_0015_ffff, "KVM_REG_ARM64_SVE_VLS"),
        ("ID_DFR0", 0x4020_0000_200f_0082, "ID_DFR0"),
        ("p15,0,c0,c1,2", 0x4020_0000_200f_0082, "ID_DFR0"),
        ("DBGDTRTX", 0x4020_0000_200e_0298, "DBGDTRTX"),
        ("CONTEXTIDR_S", 0x4020_0000_000f_6801, "CONTEXTIDR_S"),
        ("P15_0_C0_C3_0", 0x4020_0000_200f_0180, "P15_0_C0_C3_0"),
        ("p15,0,c15", 0x4030_0000_200f_0780, "P15_0_C15"),
        ("PRRR", 0x4020_0000_200f_5100, "MAIR0"),
        ("L2CTLR_EL1", 0x6030_0000_0013_cd82, "S3_1_C11_C0_2"),
        ("0x0", 0, "0x0000000000000000"),
        // Kernels before v5.2 listed this id: an offset in the middle of X0.
        (
            "0x6030000000100001",
            0x6030_0000_0010_0001,
            "0x6030000000100001",
        ),
    ] {
        assert_eq!(parse(text).raw(), raw, "{text}");
        assert_eq!(parse(text).to_string(), printed, "{text}");
    }
}

#[test]
fn the_swapped_timers_follow_the_naming() {
    let (df1a, df02) = (RegisterId::TIMER_CNT, RegisterId::TIMER_CVAL);
    for (text, kvm, architectural) in [
        ("CNTVCT_EL0", df1a, df02),
        ("CNTV_CVAL_EL0", df02, df1a),
        ("KVM_REG_ARM_TIMER_CNT", df1a, df1a),
        ("TIMER_CVAL", df02, df02),
        // A spelling by encoding is independent of the naming.
        ("S3_3_C14_C3_2", df1a, df1a),
        ("SYSREG_CNTVCT_EL0", df02, df02),
        (
            "KVM_REG_ARM_TIMER_CTL",
            RegisterId::TIMER_CTL,
            RegisterId::TIMER_CTL,
        ),
        ("PTIMER_CNT", RegisterId::PTIMER_CNT, RegisterId::PTIMER_CNT),
    ] {
        assert_eq!(RegisterId::parse_in(text, Naming::Kvm), Ok(kvm), "{text}");
        let parsed = RegisterId::parse_in(text, Naming::Architectural);
        assert_eq!(parsed, Ok(architectural), "{text}");
    }
    assert_eq!(df1a.to_string(), "KVM_REG_ARM_TIMER_CNT");
    assert_eq!(df02.to_string(), "KVM_REG_ARM_TIMER_CVAL");
    assert_eq!(
        df1a.display_in(Naming::Architectural).to_string(),
        "CNTV_CVAL_EL0"
    );
    assert_eq!(
        df02.display_in(Naming::Architectural).to_string(),
        "CNTVCT_EL0"
    );
    assert_eq!(RegisterId::PTIMER_CTL.to_string(), "CNTP_CTL_EL0");
    assert!(df1a.is_counter(Naming::Kvm) && !df1a.is_counter(Naming::Architectural));
    assert!(df02.is_counter(Naming::Architectural) && !df02.is_counter(Naming::Kvm));
    assert!(RegisterId::PTIMER_CNT.is_counter(Naming::Kvm));
    assert!(!RegisterId::PTIMER_CVAL.is_counter(Naming::Kvm));
}

#[test]
fn core_and_system_registers_with_one_name() {
    let system = RegisterId::sysreg(3, 3, 4, 4, 1);
    let core = RegisterId::CORE_FPSR;
    assert_eq!(parse("FPSR"), core);
    assert_eq!(parse("CORE_FPSR"), core);
    assert_eq!(system.to_string(), "SYSREG_FPSR");
    assert_eq!(
        RegisterId::parse_in("FPSR", Naming::Architectural),
        Ok(system)
    );
    assert_eq!(
        core.display_in(Naming::Architectural).to_string(),
        "CORE_FPSR"
    );
}

#[test]
fn implementation_defined_names_may_be_ambiguous() {
    let error = parse_error("CPUECTLR_EL1");
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert_eq!(error.suggestions(), ["S3_0_C15_C1_4", "S3_1_C15_C2_1"]);
    let names: Vec<_> = parse("S3_0_C15_C1_4")
        .implementation_defined_names()
        .collect();
    assert_eq!(names, [("CPUECTLR_EL1", "neoverse-n1,neoverse-v1")]);
}

#[test]
fn error_messages() {
    for (text, message) in [
        ("", "no register is named"),
        ("TCR3_EL1", "no register is called `TCR3_EL1`"),
        (
            "S3_8_C2_C0_3",
            "`S3_8_C2_C0_3`: op1 must be a number up to 7",
        ),
        (
            "S3_0_C16_C0_3",
            "`S3_0_C16_C0_3`: CRn must be a number up to 15",
        ),
        (
            "op0=3,op1=0,crn=2,crm=0",
            "`op0=3,op1=0,crn=2,crm=0`: op2 is missing",
        ),
        (
            "op0=3,op1=0,crn=,crm=0,op2=1",
            "`op0=3,op1=0,crn=,crm=0,op2=1`: CRn is missing",
        ),
        ("0x", "`0x` is not a hexadecimal register id"),
        (
            "0x1603000000013c103",
            "`0x1603000000013c103` is not a hexadecimal register id",
        ),
        ("0x+1", "`0x+1` is not a hexadecimal register id"),
        (
            "system register 0x1014c103",
            "`system register 0x1014c103` is not a hexadecimal register id",
        ),
        (
            "fw reg 65536",
            "`fw reg 65536`: fw reg must be a number up to 65535",
        ),
        (
            "CCSIDR_EL1[256]",
            "`CCSIDR_EL1[256]`: the selector must be a number up to 255",
        ),
        ("Z0[32]", "`Z0[32]`: the slice must be a number up to 31"),
        (
            "CPUECTLR_EL1",
            "`CPUECTLR_EL1` is a different register on different CPUs",
        ),
        ("P13_0_C0_C0_0", "no register is called `P13_0_C0_C0_0`"),
    ] {
        assert_eq!(parse_error(text).to_string(), message);
    }
    let long = "A".repeat(1 << 20);
    assert!(parse_error(&long).to_string().len() < 200);
    for text in [
        "TCR2_EL1_S",
        "X31",
        "V32",
        "P16",
        "S3_0_C2_C0",
        "op0=3,op0=3",
        "SYS_X0",
    ] {
        parse_error(text);
    }
}

/// Generates ids as in streams: any low bits of each class, and any 64 bits.
fn any_id() -> impl Strategy<Value = u64> {
    let head = prop_oneof![
        Just(0x6030_0000_0010_0000_u64),
        Just(0x6020_0000_0010_0000),
        Just(0x6040_0000_0010_0000),
        Just(0x6020_0000_0011_0000),
        Just(0x6030_0000_0013_0000),
        Just(0x6030_0000_0014_0000),
        Just(0x6080_0000_0015_0000),
        Just(0x6050_0000_0015_0000),
        Just(0x6060_0000_0015_0000),
        Just(0x6030_0000_0016_0000),
        Just(0x4020_0000_200f_0000),
        Just(0x4020_0000_000f_0000),
        Just(0x4030_0000_200f_0000),
        Just(0x4030_0000_000e_0000),
    ];
    prop_oneof![
        (head, any::<u16>()).prop_map(|(head, low)| head | u64::from(low)),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn printed_ids_round_trip(raw in any_id()) {
        let id = RegisterId::from_raw(raw);
        for naming in [Naming::Kvm, Naming::Architectural] {
            let text = id.display_in(naming).to_string();
            prop_assert_eq!(RegisterId::parse_in(&text, naming), Ok(id), "{}", text);
            let lower = text.to_lowercase();
            prop_assert_eq!(RegisterId::parse_in(&lower, naming), Ok(id), "{}", lower);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_a_register_or_an_error(text in "\\PC{0,40}") {
        let _ = text.parse::<RegisterId>();
    }

    #[test]
    fn almost_a_register_is_a_register_or_an_error(
        text in "(SYSREG_|KVM_REG_ARM_|system register |fw reg |0x|op0=|S|p15,)?[0-9A-Fc,=:_\\[\\]() ]{0,24}"
    ) {
        if let Ok(id) = text.parse::<RegisterId>() {
            prop_assert_eq!(id.to_string().parse::<RegisterId>(), Ok(id));
        }
    }
}
