//! Constants for the registers that decisions use, and for ids whose meaning differs from their
//! encoding.
//!
//! Not every register has a constant. For others use [`RegisterId::sysreg`] with the encoding, or
//! parse the name. A test compares each constant with the generated table of names.

use super::id::RegisterId;

/// Declares constants of [`RegisterId`], and under test the list of them with their names.
macro_rules! registers {
    ($($(#[$attribute:meta])* $name:ident = $id:expr;)*) => {
        impl RegisterId {
            $($(#[$attribute])* pub const $name: Self = $id;)*
        }

        #[cfg(test)]
        pub(super) const KNOWN: &[(&str, RegisterId)] =
            &[$((stringify!($name), RegisterId::$name)),*];
    };
}

registers! {
    // Core registers. Many are system registers too; KVM keeps these in `struct kvm_regs`.

    /// SP_EL0 as a core register.
    CORE_SP_EL0 = Self::core_u64(0x3e);
    /// The program counter.
    CORE_PC = Self::core_u64(0x40);
    /// PSTATE, with the layout of SPSR_EL1. KVM checks that the vCPU has the mode.
    CORE_PSTATE = Self::core_u64(0x42);
    /// SP_EL1 as a core register.
    CORE_SP_EL1 = Self::core_u64(0x44);
    /// ELR_EL1 as a core register.
    CORE_ELR_EL1 = Self::core_u64(0x46);
    /// SPSR_EL1 as a core register.
    CORE_SPSR_EL1 = Self::core_u64(0x48);
    /// SPSR_abt as a core register.
    CORE_SPSR_ABT = Self::core_u64(0x4a);
    /// SPSR_und as a core register.
    CORE_SPSR_UND = Self::core_u64(0x4c);
    /// SPSR_irq as a core register.
    CORE_SPSR_IRQ = Self::core_u64(0x4e);
    /// SPSR_fiq as a core register.
    CORE_SPSR_FIQ = Self::core_u64(0x50);
    /// FPSR as a core register, 32 bits.
    CORE_FPSR = Self::core_u32(0xd4);
    /// FPCR as a core register, 32 bits.
    CORE_FPCR = Self::core_u32(0xd5);

    // Firmware registers and bitmaps.

    /// PSCI version that the guest sees: major in 31:16, minor in 15:0. VM-wide.
    PSCI_VERSION = Self::firmware(0);
    /// Level of the mitigation of Spectre v2 that the guest sees.
    ///
    /// A check, not storage: it reads as the host's level, and writes succeed up to that level.
    SMCCC_ARCH_WORKAROUND_1 = Self::firmware(1);
    /// Level of the mitigation of Spectre v4 that the guest sees. See
    /// [`Self::SMCCC_ARCH_WORKAROUND_1`].
    SMCCC_ARCH_WORKAROUND_2 = Self::firmware(2);
    /// Level of the mitigation of Spectre-BHB that the guest sees. See
    /// [`Self::SMCCC_ARCH_WORKAROUND_1`].
    SMCCC_ARCH_WORKAROUND_3 = Self::firmware(3);
    /// Standard secure services (TRNG). VM-wide, like all bitmaps.
    STD_BMAP = Self::firmware_bitmap(0);
    /// Standard hypervisor services (stolen time).
    STD_HYP_BMAP = Self::firmware_bitmap(1);
    /// Vendor specific hypervisor services, function numbers 0 to 63.
    VENDOR_HYP_BMAP = Self::firmware_bitmap(2);
    /// Vendor specific hypervisor services, function numbers 64 to 127 (from v6.15; default 0).
    VENDOR_HYP_BMAP_2 = Self::firmware_bitmap(3);

    // Timers. Two of KVM's ids have each other's encoding; see [`super::name::Naming`].

    /// The virtual timer's control register, CNTV_CTL_EL0.
    TIMER_CTL = Self::sysreg(3, 3, 14, 3, 1);
    /// The virtual counter (CNTVCT_EL0) **under KVM**, whose id has the encoding of CNTV_CVAL_EL0;
    /// under TCG this id is CNTV_CVAL_EL0.
    TIMER_CNT = Self::sysreg(3, 3, 14, 3, 2);
    /// The virtual timer's compare value (CNTV_CVAL_EL0) **under KVM**, whose id has the encoding
    /// of CNTVCT_EL0. TCG does not list it.
    TIMER_CVAL = Self::sysreg(3, 3, 14, 0, 2);
    /// The physical timer's control register, CNTP_CTL_EL0. KVM lists the three from v6.4 on.
    PTIMER_CTL = Self::sysreg(3, 3, 14, 2, 1);
    /// The physical counter, CNTPCT_EL0.
    PTIMER_CNT = Self::sysreg(3, 3, 14, 0, 1);
    /// The physical timer's compare value, CNTP_CVAL_EL0.
    PTIMER_CVAL = Self::sysreg(3, 3, 14, 2, 2);

    // Scalable vectors.

    /// The set of SVE vector lengths: eight 64-bit words, bit (quadwords - 1) for each length.
    ///
    /// KVM refuses every write once the vCPU is finalized, even of the current value.
    SVE_VLS = Self::sve_vls();

    // AArch32, under TCG.

    /// QEMU's wrong encoding of the debug channel's data register (cp14, opc1 3, c0, c5, 0), which
    /// does not exist in the architecture. The right one is opc1 0 (`DBGDTRTXint`).
    ///
    /// QEMU commit 655659a74a removed it, 4f2b82f60431 (10.1) added it again for old streams, and
    /// 202126dcb9 (11.1) removed it again. No recorded stream of 5.2, 7.2, 10.0.13 or 11.1.3
    /// contains it.
    AARCH32_DBGDTRTX = Self::aarch32(14, 3, 0, 5, 0);

    // Identification registers outside the ID space.

    /// Identity of the CPU. VM-wide in KVM; writable from v6.15, with a capability.
    MIDR_EL1 = Self::sysreg(3, 0, 0, 0, 0);
    /// The vCPU's affinity.
    MPIDR_EL1 = Self::sysreg(3, 0, 0, 0, 5);
    /// The implementation's revision details. VM-wide in KVM.
    REVIDR_EL1 = Self::sysreg(3, 0, 0, 0, 6);
    /// The implementation's auxiliary identification. VM-wide in KVM.
    AIDR_EL1 = Self::sysreg(3, 1, 0, 0, 7);
    /// Cache types and line sizes. VM-wide in KVM.
    CTR_EL0 = Self::sysreg(3, 3, 0, 0, 1);
    /// Cache levels.
    CLIDR_EL1 = Self::sysreg(3, 1, 0, 0, 1);
    /// `CSSELR_EL1`.
    CSSELR_EL1 = Self::sysreg(3, 2, 0, 0, 0);
    /// `DCZID_EL0`.
    DCZID_EL0 = Self::sysreg(3, 3, 0, 0, 7);

    // The ID space.

    /// `ID_PFR0_EL1`.
    ID_PFR0_EL1 = Self::sysreg(3, 0, 0, 1, 0);
    /// `ID_PFR1_EL1`.
    ID_PFR1_EL1 = Self::sysreg(3, 0, 0, 1, 1);
    /// `ID_DFR0_EL1`.
    ID_DFR0_EL1 = Self::sysreg(3, 0, 0, 1, 2);
    /// `ID_AFR0_EL1`.
    ID_AFR0_EL1 = Self::sysreg(3, 0, 0, 1, 3);
    /// `ID_MMFR0_EL1`.
    ID_MMFR0_EL1 = Self::sysreg(3, 0, 0, 1, 4);
    /// `ID_MMFR1_EL1`.
    ID_MMFR1_EL1 = Self::sysreg(3, 0, 0, 1, 5);
    /// `ID_MMFR2_EL1`.
    ID_MMFR2_EL1 = Self::sysreg(3, 0, 0, 1, 6);
    /// `ID_MMFR3_EL1`.
    ID_MMFR3_EL1 = Self::sysreg(3, 0, 0, 1, 7);
    /// `ID_ISAR0_EL1`.
    ID_ISAR0_EL1 = Self::sysreg(3, 0, 0, 2, 0);
    /// `ID_ISAR1_EL1`.
    ID_ISAR1_EL1 = Self::sysreg(3, 0, 0, 2, 1);
    /// `ID_ISAR2_EL1`.
    ID_ISAR2_EL1 = Self::sysreg(3, 0, 0, 2, 2);
    /// `ID_ISAR3_EL1`.
    ID_ISAR3_EL1 = Self::sysreg(3, 0, 0, 2, 3);
    /// `ID_ISAR4_EL1`.
    ID_ISAR4_EL1 = Self::sysreg(3, 0, 0, 2, 4);
    /// `ID_ISAR5_EL1`.
    ID_ISAR5_EL1 = Self::sysreg(3, 0, 0, 2, 5);
    /// `ID_MMFR4_EL1`.
    ID_MMFR4_EL1 = Self::sysreg(3, 0, 0, 2, 6);
    /// `ID_ISAR6_EL1`.
    ID_ISAR6_EL1 = Self::sysreg(3, 0, 0, 2, 7);
    /// `MVFR0_EL1`.
    MVFR0_EL1 = Self::sysreg(3, 0, 0, 3, 0);
    /// `MVFR1_EL1`.
    MVFR1_EL1 = Self::sysreg(3, 0, 0, 3, 1);
    /// `MVFR2_EL1`.
    MVFR2_EL1 = Self::sysreg(3, 0, 0, 3, 2);
    /// `ID_PFR2_EL1`.
    ID_PFR2_EL1 = Self::sysreg(3, 0, 0, 3, 4);
    /// `ID_DFR1_EL1`.
    ID_DFR1_EL1 = Self::sysreg(3, 0, 0, 3, 5);
    /// `ID_MMFR5_EL1`.
    ID_MMFR5_EL1 = Self::sysreg(3, 0, 0, 3, 6);
    /// `ID_AA64PFR0_EL1`.
    ID_AA64PFR0_EL1 = Self::sysreg(3, 0, 0, 4, 0);
    /// `ID_AA64PFR1_EL1`.
    ID_AA64PFR1_EL1 = Self::sysreg(3, 0, 0, 4, 1);
    /// `ID_AA64PFR2_EL1`.
    ID_AA64PFR2_EL1 = Self::sysreg(3, 0, 0, 4, 2);
    /// `ID_AA64ZFR0_EL1`.
    ID_AA64ZFR0_EL1 = Self::sysreg(3, 0, 0, 4, 4);
    /// `ID_AA64SMFR0_EL1`.
    ID_AA64SMFR0_EL1 = Self::sysreg(3, 0, 0, 4, 5);
    /// `ID_AA64FPFR0_EL1`.
    ID_AA64FPFR0_EL1 = Self::sysreg(3, 0, 0, 4, 7);
    /// `ID_AA64DFR0_EL1`.
    ID_AA64DFR0_EL1 = Self::sysreg(3, 0, 0, 5, 0);
    /// `ID_AA64DFR1_EL1`.
    ID_AA64DFR1_EL1 = Self::sysreg(3, 0, 0, 5, 1);
    /// `ID_AA64DFR2_EL1`.
    ID_AA64DFR2_EL1 = Self::sysreg(3, 0, 0, 5, 2);
    /// `ID_AA64AFR0_EL1`.
    ID_AA64AFR0_EL1 = Self::sysreg(3, 0, 0, 5, 4);
    /// `ID_AA64AFR1_EL1`.
    ID_AA64AFR1_EL1 = Self::sysreg(3, 0, 0, 5, 5);
    /// `ID_AA64ISAR0_EL1`.
    ID_AA64ISAR0_EL1 = Self::sysreg(3, 0, 0, 6, 0);
    /// `ID_AA64ISAR1_EL1`.
    ID_AA64ISAR1_EL1 = Self::sysreg(3, 0, 0, 6, 1);
    /// `ID_AA64ISAR2_EL1`.
    ID_AA64ISAR2_EL1 = Self::sysreg(3, 0, 0, 6, 2);
    /// `ID_AA64ISAR3_EL1`.
    ID_AA64ISAR3_EL1 = Self::sysreg(3, 0, 0, 6, 3);
    /// `ID_AA64MMFR0_EL1`.
    ID_AA64MMFR0_EL1 = Self::sysreg(3, 0, 0, 7, 0);
    /// `ID_AA64MMFR1_EL1`.
    ID_AA64MMFR1_EL1 = Self::sysreg(3, 0, 0, 7, 1);
    /// `ID_AA64MMFR2_EL1`.
    ID_AA64MMFR2_EL1 = Self::sysreg(3, 0, 0, 7, 2);
    /// `ID_AA64MMFR3_EL1`.
    ID_AA64MMFR3_EL1 = Self::sysreg(3, 0, 0, 7, 3);
    /// `ID_AA64MMFR4_EL1`.
    ID_AA64MMFR4_EL1 = Self::sysreg(3, 0, 0, 7, 4);

    // Debug.

    /// The OS lock's status. KVM lists it from v5.18 on; only OSLK may change.
    OSLSR_EL1 = Self::sysreg(2, 0, 1, 1, 4);
    /// `OSDLR_EL1`.
    OSDLR_EL1 = Self::sysreg(2, 0, 1, 3, 4);
    /// `OSECCR_EL1`.
    OSECCR_EL1 = Self::sysreg(2, 0, 0, 6, 2);
    /// `MDCCINT_EL1`.
    MDCCINT_EL1 = Self::sysreg(2, 0, 0, 2, 0);
    /// `MDSCR_EL1`.
    MDSCR_EL1 = Self::sysreg(2, 0, 0, 2, 2);
    /// The debug channel's data register. Not listed by KVM.
    DBGDTR_EL0 = Self::sysreg(2, 3, 0, 4, 0);
    /// `DBGVCR32_EL2`.
    DBGVCR32_EL2 = Self::sysreg(2, 4, 0, 7, 0);

    // Control and translation.

    /// `SCTLR_EL1`.
    SCTLR_EL1 = Self::sysreg(3, 0, 1, 0, 0);
    /// `ACTLR_EL1`.
    ACTLR_EL1 = Self::sysreg(3, 0, 1, 0, 1);
    /// `CPACR_EL1`.
    CPACR_EL1 = Self::sysreg(3, 0, 1, 0, 2);
    /// Extended system control. KVM lists it from v6.17 on, for guests with FEAT_SCTLR2.
    SCTLR2_EL1 = Self::sysreg(3, 0, 1, 0, 3);
    /// `ZCR_EL1`.
    ZCR_EL1 = Self::sysreg(3, 0, 1, 2, 0);
    /// `TTBR0_EL1`.
    TTBR0_EL1 = Self::sysreg(3, 0, 2, 0, 0);
    /// `TTBR1_EL1`.
    TTBR1_EL1 = Self::sysreg(3, 0, 2, 0, 1);
    /// `TCR_EL1`.
    TCR_EL1 = Self::sysreg(3, 0, 2, 0, 2);
    /// Extended translation control. KVM v6.5 to v6.12 lists it for guests without FEAT_TCR2 too.
    TCR2_EL1 = Self::sysreg(3, 0, 2, 0, 3);
    /// `MAIR_EL1`.
    MAIR_EL1 = Self::sysreg(3, 0, 10, 2, 0);
    /// `AMAIR_EL1`.
    AMAIR_EL1 = Self::sysreg(3, 0, 10, 3, 0);
    /// `VBAR_EL1`.
    VBAR_EL1 = Self::sysreg(3, 0, 12, 0, 0);
    /// Permission indirection for EL0. KVM v6.5 to v6.12 lists it for guests without FEAT_S1PIE
    /// too.
    PIRE0_EL1 = Self::sysreg(3, 0, 10, 2, 2);
    /// Permission indirection. KVM v6.5 to v6.12 lists it for guests without FEAT_S1PIE too.
    PIR_EL1 = Self::sysreg(3, 0, 10, 2, 3);
    /// `POR_EL1`.
    POR_EL1 = Self::sysreg(3, 0, 10, 2, 4);
    /// `POR_EL0`.
    POR_EL0 = Self::sysreg(3, 3, 10, 2, 4);
    /// `PAR_EL1`.
    PAR_EL1 = Self::sysreg(3, 0, 7, 4, 0);
    /// `DISR_EL1`.
    DISR_EL1 = Self::sysreg(3, 0, 12, 1, 1);
    /// `CONTEXTIDR_EL1`.
    CONTEXTIDR_EL1 = Self::sysreg(3, 0, 13, 0, 1);
    /// `TPIDR_EL0`.
    TPIDR_EL0 = Self::sysreg(3, 3, 13, 0, 2);
    /// `TPIDRRO_EL0`.
    TPIDRRO_EL0 = Self::sysreg(3, 3, 13, 0, 3);
    /// `TPIDR_EL1`.
    TPIDR_EL1 = Self::sysreg(3, 0, 13, 0, 4);
    /// `CNTKCTL_EL1`.
    CNTKCTL_EL1 = Self::sysreg(3, 0, 14, 1, 0);
    /// `DACR32_EL2`.
    DACR32_EL2 = Self::sysreg(3, 4, 3, 0, 0);
    /// `IFSR32_EL2`.
    IFSR32_EL2 = Self::sysreg(3, 4, 5, 0, 1);
    /// `FPEXC32_EL2`.
    FPEXC32_EL2 = Self::sysreg(3, 4, 5, 3, 0);
    /// The mode of 8-bit floating point. KVM lists it from v6.12 on, for guests with FEAT_FPMR.
    FPMR = Self::sysreg(3, 3, 4, 4, 2);
    /// `SVCR`.
    SVCR = Self::sysreg(3, 3, 4, 2, 2);

    // Memory tagging.

    /// `RGSR_EL1`.
    RGSR_EL1 = Self::sysreg(3, 0, 1, 0, 5);
    /// `GCR_EL1`.
    GCR_EL1 = Self::sysreg(3, 0, 1, 0, 6);
    /// `TFSR_EL1`.
    TFSR_EL1 = Self::sysreg(3, 0, 5, 6, 0);
    /// `TFSRE0_EL1`.
    TFSRE0_EL1 = Self::sysreg(3, 0, 5, 6, 1);

    // Pointer authentication keys.

    /// `APIAKEYLO_EL1`.
    APIAKEYLO_EL1 = Self::sysreg(3, 0, 2, 1, 0);
    /// `APIAKEYHI_EL1`.
    APIAKEYHI_EL1 = Self::sysreg(3, 0, 2, 1, 1);
    /// `APIBKEYLO_EL1`.
    APIBKEYLO_EL1 = Self::sysreg(3, 0, 2, 1, 2);
    /// `APIBKEYHI_EL1`.
    APIBKEYHI_EL1 = Self::sysreg(3, 0, 2, 1, 3);
    /// `APDAKEYLO_EL1`.
    APDAKEYLO_EL1 = Self::sysreg(3, 0, 2, 2, 0);
    /// `APDAKEYHI_EL1`.
    APDAKEYHI_EL1 = Self::sysreg(3, 0, 2, 2, 1);
    /// `APDBKEYLO_EL1`.
    APDBKEYLO_EL1 = Self::sysreg(3, 0, 2, 2, 2);
    /// `APDBKEYHI_EL1`.
    APDBKEYHI_EL1 = Self::sysreg(3, 0, 2, 2, 3);
    /// `APGAKEYLO_EL1`.
    APGAKEYLO_EL1 = Self::sysreg(3, 0, 2, 3, 0);
    /// `APGAKEYHI_EL1`.
    APGAKEYHI_EL1 = Self::sysreg(3, 0, 2, 3, 1);

    // Performance monitors.

    /// The PMU's control register.
    PMCR_EL0 = Self::sysreg(3, 3, 9, 12, 0);
    /// `PMCNTENSET_EL0`.
    PMCNTENSET_EL0 = Self::sysreg(3, 3, 9, 12, 1);
    /// `PMCNTENCLR_EL0`.
    PMCNTENCLR_EL0 = Self::sysreg(3, 3, 9, 12, 2);
    /// `PMOVSCLR_EL0`.
    PMOVSCLR_EL0 = Self::sysreg(3, 3, 9, 12, 3);
    /// `PMSWINC_EL0`.
    PMSWINC_EL0 = Self::sysreg(3, 3, 9, 12, 4);
    /// `PMSELR_EL0`.
    PMSELR_EL0 = Self::sysreg(3, 3, 9, 12, 5);
    /// `PMCEID0_EL0`.
    PMCEID0_EL0 = Self::sysreg(3, 3, 9, 12, 6);
    /// `PMCEID1_EL0`.
    PMCEID1_EL0 = Self::sysreg(3, 3, 9, 12, 7);
    /// `PMCCNTR_EL0`.
    PMCCNTR_EL0 = Self::sysreg(3, 3, 9, 13, 0);
    /// `PMXEVTYPER_EL0`.
    PMXEVTYPER_EL0 = Self::sysreg(3, 3, 9, 13, 1);
    /// `PMXEVCNTR_EL0`.
    PMXEVCNTR_EL0 = Self::sysreg(3, 3, 9, 13, 2);
    /// `PMUSERENR_EL0`.
    PMUSERENR_EL0 = Self::sysreg(3, 3, 9, 14, 0);
    /// `PMOVSSET_EL0`.
    PMOVSSET_EL0 = Self::sysreg(3, 3, 9, 14, 3);
    /// `PMCCFILTR_EL0`.
    PMCCFILTR_EL0 = Self::sysreg(3, 3, 14, 15, 7);
    /// `PMINTENSET_EL1`.
    PMINTENSET_EL1 = Self::sysreg(3, 0, 9, 14, 1);
    /// `PMINTENCLR_EL1`.
    PMINTENCLR_EL1 = Self::sysreg(3, 0, 9, 14, 2);
    /// The PMU's machine identification. KVM lists it from v7.3 on, for vCPUs with a PMU.
    PMMIR_EL1 = Self::sysreg(3, 0, 9, 14, 6);
}

impl RegisterId {
    /// Both halves of the five pointer-authentication keys, ascending: the guest's secrets.
    pub const POINTER_AUTHENTICATION_KEYS: [Self; 10] = [
        Self::APIAKEYLO_EL1,
        Self::APIAKEYHI_EL1,
        Self::APIBKEYLO_EL1,
        Self::APIBKEYHI_EL1,
        Self::APDAKEYLO_EL1,
        Self::APDAKEYHI_EL1,
        Self::APDBKEYLO_EL1,
        Self::APDBKEYHI_EL1,
        Self::APGAKEYLO_EL1,
        Self::APGAKEYHI_EL1,
    ];
}
