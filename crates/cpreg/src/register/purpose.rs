//! The purpose of a register, in one sentence for people.
//!
//! [`RegisterId::purpose`] searches by name, then by family, then by class. Not every register has
//! a sentence. [`crate::tolerance`] explains differences between hosts.
//!
//! Sources: the Arm Architecture Reference Manual (DDI 0487) for the architecture's registers,
//! Linux `Documentation/virt/kvm/arm/fw-pseudo-registers.rst` (v6.15) and `api.rst` for KVM's own.
//! The wording is cpreg's.

use super::id::{DecodedId, RegisterClass, RegisterId};
use super::name::Naming;

impl RegisterId {
    /// Returns the register's purpose in one sentence without a full stop, if there is one.
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
                "an ID register: describes the CPU's features; guests read it when they boot",
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
                "the geometry of one cache: sets, ways, line size; the number is its CSSELR_EL1 value",
            ),
            DecodedId::SveZ { .. } => Some("an SVE vector register"),
            DecodedId::SveP { .. } => Some("an SVE predicate register"),
            DecodedId::SveFfr { .. } => Some("the SVE first fault register"),
            DecodedId::SystemRegister(register) if matches!(register.crn, 11 | 15) => {
                Some("a register that the CPU's manufacturer defines (IMPLEMENTATION DEFINED)")
            }
            _ => (self.class() == RegisterClass::Core && is_general(name))
                .then_some("a general-purpose or vector register"),
        }
    }
}

/// Returns `true` for X0 to X30 and V0 to V31.
fn is_general(name: &str) -> bool {
    let number = name.strip_prefix('X').or_else(|| name.strip_prefix('V'));
    number.is_some_and(|number| number.parse::<u8>().is_ok())
}

fn purpose_by_name(name: &str) -> Option<&'static str> {
    let entry = PURPOSES.iter().find(|(entry, _)| *entry == name);
    entry.map(|(_, purpose)| *purpose)
}

/// Purposes by the beginning of the name. The first match applies.
const FAMILIES: &[(&str, &str)] = &[
    ("DBGBVR", "a hardware breakpoint: the address"),
    ("DBGBCR", "a hardware breakpoint: when it counts"),
    ("DBGWVR", "a hardware watchpoint: the address"),
    ("DBGWCR", "a hardware watchpoint: when it counts"),
    (
        "ICH_",
        "the interrupt controller's interface for a hypervisor in the guest",
    ),
    ("ICC_", "the interrupt controller's CPU interface"),
    ("CNTH", "a timer of the hypervisor in the guest"),
    (
        "HDFG",
        "traps of debug register accesses to the hypervisor (fine-grained traps)",
    ),
    (
        "HFG",
        "traps of register accesses to the hypervisor (fine-grained traps)",
    ),
    ("MECID", "memory encryption contexts"),
    ("SPSR_", "the processor state saved on exception entry"),
];

/// Purposes by name, in the order of names.
const PURPOSES: &[(&str, &str)] = &[
    (
        "ACTLR_EL1",
        "auxiliary control with bits that the CPU defines",
    ),
    (
        "AFSR0_EL1",
        "further details of a fault, defined by the CPU",
    ),
    (
        "AFSR1_EL1",
        "further details of a fault, defined by the CPU",
    ),
    ("AIDR_EL1", "auxiliary identification, defined by the CPU"),
    ("AMAIR_EL1", "further memory attributes, defined by the CPU"),
    ("CLIDR_EL1", "the levels of cache and their types"),
    ("CNTKCTL_EL1", "user space's access to counters and timers"),
    ("CNTP_CTL_EL0", "the physical timer: enabled, masked, fired"),
    (
        "CNTP_CVAL_EL0",
        "the physical timer: the time at which it fires",
    ),
    ("CNTPCT_EL0", "the physical counter of time"),
    ("CNTV_CTL_EL0", "the virtual timer: enabled, masked, fired"),
    (
        "CNTV_CVAL_EL0",
        "the virtual timer: the time at which it fires",
    ),
    (
        "CNTVCT_EL0",
        "the virtual counter: time as the guest sees it",
    ),
    (
        "CONTEXTIDR_EL1",
        "the id of the running process, for debuggers and traces",
    ),
    ("CPACR_EL1", "enables of floating point, SVE and SME"),
    (
        "CSSELR_EL1",
        "the selection of the cache that CCSIDR_EL1 describes",
    ),
    (
        "CTR_EL0",
        "the cache type: line sizes, and required cleaning",
    ),
    ("DBGVCR32_EL2", "vector catches of AArch32 debuggers"),
    ("DISR_EL1", "a deferred SError (RAS)"),
    ("ELR_EL1", "the return address of an exception"),
    ("ESR_EL1", "the cause of an exception"),
    ("FAR_EL1", "the address that faulted"),
    ("FPCR", "rounding and trapped exceptions of floating point"),
    ("FPMR", "the formats of 8-bit floating point (FEAT_FPMR)"),
    ("FPSR", "status flags of floating-point exceptions"),
    ("GCR_EL1", "the tags that IRG excludes (MTE)"),
    (
        "HCR_EL2",
        "configuration and traps of a hypervisor in the guest",
    ),
    (
        "KVM_REG_ARM64_SVE_VLS",
        "the guest's SVE vector lengths; fixed once the vCPU is finalized",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1",
        "the firmware's mitigation of Spectre v2 (CVE-2017-5715), as shown to the guest",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2",
        "the firmware's mitigation of Speculative Store Bypass (CVE-2018-3639), as shown to the guest",
    ),
    (
        "KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3",
        "the firmware's mitigation of Spectre-BHB (CVE-2022-23960), as shown to the guest",
    ),
    (
        "KVM_REG_ARM_STD_BMAP",
        "the standard secure services that the guest may call: random numbers (TRNG)",
    ),
    (
        "KVM_REG_ARM_STD_HYP_BMAP",
        "the standard hypervisor services that the guest may call: stolen time (PV_TIME)",
    ),
    (
        "KVM_REG_ARM_TIMER_CNT",
        "the virtual counter CNTVCT_EL0: time as the guest sees it",
    ),
    (
        "KVM_REG_ARM_TIMER_CVAL",
        "the virtual timer's CNTV_CVAL_EL0: the time at which it fires",
    ),
    (
        "KVM_REG_ARM_VENDOR_HYP_BMAP",
        "KVM's own services that the guest may call: PTP time, discovery of services",
    ),
    (
        "KVM_REG_ARM_VENDOR_HYP_BMAP_2",
        "KVM's service that lists other CPU implementations on which the guest may run, so that it can apply errata for all of them",
    ),
    ("MAIR_EL1", "the memory types that page tables refer to"),
    (
        "MDCCINT_EL1",
        "interrupts of the debug communications channel",
    ),
    ("MDSCR_EL1", "debug control: single step, breakpoints"),
    (
        "MIDR_EL1",
        "the CPU's identity: implementer, part and revision",
    ),
    ("MPIDR_EL1", "the CPU's number in the machine (affinity)"),
    (
        "OSLAR_EL1",
        "locks and unlocks the OS lock of debug registers",
    ),
    ("OSLSR_EL1", "the status of the OS lock of debug registers"),
    ("PAR_EL1", "the result of an address translation"),
    ("PC", "the program counter"),
    (
        "PIR_EL1",
        "permissions of the kernel that page tables refer to by index (FEAT_S1PIE)",
    ),
    (
        "PIRE0_EL1",
        "permissions of user space that page tables refer to by index (FEAT_S1PIE)",
    ),
    (
        "PMCR_EL0",
        "the performance monitors' control register, with the number of counters",
    ),
    (
        "PMMIR_EL1",
        "parameters of the performance monitors, such as the number of slots per cycle",
    ),
    ("POR_EL0", "permission overlays of user space (FEAT_S1POE)"),
    ("POR_EL1", "permission overlays of the kernel (FEAT_S1POE)"),
    (
        "PSCI_VERSION",
        "the version of PSCI, the firmware's power calls, that KVM shows the guest",
    ),
    (
        "PSTATE",
        "the processor's state: exception level, masks, condition flags",
    ),
    ("REVIDR_EL1", "the fixes that this revision of the CPU has"),
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
        "further bits of TCR_EL1 (FEAT_TCR2), among them the enable of indirect permissions",
    ),
    ("TCR_EL1", "address translation control: sizes and granules"),
    ("TFSR_EL1", "status of tag check faults in the kernel (MTE)"),
    (
        "TFSRE0_EL1",
        "status of tag check faults in user space (MTE)",
    ),
    ("TPIDR2_EL0", "a thread pointer of user space for SME"),
    ("TPIDR_EL0", "the thread pointer of user space"),
    ("TPIDR_EL1", "the kernel's pointer to per-CPU data"),
    (
        "TPIDRRO_EL0",
        "a thread pointer that user space can only read",
    ),
    ("TTBR0_EL1", "the page tables of user space"),
    ("TTBR1_EL1", "the page tables of the kernel"),
    ("VBAR_EL1", "the address of the exception vectors"),
    ("ZCR_EL1", "the maximum length of SVE vectors"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_register() {
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
    fn purposes_of_the_swapped_timers_follow_the_naming() {
        let df1a = RegisterId::TIMER_CNT;
        let [kvm, encoded] =
            [Naming::Kvm, Naming::Architectural].map(|naming| df1a.purpose(naming));
        assert!(
            kvm.is_some_and(|purpose| purpose.contains("counter")),
            "{kvm:?}"
        );
        assert!(
            encoded.is_some_and(|purpose| purpose.contains("fires")),
            "{encoded:?}"
        );
    }

    #[test]
    fn purposes_of_families_and_unknown_registers() {
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
