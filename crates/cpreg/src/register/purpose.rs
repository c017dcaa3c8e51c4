//! What a register is for, in one sentence for people.
//!
//! By name, then by family, then by class; a register without a sentence has none, and nothing is made up. What a register's
//! difference means for a migration does not live here ([`crate::tolerance`]).
//!
//! Sources: the Arm Architecture Reference Manual (DDI 0487) for what registers do, Linux
//! `Documentation/virt/kvm/arm/fw-pseudo-registers.rst` (v6.15) and `api.rst` for KVM's own; in our own words.

use super::id::{DecodedId, RegisterClass, RegisterId};
use super::name::Naming;

impl RegisterId {
    /// What the register is for, in one sentence without a full stop, if we have one.
    pub fn purpose(self, naming: Naming) -> Option<&'static str> {
        let name = self.name_in(naming);
        name.and_then(purpose_by_name)
            .or_else(|| self.purpose_by_family(name.unwrap_or_default()))
            .or_else(|| {
                let counterpart = self.counterpart()?;
                counterpart.id.purpose(Naming::Architectural)
            })
    }

    fn purpose_by_family(self, name: &str) -> Option<&'static str> {
        if self.is_secret() {
            return Some("half of a pointer-authentication key, which is the guest's secret");
        }
        if self.is_id_register() || self.is_aarch32_id_register() {
            return Some(
                "an ID register: says which features the CPU has, which guests read when they start",
            );
        }
        if self.is_pmu() {
            return Some("part of the performance monitors (PMU)");
        }
        if let Some((_, purpose)) = FAMILIES.iter().find(|(start, _)| name.starts_with(start)) {
            return Some(purpose);
        }
        match self.decode() {
            DecodedId::Demux { index: 0, .. } => Some(
                "the geometry of one cache: sets, ways, line size; the number is what CSSELR_EL1 selects it by",
            ),
            DecodedId::SveZ { .. } => Some("an SVE vector register"),
            DecodedId::SveP { .. } => Some("an SVE predicate register"),
            DecodedId::SveFfr { .. } => Some("the SVE first fault register"),
            DecodedId::SystemRegister(register) if matches!(register.crn, 11 | 15) => {
                Some("an encoding that is left to whoever makes the CPU (IMPLEMENTATION DEFINED)")
            }
            _ => (self.class() == RegisterClass::Core && is_general(name))
                .then_some("a general-purpose or vector register"),
        }
    }
}

/// X0 to X30, V0 to V31.
fn is_general(name: &str) -> bool {
    let number = name.strip_prefix('X').or_else(|| name.strip_prefix('V'));
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

fn purpose_by_name(name: &str) -> Option<&'static str> {
    let known = PURPOSES.iter().find(|(known, _)| *known == name);
    known.map(|(_, purpose)| *purpose)
}

/// By how the name begins; the first that fits.
const FAMILIES: &[(&str, &str)] = &[
    ("DBGBVR", "a hardware breakpoint: the address"),
    ("DBGBCR", "a hardware breakpoint: when it counts"),
    ("DBGWVR", "a hardware watchpoint: the address"),
    ("DBGWCR", "a hardware watchpoint: when it counts"),
    (
        "ICH_",
        "the interrupt controller as a hypervisor in the guest sees it",
    ),
    ("ICC_", "the interrupt controller's CPU interface"),
    ("CNTH", "a timer of the hypervisor in the guest"),
    (
        "HDFG",
        "which accesses to debug registers trap to the hypervisor",
    ),
    (
        "HFG",
        "which accesses trap to the hypervisor (fine-grained traps)",
    ),
    ("MECID", "memory encryption contexts"),
    (
        "SPSR_",
        "the processor state saved when an exception was taken",
    ),
];

/// By name, in the order of names.
const PURPOSES: &[(&str, &str)] = &[
    (
        "ACTLR_EL1",
        "auxiliary control; what its bits do is up to the CPU",
    ),
    ("AFSR0_EL1", "further details of a fault, up to the CPU"),
    ("AFSR1_EL1", "further details of a fault, up to the CPU"),
    ("AIDR_EL1", "an identification that is up to the CPU"),
    ("AMAIR_EL1", "further memory attributes, up to the CPU"),
    (
        "CLIDR_EL1",
        "which levels of cache there are, and of which kind",
    ),
    (
        "CNTKCTL_EL1",
        "which counters and timers user space may use",
    ),
    ("CNTP_CTL_EL0", "the physical timer: enabled, masked, fired"),
    ("CNTP_CVAL_EL0", "the physical timer: when it fires"),
    ("CNTPCT_EL0", "the physical counter: time itself"),
    ("CNTV_CTL_EL0", "the virtual timer: enabled, masked, fired"),
    ("CNTV_CVAL_EL0", "the virtual timer: when it fires"),
    (
        "CNTVCT_EL0",
        "the virtual counter: time as the guest sees it",
    ),
    (
        "CONTEXTIDR_EL1",
        "the process that runs, for debuggers and traces",
    ),
    (
        "CPACR_EL1",
        "whether floating point, SVE and SME may be used",
    ),
    ("CSSELR_EL1", "which cache CCSIDR_EL1 describes"),
    (
        "CTR_EL0",
        "the cache type: line sizes, and what must be cleaned",
    ),
    ("DBGVCR32_EL2", "vector catches of AArch32 debuggers"),
    ("DISR_EL1", "an SError that was held back (RAS)"),
    ("ELR_EL1", "where to return to from an exception"),
    ("ESR_EL1", "why an exception was taken"),
    ("FAR_EL1", "the address that faulted"),
    (
        "FPCR",
        "how floating point rounds and which exceptions trap",
    ),
    ("FPMR", "the formats of 8-bit floating point (FEAT_FPMR)"),
    ("FPSR", "which floating-point exceptions have happened"),
    ("GCR_EL1", "which tags IRG leaves out (MTE)"),
    (
        "HCR_EL2",
        "what a hypervisor in the guest configures and traps",
    ),
    (
        "KVM_REG_ARM64_SVE_VLS",
        "which SVE vector lengths the guest has; fixed once the vCPU is finalized",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
        "what the guest is told of the firmware's help against Spectre v2 (CVE-2017-5715)",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
        "what the guest is told of the firmware's help against Speculative Store Bypass (CVE-2018-3639)",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
        "what the guest is told of the firmware's help against Spectre-BHB (CVE-2022-23960)",
    ),
    (
        "KVM_REG_ARM_STD_BMAP",
        "which of the standard secure services the guest may call: random numbers (TRNG)",
    ),
    (
        "KVM_REG_ARM_STD_HYP_BMAP",
        "which of the standard hypervisor services the guest may call: stolen time (PV_TIME)",
    ),
    (
        "KVM_REG_ARM_TIMER_CNT",
        "the virtual counter CNTVCT_EL0: time as the guest sees it",
    ),
    (
        "KVM_REG_ARM_TIMER_CVAL",
        "the virtual timer's CNTV_CVAL_EL0: when it fires",
    ),
    (
        "KVM_REG_ARM_VENDOR_HYP_BMAP",
        "which of KVM's own services the guest may call: PTP time, finding out which there are",
    ),
    (
        "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
        "whether the guest may ask KVM on which other CPU implementations it may run, so that it can apply errata for all of them",
    ),
    ("MAIR_EL1", "the kinds of memory that page tables name"),
    (
        "MDCCINT_EL1",
        "interrupts of the debug communications channel",
    ),
    ("MDSCR_EL1", "debug control: single step, breakpoints"),
    (
        "MIDR_EL1",
        "which CPU it is: who made it, which part and revision",
    ),
    ("MPIDR_EL1", "which of the CPUs it is"),
    (
        "OSLAR_EL1",
        "takes and releases the OS lock of debug registers",
    ),
    (
        "OSLSR_EL1",
        "whether the OS lock of debug registers is there and taken",
    ),
    ("PAR_EL1", "what translating an address gave"),
    ("PC", "the program counter"),
    (
        "PIR_EL1",
        "permissions of the kernel that page tables name by index (FEAT_S1PIE)",
    ),
    (
        "PIRE0_EL1",
        "permissions of user space that page tables name by index (FEAT_S1PIE)",
    ),
    (
        "PMCR_EL0",
        "the performance monitors' control register, with how many counters there are",
    ),
    (
        "PMMIR_EL1",
        "parameters of the performance monitors, such as how many slots a cycle has",
    ),
    ("POR_EL0", "permission overlays of user space (FEAT_S1POE)"),
    ("POR_EL1", "permission overlays of the kernel (FEAT_S1POE)"),
    (
        "PSCI_VERSION",
        "which version of PSCI, the firmware's power calls, KVM shows the guest",
    ),
    (
        "PSTATE",
        "the processor's state: exception level, masks, condition flags",
    ),
    ("REVIDR_EL1", "which fixes this revision of the CPU has"),
    ("RGSR_EL1", "the seed of random tags (MTE)"),
    ("SCTLR2_EL1", "further bits of SCTLR_EL1 (FEAT_SCTLR2)"),
    (
        "SCTLR_EL1",
        "system control: MMU, caches, alignment, endianness",
    ),
    ("SP_EL0", "the stack pointer of user space"),
    ("SP_EL1", "the stack pointer of the kernel"),
    (
        "TCR2_EL1",
        "further bits of TCR_EL1 (FEAT_TCR2): among them, whether indirect permissions are used",
    ),
    (
        "TCR_EL1",
        "how addresses are translated: sizes and granules",
    ),
    ("TFSR_EL1", "whether a tag check failed in the kernel (MTE)"),
    (
        "TFSRE0_EL1",
        "whether a tag check failed in user space (MTE)",
    ),
    ("TPIDR2_EL0", "a thread pointer of user space for SME"),
    ("TPIDR_EL0", "the thread pointer of user space"),
    ("TPIDR_EL1", "what the kernel keeps for each CPU"),
    (
        "TPIDRRO_EL0",
        "a thread pointer that user space can only read",
    ),
    ("TTBR0_EL1", "the page tables of user space"),
    ("TTBR1_EL1", "the page tables of the kernel"),
    ("VBAR_EL1", "where the exception vectors are"),
    ("ZCR_EL1", "how long SVE vectors may be"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_of_registers() {
        for (name, purpose) in PURPOSES {
            let id = RegisterId::parse_in(name, Naming::Architectural).expect(name);
            let naming = [Naming::Kvm, Naming::Architectural];
            assert!(
                naming
                    .iter()
                    .any(|naming| id.purpose(*naming) == Some(purpose)),
                "{name}"
            );
            assert!(!purpose.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn the_swapped_timers_are_what_they_are_called() {
        let df1a = RegisterId::TIMER_CNT;
        let [kvm, encoded] = [Naming::Kvm, Naming::Architectural].map(|it| df1a.purpose(it));
        assert!(kvm.is_some_and(|it| it.contains("counter")), "{kvm:?}");
        assert!(
            encoded.is_some_and(|it| it.contains("fires")),
            "{encoded:?}"
        );
    }

    #[test]
    fn families_and_unknown_ones() {
        let purpose = |id: RegisterId| id.purpose(Naming::Kvm).unwrap_or("none");
        assert!(purpose(RegisterId::x(3)).starts_with("a general-purpose"));
        assert!(purpose(RegisterId::APIAKEYLO_EL1).contains("secret"));
        assert!(purpose(RegisterId::ID_AA64MMFR3_EL1).starts_with("an ID register"));
        assert!(purpose(RegisterId::ccsidr(2)).contains("cache"));
        assert!(purpose(RegisterId::sysreg(3, 0, 15, 1, 4)).contains("IMPLEMENTATION"));
        assert_eq!(purpose(RegisterId::sysreg(3, 3, 7, 7, 7)), "none");
        assert_eq!(purpose(RegisterId::from_raw(7)), "none");
    }
}
