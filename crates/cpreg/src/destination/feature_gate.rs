//! [`FeatureGate`]: ID fields that hide other registers of the same VM.
//!
//! KVM lists and writes a register only if the VM's ID registers have the feature (`visibility`
//! functions in Linux `arch/arm64/kvm/sys_regs.c`; read in 6.12.107, 7.2.12 and 7.3.4). A loader
//! writes the ID registers first, so a low field makes the later write of the register fail.
//!
//! Features of the vCPU hide more registers: EL2, E2H0 (CNTHV_*), SVE (ZCR_EL1, ZCR_EL2), the PMU.
//! No ID field does so.

use super::{DestinationVcpu, Version};
use crate::register::RegisterId;

/// Field of an ID register that hides other registers of the same VM if its value is too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct FeatureGate {
    /// ID register with the field.
    pub id_register: RegisterId,
    /// Name of the field.
    pub field: &'static str,
    /// Lowest bit of the field, which is four bits wide.
    pub lsb: u8,
    /// Lowest value with which the kernel shows the registers.
    pub min: u64,
    /// Registers that the field hides.
    pub registers: &'static [RegisterId],
    /// First kernel release with the gate.
    pub since: Version,
    /// First kernel version with the gate, and the Linux commit if known.
    pub first_version: &'static str,
}

impl FeatureGate {
    /// Extracts the field from a value of the ID register.
    pub const fn extract(&self, value: u64) -> u64 {
        value >> self.lsb & 0xf
    }

    /// Returns `true` if this value of the ID register hides the registers.
    pub const fn hides(&self, value: u64) -> bool {
        self.extract(value) < self.min
    }

    /// Returns the values that hide the registers, as words after "is": `0` or `below 2`.
    pub const fn low_values(&self) -> &'static str {
        match self.min {
            1 => "0",
            2 => "below 2",
            _ => "below 3",
        }
    }

    const fn with_min(self, min: u64) -> Self {
        Self { min, ..self }
    }
}

const fn gate(
    id_register: RegisterId,
    (field, lsb): (&'static str, u8),
    registers: &'static [RegisterId],
    since: (u16, u16),
    first_version: &'static str,
) -> FeatureGate {
    FeatureGate {
        id_register,
        field,
        lsb,
        min: 1,
        registers,
        since: Version::new(since.0, since.1),
        first_version,
    }
}

const MMFR0: RegisterId = RegisterId::ID_AA64MMFR0_EL1;
const MMFR3: RegisterId = RegisterId::ID_AA64MMFR3_EL1;
const MMFR4: RegisterId = RegisterId::ID_AA64MMFR4_EL1;

const fn el2(crn: u8, crm: u8, op2: u8) -> RegisterId {
    RegisterId::sysreg(3, 4, crn, crm, op2)
}

const HFGRTR_EL2: RegisterId = el2(1, 1, 4);
const HFGWTR_EL2: RegisterId = el2(1, 1, 5);
const SCTLR2_EL2: RegisterId = el2(1, 0, 3);
const NVHCR_EL2: RegisterId = el2(1, 5, 0);
const TCR2_EL2: RegisterId = el2(2, 0, 3);
const VNCR_EL2: RegisterId = el2(2, 2, 0);
const HDFGRTR2_EL2: RegisterId = el2(3, 1, 0);
const HDFGWTR2_EL2: RegisterId = el2(3, 1, 1);
const HFGRTR2_EL2: RegisterId = el2(3, 1, 2);
const HFGWTR2_EL2: RegisterId = el2(3, 1, 3);
const HDFGRTR_EL2: RegisterId = el2(3, 1, 4);
const HDFGWTR_EL2: RegisterId = el2(3, 1, 5);
const HAFGRTR_EL2: RegisterId = el2(3, 1, 6);
const HFGITR2_EL2: RegisterId = el2(3, 1, 7);
const PIRE0_EL2: RegisterId = el2(10, 2, 2);
const PIR_EL2: RegisterId = el2(10, 2, 3);
const POR_EL2: RegisterId = el2(10, 2, 4);
const ICH_HCR_EL2: RegisterId = el2(12, 11, 0);

/// Text for gates that are as old as EL2 in VMs.
const WITH_EL2: &str = "v6.16";

/// Fields of ID registers that hide other registers when they are too low. They do so on kernels
/// that consult the VM's ID registers.
///
/// HFGITR_EL2 has no gate, unlike the other registers of fine-grained traps.
pub const FEATURE_GATES: [FeatureGate; 12] = [
    gate(
        MMFR3,
        ("TCRX", 0),
        &[RegisterId::TCR2_EL1],
        (6, 13),
        "v6.13 (0fcb4eea5345)",
    ),
    gate(
        MMFR3,
        ("SCTLRX", 4),
        &[RegisterId::SCTLR2_EL1, SCTLR2_EL2],
        (6, 17),
        "v6.17 (81fbef164766)",
    ),
    gate(
        MMFR3,
        ("S1PIE", 8),
        &[RegisterId::PIRE0_EL1, RegisterId::PIR_EL1],
        (6, 13),
        "v6.13 (a68cddbe47ef)",
    ),
    gate(
        MMFR3,
        ("S1POE", 16),
        &[RegisterId::POR_EL1, RegisterId::POR_EL0],
        (6, 12),
        "v6.12",
    ),
    gate(
        RegisterId::ID_AA64PFR2_EL1,
        ("FPMR", 32),
        &[RegisterId::FPMR],
        (6, 12),
        "v6.12 (ef3be86021c3)",
    ),
    gate(MMFR3, ("TCRX", 0), &[TCR2_EL2], (6, 16), WITH_EL2),
    gate(
        MMFR3,
        ("S1PIE", 8),
        &[PIRE0_EL2, PIR_EL2],
        (6, 16),
        WITH_EL2,
    ),
    gate(MMFR3, ("S1POE", 16), &[POR_EL2], (6, 16), WITH_EL2),
    gate(MMFR4, ("NV_frac", 20), &[VNCR_EL2], (6, 16), WITH_EL2),
    gate(
        MMFR0,
        ("FGT", 56),
        &[
            HFGRTR_EL2,
            HFGWTR_EL2,
            HDFGRTR_EL2,
            HDFGWTR_EL2,
            HAFGRTR_EL2,
        ],
        (6, 17),
        "v6.17 (72c62700b279)",
    ),
    gate(
        MMFR0,
        ("FGT", 56),
        &[
            HDFGRTR2_EL2,
            HDFGWTR2_EL2,
            HFGRTR2_EL2,
            HFGWTR2_EL2,
            HFGITR2_EL2,
        ],
        (6, 17),
        "v6.17 (a0aae0a9a70e)",
    )
    .with_min(2),
    gate(MMFR4, ("NV_frac", 20), &[NVHCR_EL2], (7, 3), "v7.3").with_min(3),
];

/// Gate of a kernel that is not released. It applies only if the destination's kernel is known to
/// be that new.
const QUEUED_GATE: FeatureGate = gate(
    RegisterId::ID_AA64DFR0_EL1,
    ("PMUVer", 8),
    &PMU_REGISTERS,
    (7, 4),
    "v7.4 (517cdec3d4b2)",
);

/// Registers of the PMU (`PMU_SYS_REG` in Linux `arch/arm64/kvm/sys_regs.c`).
const PMU_REGISTERS: [RegisterId; 13 + 2 * EVENT_COUNTERS] = pmu_registers();

const EVENT_COUNTERS: usize = 31;

const fn pmu_registers() -> [RegisterId; 13 + 2 * EVENT_COUNTERS] {
    const fn el0(crn: u8, crm: u8, op2: u8) -> RegisterId {
        RegisterId::sysreg(3, 3, crn, crm, op2)
    }
    let mut registers = [RegisterId::PMCR_EL0; 13 + 2 * EVENT_COUNTERS];
    let others = [
        // PMINTENSET_EL1, PMINTENCLR_EL1, PMMIR_EL1.
        RegisterId::sysreg(3, 0, 9, 14, 1),
        RegisterId::sysreg(3, 0, 9, 14, 2),
        RegisterId::sysreg(3, 0, 9, 14, 6),
        // PMCNTENSET_EL0, PMCNTENCLR_EL0, PMOVSCLR_EL0, PMSWINC_EL0, PMSELR_EL0.
        el0(9, 12, 1),
        el0(9, 12, 2),
        el0(9, 12, 3),
        el0(9, 12, 4),
        el0(9, 12, 5),
        // PMCCNTR_EL0, PMUSERENR_EL0, PMOVSSET_EL0, PMCCFILTR_EL0.
        el0(9, 13, 0),
        el0(9, 14, 0),
        el0(9, 14, 3),
        el0(14, 15, 7),
    ];
    let mut index = 0;
    while index < others.len() {
        registers[1 + index] = others[index];
        index += 1;
    }
    // PMEVCNTR<n>_EL0 and PMEVTYPER<n>_EL0.
    let mut counter = 0_u8;
    while (counter as usize) < EVENT_COUNTERS {
        let (high, low) = (counter >> 3, counter & 7);
        registers[13 + counter as usize] = el0(14, 0b1000 | high, low);
        registers[13 + EVENT_COUNTERS + counter as usize] = el0(14, 0b1100 | high, low);
        counter += 1;
    }
    registers
}

/// Returns the ID field that hides a register when the field is too low, if a released kernel has
/// one.
pub fn find_feature_gate(id: RegisterId) -> Option<&'static FeatureGate> {
    let index = GATED_REGISTERS.binary_search_by_key(&id.raw(), |(register, _)| *register);
    GATES.get(GATED_REGISTERS[index.ok()?].1)
}

const GATES: &[FeatureGate] = &FEATURE_GATES;

/// Number of registers that released kernels hide.
const GATED_COUNT: usize = {
    let (mut count, mut index) = (0, 0);
    while index < FEATURE_GATES.len() {
        count += FEATURE_GATES[index].registers.len();
        index += 1;
    }
    count
};

/// Hidden registers, ascending by id, each with the index of its gate. A plan looks up every
/// register of both lists.
static GATED_REGISTERS: [(u64, usize); GATED_COUNT] = {
    let mut gated = [(0, 0); GATED_COUNT];
    let (mut count, mut gate) = (0, 0);
    while gate < FEATURE_GATES.len() {
        let registers = FEATURE_GATES[gate].registers;
        let mut register = 0;
        while register < registers.len() {
            let id = registers[register].raw();
            let mut position = count;
            while position > 0 && gated[position - 1].0 > id {
                gated[position] = gated[position - 1];
                position -= 1;
            }
            gated[position] = (id, gate);
            count += 1;
            register += 1;
        }
        gate += 1;
    }
    gated
};

/// Search for hidden registers in ascending order of their ids, which skips no id twice.
pub(crate) struct GateSearch {
    kernel_version: Option<Version>,
    rest: &'static [(u64, usize)],
}

impl GateSearch {
    /// Returns a search for the gates that [`find_active_gate`] returns.
    pub(crate) const fn new(kernel_version: Option<Version>) -> Self {
        Self {
            kernel_version,
            rest: &GATED_REGISTERS,
        }
    }

    /// Returns `true` if an ID field hides this register, whose id is not below an earlier one.
    pub(crate) fn is_gated(&mut self, id: RegisterId) -> bool {
        while let Some(((first, _), rest)) = self.rest.split_first()
            && *first < id.raw()
        {
            self.rest = rest;
        }
        self.rest
            .first()
            .is_some_and(|(first, _)| *first == id.raw())
            || is_queued(self.kernel_version, id)
    }
}

fn is_queued(kernel_version: Option<Version>, id: RegisterId) -> bool {
    kernel_version.is_some_and(|version| version >= QUEUED_GATE.since)
        && QUEUED_GATE.registers.contains(&id)
}

/// Returns the ID field that hides a register, if a kernel that the destination may run has one.
pub fn find_active_gate(
    kernel_version: Option<Version>,
    id: RegisterId,
) -> Option<&'static FeatureGate> {
    const QUEUED: &FeatureGate = &QUEUED_GATE;
    find_feature_gate(id).or_else(|| is_queued(kernel_version, id).then_some(QUEUED))
}

/// Returns `Some(true)` if the host's kernel hides a listed register once the VM's ID field becomes
/// too low.
///
/// Returns `None` if no field hides the register, or if neither the kernel's version nor the host's
/// list shows the kernel's behaviour.
pub fn gates_by_vm_id_field(
    destination_vcpu: &DestinationVcpu,
    kernel_version: Option<Version>,
    id: RegisterId,
) -> Option<bool> {
    let gate = find_active_gate(kernel_version, id)?;
    if destination_vcpu
        .value(gate.id_register)
        .is_some_and(|value| gate.hides(value))
    {
        // The register is listed although the feature is absent: a kernel before the gate.
        return Some(false);
    }
    if let Some(version) = kernel_version {
        return Some(version >= gate.since);
    }
    match id {
        // VENDOR_HYP_BMAP_2 (v6.15) is younger than the check (v6.13).
        RegisterId::TCR2_EL1 | RegisterId::PIR_EL1 | RegisterId::PIRE0_EL1 => destination_vcpu
            .get(RegisterId::VENDOR_HYP_BMAP_2)
            .map(|_| true),
        // ICH_HCR_EL2 left the list in the release with the check (c70a4027f5f3).
        HFGRTR_EL2 | HFGWTR_EL2 | HDFGRTR_EL2 | HDFGWTR_EL2 | HAFGRTR_EL2 => {
            Some(destination_vcpu.get(ICH_HCR_EL2).is_none())
        }
        // The kernel added the check together with the registers of the other gates.
        _ => Some(true),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;
    use crate::destination::{AcceptedValues, DestinationRegister};
    use crate::register::Value;

    fn destination_vcpu(registers: &[(RegisterId, u64)]) -> DestinationVcpu {
        let registers = registers.iter().map(|(id, value)| DestinationRegister {
            id: *id,
            value: Some(Value::U64(*value)),
            accepted_values: AcceptedValues::ByKind,
        });
        DestinationVcpu::new(registers, Vec::new())
    }

    #[test]
    fn each_register_has_one_gate() {
        let mut names = Vec::new();
        for gate in FEATURE_GATES {
            let field = gate.id_register.field(gate.field).expect(gate.field);
            assert_eq!(
                (field.lsb(), field.width()),
                (gate.lsb, 4),
                "{}",
                gate.field
            );
            let low = if gate.min == 1 {
                "0".to_string()
            } else {
                alloc::format!("below {}", gate.min)
            };
            assert_eq!(gate.low_values(), low);
            names.extend(gate.registers.iter().map(ToString::to_string));
        }
        names.sort();
        assert_eq!(
            names.join(" "),
            "FPMR HAFGRTR_EL2 HDFGRTR2_EL2 HDFGRTR_EL2 HDFGWTR2_EL2 HDFGWTR_EL2 HFGITR2_EL2 \
             HFGRTR2_EL2 HFGRTR_EL2 HFGWTR2_EL2 HFGWTR_EL2 NVHCR_EL2 PIRE0_EL1 PIRE0_EL2 PIR_EL1 \
             PIR_EL2 POR_EL0 POR_EL1 POR_EL2 SCTLR2_EL1 SCTLR2_EL2 TCR2_EL1 TCR2_EL2 VNCR_EL2"
        );
        names.dedup();
        assert_eq!(names.len(), 24);
    }

    #[test]
    fn a_low_field_hides_the_registers() {
        for gate in &FEATURE_GATES {
            for id in gate.registers {
                assert_eq!(find_feature_gate(*id), Some(gate), "{id}");
            }
        }
        let gate = find_feature_gate(HFGITR2_EL2).expect("a gate");
        assert!(gate.hides(0x1 << 56));
        assert!(!gate.hides(0x2 << 56));
        assert_eq!(find_feature_gate(el2(1, 1, 6)), None);
    }

    #[test]
    fn the_release_or_the_list_shows_if_the_kernel_has_the_gate() {
        let version = |major, minor| Some(Version::new(major, minor));
        let new = destination_vcpu(&[(MMFR0, 1 << 56), (HFGRTR_EL2, 0)]);
        let old = destination_vcpu(&[(MMFR0, 1 << 56), (HFGRTR_EL2, 0), (ICH_HCR_EL2, 0)]);
        assert_eq!(gates_by_vm_id_field(&new, None, HFGRTR_EL2), Some(true));
        assert_eq!(gates_by_vm_id_field(&old, None, HFGRTR_EL2), Some(false));
        assert_eq!(
            gates_by_vm_id_field(&new, version(6, 16), HFGRTR_EL2),
            Some(false)
        );
        let tcr2 = RegisterId::TCR2_EL1;
        let vcpu = destination_vcpu(&[(MMFR3, 1), (tcr2, 0)]);
        assert_eq!(gates_by_vm_id_field(&vcpu, None, tcr2), None);
        assert_eq!(
            gates_by_vm_id_field(&vcpu, version(6, 12), tcr2),
            Some(false)
        );
        assert_eq!(
            gates_by_vm_id_field(&vcpu, version(6, 13), tcr2),
            Some(true)
        );
    }

    /// The PMU's registers are hidden only by a kernel that is known to be that new.
    #[test]
    fn a_queued_gate_needs_the_release() {
        let pmcr = RegisterId::PMCR_EL0;
        let vcpu = destination_vcpu(&[(RegisterId::ID_AA64DFR0_EL1, 0x506), (pmcr, 0)]);
        for (version, expected) in [
            (None, None),
            (Some(Version::new(7, 3)), None),
            (Some(Version::new(7, 4)), Some(true)),
        ] {
            assert_eq!(
                gates_by_vm_id_field(&vcpu, version, pmcr),
                expected,
                "{version:?}"
            );
        }
        let names: Vec<_> = PMU_REGISTERS.iter().map(ToString::to_string).collect();
        assert!(names.iter().all(|name| name.starts_with("PM")), "{names:?}");
        let mut ids = PMU_REGISTERS;
        ids.sort();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_search_in_order_finds_every_gate() {
        for version in [None, Some(Version::new(7, 4))] {
            let mut search = GateSearch::new(version);
            for number in 0..=0xffff {
                let id = RegisterId::from_raw(0x6030_0000_0013_0000 | number);
                let gate = find_active_gate(version, id);
                assert_eq!(search.is_gated(id), gate.is_some(), "{id} {version:?}");
            }
        }
    }
}
