//! Lengths of recorded register lists, and their differences. Generated from
//! `tests/fixtures/recorded` by `crates/cpreg-explain/tests/recorded_lists.rs`.
//! Do not edit: `cargo xtask bless` writes it.

use cpreg::destination::Accelerator;

use crate::list_lengths::{Family, List};

/// One family for each accelerator and CPU.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        accelerator: Accelerator::Kvm,
        cpu: "max",
        varying: &[
            0x6020_0000_0011_0003, // CCSIDR_EL1[3]
            0x6020_0000_0011_0005, // CCSIDR_EL1[5]
            0x6020_0000_0011_0006, // CCSIDR_EL1[6]
            0x6020_0000_0011_0007, // CCSIDR_EL1[7]
            0x6020_0000_0011_0008, // CCSIDR_EL1[8]
            0x6020_0000_0011_0009, // CCSIDR_EL1[9]
            0x6020_0000_0011_000a, // CCSIDR_EL1[10]
            0x6020_0000_0011_000b, // CCSIDR_EL1[11]
            0x6020_0000_0011_000c, // CCSIDR_EL1[12]
            0x6020_0000_0011_000d, // CCSIDR_EL1[13]
            0x6030_0000_0013_808c, // OSLSR_EL1
            0x6030_0000_0013_c083, // SCTLR2_EL1
            0x6030_0000_0013_c103, // TCR2_EL1
            0x6030_0000_0013_c108, // APIAKEYLO_EL1
            0x6030_0000_0013_c109, // APIAKEYHI_EL1
            0x6030_0000_0013_c10a, // APIBKEYLO_EL1
            0x6030_0000_0013_c10b, // APIBKEYHI_EL1
            0x6030_0000_0013_c110, // APDAKEYLO_EL1
            0x6030_0000_0013_c111, // APDAKEYHI_EL1
            0x6030_0000_0013_c112, // APDBKEYLO_EL1
            0x6030_0000_0013_c113, // APDBKEYHI_EL1
            0x6030_0000_0013_c118, // APGAKEYLO_EL1
            0x6030_0000_0013_c119, // APGAKEYHI_EL1
            0x6030_0000_0013_c4f6, // PMMIR_EL1
            0x6030_0000_0013_c512, // PIRE0_EL1
            0x6030_0000_0013_c513, // PIR_EL1
            0x6030_0000_0013_da22, // FPMR
            0x6030_0000_0013_df01, // CNTPCT_EL0
            0x6030_0000_0013_df11, // CNTP_CTL_EL0
            0x6030_0000_0013_df12, // CNTP_CVAL_EL0
            0x6030_0000_0016_0000, // KVM_REG_ARM_STD_BMAP
            0x6030_0000_0016_0001, // KVM_REG_ARM_STD_HYP_BMAP
            0x6030_0000_0016_0002, // KVM_REG_ARM_VENDOR_HYP_BMAP
            0x6030_0000_0016_0003, // KVM_REG_ARM_VENDOR_HYP_BMAP_2
        ],
        lists: &[
            List {
                hosts: &["5.10.223"],
                count: 239,
                has: 0x0000_0000_0000_0000_0000_0000_0000_0000,
            },
            List {
                hosts: &["5.10.223"],
                count: 249,
                has: 0x0000_0000_0000_0000_0000_0000_007f_e000,
            },
            List {
                hosts: &["6.1.176"],
                count: 243,
                has: 0x0000_0000_0000_0000_0000_0001_c000_0400,
            },
            List {
                hosts: &["6.1.176"],
                count: 253,
                has: 0x0000_0000_0000_0000_0000_0001_c07f_e400,
            },
            List {
                hosts: &["6.12.43", "6.12.95", "6.12.107"],
                count: 260,
                has: 0x0000_0000_0000_0000_0000_0001_ff00_17ff,
            },
            List {
                hosts: &["6.12.43", "6.12.95", "6.12.107"],
                count: 270,
                has: 0x0000_0000_0000_0000_0000_0001_ff7f_f7ff,
            },
            List {
                hosts: &["6.16.12"],
                count: 261,
                has: 0x0000_0000_0000_0000_0000_0003_ff00_17ff,
            },
            List {
                hosts: &["6.16.12"],
                count: 271,
                has: 0x0000_0000_0000_0000_0000_0003_ff7f_f7ff,
            },
            List {
                hosts: &["6.18.15", "6.19.14", "7.2.12"],
                count: 262,
                has: 0x0000_0000_0000_0000_0000_0003_ff00_1fff,
            },
            List {
                hosts: &["6.18.15", "6.19.14", "7.2.12"],
                count: 272,
                has: 0x0000_0000_0000_0000_0000_0003_ff7f_ffff,
            },
            List {
                hosts: &["7.3.4"],
                count: 263,
                has: 0x0000_0000_0000_0000_0000_0003_ff80_1fff,
            },
            List {
                hosts: &["7.3.4"],
                count: 273,
                has: 0x0000_0000_0000_0000_0000_0003_ffff_ffff,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Kvm,
        cpu: "neoverse-n1",
        varying: &[
            0x6020_0000_0011_0003, // CCSIDR_EL1[3]
            0x6020_0000_0011_0004, // CCSIDR_EL1[4]
            0x6020_0000_0011_0005, // CCSIDR_EL1[5]
            0x6020_0000_0011_0006, // CCSIDR_EL1[6]
            0x6020_0000_0011_0007, // CCSIDR_EL1[7]
            0x6020_0000_0011_0008, // CCSIDR_EL1[8]
            0x6020_0000_0011_0009, // CCSIDR_EL1[9]
            0x6020_0000_0011_000a, // CCSIDR_EL1[10]
            0x6020_0000_0011_000b, // CCSIDR_EL1[11]
            0x6020_0000_0011_000c, // CCSIDR_EL1[12]
            0x6020_0000_0011_000d, // CCSIDR_EL1[13]
            0x6030_0000_0013_808c, // OSLSR_EL1
            0x6030_0000_0013_c103, // TCR2_EL1
            0x6030_0000_0013_c4f1, // PMINTENSET_EL1
            0x6030_0000_0013_c4f2, // PMINTENCLR_EL1
            0x6030_0000_0013_c4f6, // PMMIR_EL1
            0x6030_0000_0013_c512, // PIRE0_EL1
            0x6030_0000_0013_c513, // PIR_EL1
            0x6030_0000_0013_dce0, // PMCR_EL0
            0x6030_0000_0013_dce1, // PMCNTENSET_EL0
            0x6030_0000_0013_dce2, // PMCNTENCLR_EL0
            0x6030_0000_0013_dce3, // PMOVSCLR_EL0
            0x6030_0000_0013_dce4, // PMSWINC_EL0
            0x6030_0000_0013_dce5, // PMSELR_EL0
            0x6030_0000_0013_dce8, // PMCCNTR_EL0
            0x6030_0000_0013_dcf0, // PMUSERENR_EL0
            0x6030_0000_0013_dcf3, // PMOVSSET_EL0
            0x6030_0000_0013_df01, // CNTPCT_EL0
            0x6030_0000_0013_df11, // CNTP_CTL_EL0
            0x6030_0000_0013_df12, // CNTP_CVAL_EL0
            0x6030_0000_0013_df40, // PMEVCNTR0_EL0
            0x6030_0000_0013_df41, // PMEVCNTR1_EL0
            0x6030_0000_0013_df42, // PMEVCNTR2_EL0
            0x6030_0000_0013_df43, // PMEVCNTR3_EL0
            0x6030_0000_0013_df44, // PMEVCNTR4_EL0
            0x6030_0000_0013_df45, // PMEVCNTR5_EL0
            0x6030_0000_0013_df46, // PMEVCNTR6_EL0
            0x6030_0000_0013_df47, // PMEVCNTR7_EL0
            0x6030_0000_0013_df48, // PMEVCNTR8_EL0
            0x6030_0000_0013_df49, // PMEVCNTR9_EL0
            0x6030_0000_0013_df4a, // PMEVCNTR10_EL0
            0x6030_0000_0013_df4b, // PMEVCNTR11_EL0
            0x6030_0000_0013_df4c, // PMEVCNTR12_EL0
            0x6030_0000_0013_df4d, // PMEVCNTR13_EL0
            0x6030_0000_0013_df4e, // PMEVCNTR14_EL0
            0x6030_0000_0013_df4f, // PMEVCNTR15_EL0
            0x6030_0000_0013_df50, // PMEVCNTR16_EL0
            0x6030_0000_0013_df51, // PMEVCNTR17_EL0
            0x6030_0000_0013_df52, // PMEVCNTR18_EL0
            0x6030_0000_0013_df53, // PMEVCNTR19_EL0
            0x6030_0000_0013_df54, // PMEVCNTR20_EL0
            0x6030_0000_0013_df55, // PMEVCNTR21_EL0
            0x6030_0000_0013_df56, // PMEVCNTR22_EL0
            0x6030_0000_0013_df57, // PMEVCNTR23_EL0
            0x6030_0000_0013_df58, // PMEVCNTR24_EL0
            0x6030_0000_0013_df59, // PMEVCNTR25_EL0
            0x6030_0000_0013_df5a, // PMEVCNTR26_EL0
            0x6030_0000_0013_df5b, // PMEVCNTR27_EL0
            0x6030_0000_0013_df5c, // PMEVCNTR28_EL0
            0x6030_0000_0013_df5d, // PMEVCNTR29_EL0
            0x6030_0000_0013_df5e, // PMEVCNTR30_EL0
            0x6030_0000_0013_df60, // PMEVTYPER0_EL0
            0x6030_0000_0013_df61, // PMEVTYPER1_EL0
            0x6030_0000_0013_df62, // PMEVTYPER2_EL0
            0x6030_0000_0013_df63, // PMEVTYPER3_EL0
            0x6030_0000_0013_df64, // PMEVTYPER4_EL0
            0x6030_0000_0013_df65, // PMEVTYPER5_EL0
            0x6030_0000_0013_df66, // PMEVTYPER6_EL0
            0x6030_0000_0013_df67, // PMEVTYPER7_EL0
            0x6030_0000_0013_df68, // PMEVTYPER8_EL0
            0x6030_0000_0013_df69, // PMEVTYPER9_EL0
            0x6030_0000_0013_df6a, // PMEVTYPER10_EL0
            0x6030_0000_0013_df6b, // PMEVTYPER11_EL0
            0x6030_0000_0013_df6c, // PMEVTYPER12_EL0
            0x6030_0000_0013_df6d, // PMEVTYPER13_EL0
            0x6030_0000_0013_df6e, // PMEVTYPER14_EL0
            0x6030_0000_0013_df6f, // PMEVTYPER15_EL0
            0x6030_0000_0013_df70, // PMEVTYPER16_EL0
            0x6030_0000_0013_df71, // PMEVTYPER17_EL0
            0x6030_0000_0013_df72, // PMEVTYPER18_EL0
            0x6030_0000_0013_df73, // PMEVTYPER19_EL0
            0x6030_0000_0013_df74, // PMEVTYPER20_EL0
            0x6030_0000_0013_df75, // PMEVTYPER21_EL0
            0x6030_0000_0013_df76, // PMEVTYPER22_EL0
            0x6030_0000_0013_df77, // PMEVTYPER23_EL0
            0x6030_0000_0013_df78, // PMEVTYPER24_EL0
            0x6030_0000_0013_df79, // PMEVTYPER25_EL0
            0x6030_0000_0013_df7a, // PMEVTYPER26_EL0
            0x6030_0000_0013_df7b, // PMEVTYPER27_EL0
            0x6030_0000_0013_df7c, // PMEVTYPER28_EL0
            0x6030_0000_0013_df7d, // PMEVTYPER29_EL0
            0x6030_0000_0013_df7e, // PMEVTYPER30_EL0
            0x6030_0000_0013_df7f, // PMCCFILTR_EL0
            0x6030_0000_0016_0000, // KVM_REG_ARM_STD_BMAP
            0x6030_0000_0016_0001, // KVM_REG_ARM_STD_HYP_BMAP
            0x6030_0000_0016_0002, // KVM_REG_ARM_VENDOR_HYP_BMAP
            0x6030_0000_0016_0003, // KVM_REG_ARM_VENDOR_HYP_BMAP_2
        ],
        lists: &[
            List {
                hosts: &["5.10.223"],
                count: 237,
                has: 0x0000_0000_1fff_ffff_ffff_ffff_c7fc_6000,
            },
            List {
                hosts: &["6.1.176"],
                count: 167,
                has: 0x0000_0000_e000_0000_0000_0000_0000_0800,
            },
            List {
                hosts: &["6.1.176"],
                count: 241,
                has: 0x0000_0000_ffff_ffff_ffff_ffff_c7fc_6800,
            },
            List {
                hosts: &["6.12.43", "6.12.95", "6.12.107"],
                count: 258,
                has: 0x0000_0000_ffff_ffff_ffff_ffff_ffff_7fff,
            },
            List {
                hosts: &["6.12.107"],
                count: 184,
                has: 0x0000_0000_e000_0000_0000_0000_3803_1fff,
            },
            List {
                hosts: &["6.16.12", "6.18.15", "6.19.14", "7.2.12"],
                count: 256,
                has: 0x0000_0001_ffff_ffff_ffff_ffff_fffc_6fff,
            },
            List {
                hosts: &["6.16.12", "7.2.12", "7.3.4"],
                count: 182,
                has: 0x0000_0001_e000_0000_0000_0000_3800_0fff,
            },
            List {
                hosts: &["7.3.4"],
                count: 257,
                has: 0x0000_0001_ffff_ffff_ffff_ffff_fffc_efff,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "cortex-a15",
        varying: &[
            0x4020_0000_000f_3a00, // PAR_S
            0x4020_0000_200e_0002, // DBGDTRRXext
            0x4020_0000_200e_0100, // DBGDCCINT
            0x4020_0000_200e_0182, // DBGDTRTXext
            0x4020_0000_200e_0280, // DBGDTRTXint
            0x4020_0000_200e_0302, // DBGOSECCR
            0x4020_0000_200e_0380, // DBGVCR
            0x4020_0000_200e_0984, // DBGOSDLR
            0x4020_0000_200e_3800, // DBGDEVID2
            0x4020_0000_200e_3801, // DBGDEVID1
            0x4020_0000_200e_3802, // DBGDEVID
            0x4020_0000_200e_3c86, // DBGCLAIMCLR
            0x4020_0000_200f_3a00, // PAR
            0x6030_0000_0013_8002, // OSDTRRX_EL1
            0x6030_0000_0013_8010, // MDCCINT_EL1
            0x6030_0000_0013_801a, // OSDTRTX_EL1
            0x6030_0000_0013_8032, // OSECCR_EL1
            0x6030_0000_0013_809c, // OSDLR_EL1
            0x6030_0000_0013_83ce, // DBGCLAIMCLR_EL1
            0x6030_0000_0013_9808, // MDCCSR_EL0
            0x6030_0000_0013_9820, // DBGDTR_EL0
            0x6030_0000_0013_9828, // DBGDTRRX_EL0
            0x6030_0000_0013_df44, // PMEVCNTR4_EL0
            0x6030_0000_0013_df45, // PMEVCNTR5_EL0
            0x6030_0000_0013_df64, // PMEVTYPER4_EL0
            0x6030_0000_0013_df65, // PMEVTYPER5_EL0
        ],
        lists: &[
            List {
                hosts: &["5.2"],
                count: 187,
                has: 0x0000_0000_0000_0000_0000_0000_0000_1001,
            },
            List {
                hosts: &["7.2"],
                count: 197,
                has: 0x0000_0000_0000_0000_0000_0000_03ca_1781,
            },
            List {
                hosts: &["10.0", "11.1"],
                count: 209,
                has: 0x0000_0000_0000_0000_0000_0000_03ff_effe,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "cortex-a57",
        varying: &[
            0x4020_0000_200e_0002, // DBGDTRRXext
            0x4020_0000_200e_0100, // DBGDCCINT
            0x4020_0000_200e_0182, // DBGDTRTXext
            0x4020_0000_200e_0280, // DBGDTRTXint
            0x4020_0000_200e_0302, // DBGOSECCR
            0x4020_0000_200e_0380, // DBGVCR
            0x4020_0000_200e_0984, // DBGOSDLR
            0x4020_0000_200e_3800, // DBGDEVID2
            0x4020_0000_200e_3801, // DBGDEVID1
            0x4020_0000_200e_3802, // DBGDEVID
            0x4020_0000_200e_3c86, // DBGCLAIMCLR
            0x4020_0000_200f_0180, // P15_0_C0_C3_0
            0x4020_0000_200f_0181, // P15_0_C0_C3_1
            0x4020_0000_200f_0182, // P15_0_C0_C3_2
            0x4020_0000_200f_0183, // P15_0_C0_C3_3
            0x4020_0000_200f_0184, // ID_PFR2
            0x4020_0000_200f_0185, // ID_DFR1
            0x4020_0000_200f_0186, // ID_MMFR5
            0x4020_0000_200f_0187, // P15_0_C0_C3_7
            0x4020_0000_200f_0200, // P15_0_C0_C4_0
            0x4020_0000_200f_0280, // P15_0_C0_C5_0
            0x4020_0000_200f_0300, // P15_0_C0_C6_0
            0x4020_0000_200f_0380, // P15_0_C0_C7_0
            0x4020_0000_200f_0400, // P15_0_C0_C8_0
            0x4020_0000_200f_0480, // P15_0_C0_C9_0
            0x4020_0000_200f_0500, // P15_0_C0_C10_0
            0x4020_0000_200f_0580, // P15_0_C0_C11_0
            0x4020_0000_200f_0600, // P15_0_C0_C12_0
            0x4020_0000_200f_0680, // P15_0_C0_C13_0
            0x4020_0000_200f_0700, // P15_0_C0_C14_0
            0x4020_0000_200f_0780, // P15_0_C0_C15_0
            0x4020_0000_200f_0820, // HSCTLR
            0x4020_0000_200f_0881, // SDER
            0x4020_0000_200f_08a1, // HDCR
            0x4020_0000_200f_08a2, // HCPTR
            0x4020_0000_200f_08a3, // HSTR
            0x4020_0000_200f_08a7, // HACR
            0x4020_0000_200f_1022, // HTCR
            0x4020_0000_200f_28a0, // HADFSR
            0x4020_0000_200f_28a1, // HAIFSR
            0x4020_0000_200f_28b0, // P15_6_C5_C1_0
            0x4020_0000_200f_28b1, // P15_6_C5_C1_1
            0x4020_0000_200f_2920, // HSR
            0x4020_0000_200f_3020, // HDFAR
            0x4020_0000_200f_3024, // HPFAR
            0x4020_0000_200f_3a00, // PAR
            0x4020_0000_200f_5120, // HMAIR0
            0x4020_0000_200f_51a0, // HAMAIR0
            0x4020_0000_200f_51a1, // HAMAIR1
            0x4020_0000_200f_6001, // RVBAR
            0x4020_0000_200f_6002, // RMR
            0x4020_0000_200f_6020, // HVBAR
            0x4020_0000_200f_6822, // HTPIDR
            0x4020_0000_200f_70a0, // CNTHCTL
            0x4020_0000_200f_7121, // CNTHP_CTL
            0x4030_0000_200f_0730, // CNTHP_CVAL
            0x6030_0000_0013_8002, // OSDTRRX_EL1
            0x6030_0000_0013_8010, // MDCCINT_EL1
            0x6030_0000_0013_801a, // OSDTRTX_EL1
            0x6030_0000_0013_8032, // OSECCR_EL1
            0x6030_0000_0013_809c, // OSDLR_EL1
            0x6030_0000_0013_83ce, // DBGCLAIMCLR_EL1
            0x6030_0000_0013_9808, // MDCCSR_EL0
            0x6030_0000_0013_9820, // DBGDTR_EL0
            0x6030_0000_0013_9828, // DBGDTRRX_EL0
            0x6030_0000_0013_a038, // DBGVCR32_EL2
            0x6030_0000_0013_c030, // ID_AA64ISAR0_EL1
            0x6030_0000_0013_c601, // RVBAR_EL1
            0x6030_0000_0013_c602, // RMR_EL1
            0x6030_0000_0013_df44, // PMEVCNTR4_EL0
            0x6030_0000_0013_df45, // PMEVCNTR5_EL0
            0x6030_0000_0013_df64, // PMEVTYPER4_EL0
            0x6030_0000_0013_df65, // PMEVTYPER5_EL0
            0x6030_0000_0013_e000, // VPIDR_EL2
            0x6030_0000_0013_e005, // VMPIDR_EL2
            0x6030_0000_0013_e080, // SCTLR_EL2
            0x6030_0000_0013_e088, // HCR_EL2
            0x6030_0000_0013_e089, // MDCR_EL2
            0x6030_0000_0013_e08a, // CPTR_EL2
            0x6030_0000_0013_e08b, // HSTR_EL2
            0x6030_0000_0013_e08f, // HACR_EL2
            0x6030_0000_0013_e100, // TTBR0_EL2
            0x6030_0000_0013_e102, // TCR_EL2
            0x6030_0000_0013_e108, // VTTBR_EL2
            0x6030_0000_0013_e10a, // VTCR_EL2
            0x6030_0000_0013_e288, // AFSR0_EL2
            0x6030_0000_0013_e289, // AFSR1_EL2
            0x6030_0000_0013_e290, // ESR_EL2
            0x6030_0000_0013_e300, // FAR_EL2
            0x6030_0000_0013_e304, // HPFAR_EL2
            0x6030_0000_0013_e510, // MAIR_EL2
            0x6030_0000_0013_e518, // AMAIR_EL2
            0x6030_0000_0013_e600, // VBAR_EL2
            0x6030_0000_0013_e682, // TPIDR_EL2
            0x6030_0000_0013_e703, // CNTVOFF_EL2
            0x6030_0000_0013_e708, // CNTHCTL_EL2
            0x6030_0000_0013_e711, // CNTHP_CTL_EL2
            0x6030_0000_0013_e712, // CNTHP_CVAL_EL2
            0x6030_0000_0013_f080, // SCTLR_EL3
            0x6030_0000_0013_f088, // SCR_EL3
            0x6030_0000_0013_f089, // SDER32_EL3
            0x6030_0000_0013_f08a, // CPTR_EL3
            0x6030_0000_0013_f100, // TTBR0_EL3
            0x6030_0000_0013_f102, // TCR_EL3
            0x6030_0000_0013_f288, // AFSR0_EL3
            0x6030_0000_0013_f289, // AFSR1_EL3
            0x6030_0000_0013_f290, // ESR_EL3
            0x6030_0000_0013_f300, // FAR_EL3
            0x6030_0000_0013_f518, // AMAIR_EL3
            0x6030_0000_0013_f600, // VBAR_EL3
            0x6030_0000_0013_f601, // RVBAR_EL3
            0x6030_0000_0013_f602, // RMR_EL3
            0x6030_0000_0013_f682, // TPIDR_EL3
        ],
        lists: &[
            List {
                hosts: &["5.2"],
                count: 228,
                has: 0x0000_0000_0000_000c_0000_2000_0000_0000,
            },
            List {
                hosts: &["5.2"],
                count: 289,
                has: 0x0001_7fff_ffff_fe04_00fb_ffff_8000_0000,
            },
            List {
                hosts: &["7.2"],
                count: 258,
                has: 0x0000_0000_0000_01ec_5000_2000_7fff_fbc0,
            },
            List {
                hosts: &["7.2"],
                count: 319,
                has: 0x0001_7fff_ffff_ffe4_50fb_ffff_ffff_fbc0,
            },
            List {
                hosts: &["10.0"],
                count: 275,
                has: 0x0000_0000_0000_01ff_ff06_0000_7fff_ffff,
            },
            List {
                hosts: &["10.0"],
                count: 335,
                has: 0x0001_ffff_ffff_ffe7_ffff_dfff_ffff_ffff,
            },
            List {
                hosts: &["11.1"],
                count: 274,
                has: 0x0000_0000_0000_01fb_ff06_0000_7fff_ffff,
            },
            List {
                hosts: &["11.1"],
                count: 334,
                has: 0x0001_ffff_ffff_ffe3_ffff_dfff_ffff_ffff,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "cortex-a72",
        varying: &[
            0x4020_0000_200e_0002, // DBGDTRRXext
            0x4020_0000_200e_0100, // DBGDCCINT
            0x4020_0000_200e_0182, // DBGDTRTXext
            0x4020_0000_200e_0280, // DBGDTRTXint
            0x4020_0000_200e_0302, // DBGOSECCR
            0x4020_0000_200e_0380, // DBGVCR
            0x4020_0000_200e_0984, // DBGOSDLR
            0x4020_0000_200e_3800, // DBGDEVID2
            0x4020_0000_200e_3801, // DBGDEVID1
            0x4020_0000_200e_3802, // DBGDEVID
            0x4020_0000_200e_3c86, // DBGCLAIMCLR
            0x4020_0000_200f_0180, // P15_0_C0_C3_0
            0x4020_0000_200f_0181, // P15_0_C0_C3_1
            0x4020_0000_200f_0182, // P15_0_C0_C3_2
            0x4020_0000_200f_0183, // P15_0_C0_C3_3
            0x4020_0000_200f_0184, // ID_PFR2
            0x4020_0000_200f_0185, // ID_DFR1
            0x4020_0000_200f_0186, // ID_MMFR5
            0x4020_0000_200f_0187, // P15_0_C0_C3_7
            0x4020_0000_200f_0200, // P15_0_C0_C4_0
            0x4020_0000_200f_0280, // P15_0_C0_C5_0
            0x4020_0000_200f_0300, // P15_0_C0_C6_0
            0x4020_0000_200f_0380, // P15_0_C0_C7_0
            0x4020_0000_200f_0400, // P15_0_C0_C8_0
            0x4020_0000_200f_0480, // P15_0_C0_C9_0
            0x4020_0000_200f_0500, // P15_0_C0_C10_0
            0x4020_0000_200f_0580, // P15_0_C0_C11_0
            0x4020_0000_200f_0600, // P15_0_C0_C12_0
            0x4020_0000_200f_0680, // P15_0_C0_C13_0
            0x4020_0000_200f_0700, // P15_0_C0_C14_0
            0x4020_0000_200f_0780, // P15_0_C0_C15_0
            0x4020_0000_200f_3a00, // PAR
            0x4020_0000_200f_6001, // RVBAR
            0x4020_0000_200f_6002, // RMR
            0x6030_0000_0013_8002, // OSDTRRX_EL1
            0x6030_0000_0013_8010, // MDCCINT_EL1
            0x6030_0000_0013_801a, // OSDTRTX_EL1
            0x6030_0000_0013_8032, // OSECCR_EL1
            0x6030_0000_0013_809c, // OSDLR_EL1
            0x6030_0000_0013_83ce, // DBGCLAIMCLR_EL1
            0x6030_0000_0013_9808, // MDCCSR_EL0
            0x6030_0000_0013_9820, // DBGDTR_EL0
            0x6030_0000_0013_9828, // DBGDTRRX_EL0
            0x6030_0000_0013_a038, // DBGVCR32_EL2
            0x6030_0000_0013_c030, // ID_AA64ISAR0_EL1
            0x6030_0000_0013_c602, // RMR_EL1
            0x6030_0000_0013_df44, // PMEVCNTR4_EL0
            0x6030_0000_0013_df45, // PMEVCNTR5_EL0
            0x6030_0000_0013_df64, // PMEVTYPER4_EL0
            0x6030_0000_0013_df65, // PMEVTYPER5_EL0
        ],
        lists: &[
            List {
                hosts: &["5.2"],
                count: 228,
                has: 0x0000_0000_0000_0000_0000_1000_8000_0000,
            },
            List {
                hosts: &["7.2"],
                count: 258,
                has: 0x0000_0000_0000_0000_0003_d140_ffff_fbc0,
            },
            List {
                hosts: &["10.0"],
                count: 275,
                has: 0x0000_0000_0000_0000_0003_ffff_7fff_ffff,
            },
            List {
                hosts: &["11.1"],
                count: 274,
                has: 0x0000_0000_0000_0000_0003_efff_7fff_ffff,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "max",
        varying: &[
            0x4020_0000_200e_0002, // DBGDTRRXext
            0x4020_0000_200e_0100, // DBGDCCINT
            0x4020_0000_200e_0182, // DBGDTRTXext
            0x4020_0000_200e_0280, // DBGDTRTXint
            0x4020_0000_200e_0302, // DBGOSECCR
            0x4020_0000_200e_0380, // DBGVCR
            0x4020_0000_200e_0984, // DBGOSDLR
            0x4020_0000_200e_3800, // DBGDEVID2
            0x4020_0000_200e_3801, // DBGDEVID1
            0x4020_0000_200e_3802, // DBGDEVID
            0x4020_0000_200e_3c86, // DBGCLAIMCLR
            0x4020_0000_200f_0180, // P15_0_C0_C3_0
            0x4020_0000_200f_0181, // P15_0_C0_C3_1
            0x4020_0000_200f_0182, // P15_0_C0_C3_2
            0x4020_0000_200f_0183, // P15_0_C0_C3_3
            0x4020_0000_200f_0184, // ID_PFR2
            0x4020_0000_200f_0185, // ID_DFR1
            0x4020_0000_200f_0186, // ID_MMFR5
            0x4020_0000_200f_0187, // P15_0_C0_C3_7
            0x4020_0000_200f_0200, // P15_0_C0_C4_0
            0x4020_0000_200f_0280, // P15_0_C0_C5_0
            0x4020_0000_200f_0300, // P15_0_C0_C6_0
            0x4020_0000_200f_0380, // P15_0_C0_C7_0
            0x4020_0000_200f_0400, // P15_0_C0_C8_0
            0x4020_0000_200f_0480, // P15_0_C0_C9_0
            0x4020_0000_200f_0500, // P15_0_C0_C10_0
            0x4020_0000_200f_0580, // P15_0_C0_C11_0
            0x4020_0000_200f_0600, // P15_0_C0_C12_0
            0x4020_0000_200f_0680, // P15_0_C0_C13_0
            0x4020_0000_200f_0700, // P15_0_C0_C14_0
            0x4020_0000_200f_0780, // P15_0_C0_C15_0
            0x4020_0000_200f_2923, // VDFSR
            0x4020_0000_200f_2980, // ERRIDR
            0x4020_0000_200f_3a00, // PAR
            0x4020_0000_200f_6001, // RVBAR
            0x4020_0000_200f_6002, // RMR
            0x4020_0000_200f_6081, // DISR
            0x4020_0000_200f_60a1, // VDISR
            0x6030_0000_0013_8002, // OSDTRRX_EL1
            0x6030_0000_0013_8010, // MDCCINT_EL1
            0x6030_0000_0013_801a, // OSDTRTX_EL1
            0x6030_0000_0013_8032, // OSECCR_EL1
            0x6030_0000_0013_809c, // OSDLR_EL1
            0x6030_0000_0013_83ce, // DBGCLAIMCLR_EL1
            0x6030_0000_0013_9808, // MDCCSR_EL0
            0x6030_0000_0013_9820, // DBGDTR_EL0
            0x6030_0000_0013_9828, // DBGDTRRX_EL0
            0x6030_0000_0013_a038, // DBGVCR32_EL2
            0x6030_0000_0013_c030, // ID_AA64ISAR0_EL1
            0x6030_0000_0013_c083, // SCTLR2_EL1
            0x6030_0000_0013_c094, // SMPRI_EL1
            0x6030_0000_0013_c096, // SMCR_EL1
            0x6030_0000_0013_c103, // TCR2_EL1
            0x6030_0000_0013_c128, // GCSCR_EL1
            0x6030_0000_0013_c129, // GCSPR_EL1
            0x6030_0000_0013_c12a, // GCSCRE0_EL1
            0x6030_0000_0013_c298, // ERRIDR_EL1
            0x6030_0000_0013_c511, // MAIR2_EL1
            0x6030_0000_0013_c512, // PIRE0_EL1
            0x6030_0000_0013_c513, // PIR_EL1
            0x6030_0000_0013_c519, // AMAIR2_EL1
            0x6030_0000_0013_c602, // RMR_EL1
            0x6030_0000_0013_c609, // DISR_EL1
            0x6030_0000_0013_c687, // SCXTNUM_EL1
            0x6030_0000_0013_c806, // SMIDR_EL1
            0x6030_0000_0013_d929, // GCSPR_EL0
            0x6030_0000_0013_da12, // SVCR
            0x6030_0000_0013_da17, // TCO
            0x6030_0000_0013_da22, // FPMR
            0x6030_0000_0013_de85, // TPIDR2_EL0
            0x6030_0000_0013_de87, // SCXTNUM_EL0
            0x6030_0000_0013_df44, // PMEVCNTR4_EL0
            0x6030_0000_0013_df45, // PMEVCNTR5_EL0
            0x6030_0000_0013_df64, // PMEVTYPER4_EL0
            0x6030_0000_0013_df65, // PMEVTYPER5_EL0
            0x6030_0000_0013_e083, // SCTLR2_EL2
            0x6030_0000_0013_e08c, // HFGRTR_EL2
            0x6030_0000_0013_e08d, // HFGWTR_EL2
            0x6030_0000_0013_e08e, // HFGITR_EL2
            0x6030_0000_0013_e092, // HCRX_EL2
            0x6030_0000_0013_e095, // SMPRIMAP_EL2
            0x6030_0000_0013_e096, // SMCR_EL2
            0x6030_0000_0013_e103, // TCR2_EL2
            0x6030_0000_0013_e110, // VNCR_EL2
            0x6030_0000_0013_e128, // GCSCR_EL2
            0x6030_0000_0013_e129, // GCSPR_EL2
            0x6030_0000_0013_e18c, // HDFGRTR_EL2
            0x6030_0000_0013_e18d, // HDFGWTR_EL2
            0x6030_0000_0013_e293, // VSESR_EL2
            0x6030_0000_0013_e509, // MAIR2_EL2
            0x6030_0000_0013_e512, // PIRE0_EL2
            0x6030_0000_0013_e513, // PIR_EL2
            0x6030_0000_0013_e515, // S2PIR_EL2
            0x6030_0000_0013_e519, // AMAIR2_EL2
            0x6030_0000_0013_e540, // MECID_P0_EL2
            0x6030_0000_0013_e541, // MECID_A0_EL2
            0x6030_0000_0013_e542, // MECID_P1_EL2
            0x6030_0000_0013_e543, // MECID_A1_EL2
            0x6030_0000_0013_e547, // MECIDR_EL2
            0x6030_0000_0013_e548, // VMECID_P_EL2
            0x6030_0000_0013_e549, // VMECID_A_EL2
            0x6030_0000_0013_e609, // VDISR_EL2
            0x6030_0000_0013_e681, // CONTEXTIDR_EL2
            0x6030_0000_0013_e687, // SCXTNUM_EL2
            0x6030_0000_0013_e706, // CNTPOFF_EL2
            0x6030_0000_0013_f083, // SCTLR2_EL3
            0x6030_0000_0013_f090, // ZCR_EL3
            0x6030_0000_0013_f096, // SMCR_EL3
            0x6030_0000_0013_f128, // GCSCR_EL3
            0x6030_0000_0013_f129, // GCSPR_EL3
            0x6030_0000_0013_f509, // MAIR2_EL3
            0x6030_0000_0013_f513, // PIR_EL3
            0x6030_0000_0013_f519, // AMAIR2_EL3
            0x6030_0000_0013_f551, // MECID_RL_A_EL3
            0x6030_0000_0013_f687, // SCXTNUM_EL3
        ],
        lists: &[
            List {
                hosts: &["5.2"],
                count: 251,
                has: 0x0000_0000_0000_0000_0001_0002_0000_0000,
            },
            List {
                hosts: &["7.2"],
                count: 304,
                has: 0x0004_0ce0_0103_87e5_c10d_1433_ffff_fbc0,
            },
            List {
                hosts: &["10.0"],
                count: 329,
                has: 0x0004_0de0_01cb_f7ed_e10d_fffd_ffff_ffff,
            },
            List {
                hosts: &["11.1"],
                count: 362,
                has: 0x0007_ffff_ffff_ffff_fffe_fffd_ffff_ffff,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "neoverse-n1",
        varying: &[
            0x4020_0000_200e_0002, // DBGDTRRXext
            0x4020_0000_200e_0100, // DBGDCCINT
            0x4020_0000_200e_0182, // DBGDTRTXext
            0x4020_0000_200e_0280, // DBGDTRTXint
            0x4020_0000_200e_0302, // DBGOSECCR
            0x4020_0000_200e_0380, // DBGVCR
            0x4020_0000_200e_3c86, // DBGCLAIMCLR
            0x4020_0000_200f_3a00, // PAR
            0x4020_0000_200f_6001, // RVBAR
            0x4020_0000_200f_6002, // RMR
            0x6030_0000_0013_8002, // OSDTRRX_EL1
            0x6030_0000_0013_8010, // MDCCINT_EL1
            0x6030_0000_0013_801a, // OSDTRTX_EL1
            0x6030_0000_0013_8032, // OSECCR_EL1
            0x6030_0000_0013_83ce, // DBGCLAIMCLR_EL1
            0x6030_0000_0013_9820, // DBGDTR_EL0
            0x6030_0000_0013_9828, // DBGDTRRX_EL0
            0x6030_0000_0013_c030, // ID_AA64ISAR0_EL1
            0x6030_0000_0013_c602, // RMR_EL1
            0x6030_0000_0013_c780, // S3_0_C15_C0_0
            0x6030_0000_0013_c788, // S3_0_C15_C1_0
            0x6030_0000_0013_c789, // S3_0_C15_C1_1
            0x6030_0000_0013_c78a, // S3_0_C15_C1_2
            0x6030_0000_0013_c78c, // S3_0_C15_C1_4
            0x6030_0000_0013_c790, // S3_0_C15_C2_0
            0x6030_0000_0013_c791, // S3_0_C15_C2_1
            0x6030_0000_0013_c792, // S3_0_C15_C2_2
            0x6030_0000_0013_c797, // S3_0_C15_C2_7
            0x6030_0000_0013_c7b8, // S3_0_C15_C7_0
            0x6030_0000_0013_e180, // DACR32_EL2
            0x6030_0000_0013_e281, // IFSR32_EL2
            0x6030_0000_0013_e7b8, // S3_4_C15_C7_0
            0x6030_0000_0013_e7b9, // S3_4_C15_C7_1
            0x6030_0000_0013_efb8, // S3_5_C15_C7_0
            0x6030_0000_0013_f7b8, // S3_6_C15_C7_0
            0x6030_0000_0013_f7c0, // S3_6_C15_C8_0
            0x6030_0000_0013_f7c1, // S3_6_C15_C8_1
            0x6030_0000_0013_f7c2, // S3_6_C15_C8_2
            0x6030_0000_0013_f7c3, // S3_6_C15_C8_3
        ],
        lists: &[
            List {
                hosts: &["7.2"],
                count: 260,
                has: 0x0000_0000_0000_0000_0000_0000_6002_0080,
            },
            List {
                hosts: &["10.0"],
                count: 292,
                has: 0x0000_0000_0000_0000_0000_007f_9fff_ff7f,
            },
            List {
                hosts: &["11.1"],
                count: 291,
                has: 0x0000_0000_0000_0000_0000_007f_9ffd_ff7f,
            },
        ],
    },
    Family {
        accelerator: Accelerator::Tcg,
        cpu: "neoverse-v1",
        varying: &[
            0x6030_0000_0013_c030, // ID_AA64ISAR0_EL1
        ],
        lists: &[
            List {
                hosts: &["10.0"],
                count: 312,
                has: 0x0000_0000_0000_0000_0000_0000_0000_0001,
            },
            List {
                hosts: &["11.1"],
                count: 311,
                has: 0x0000_0000_0000_0000_0000_0000_0000_0000,
            },
        ],
    },
];
