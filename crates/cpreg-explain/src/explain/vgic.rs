//! Names of the attributes of KVM's interrupt controllers: `KVM_DEV_ARM_VGIC_GRP_*` and
//! `KVM_DEV_ARM_ITS_*`.
//!
//! Source: Linux, `arch/arm64/include/uapi/asm/kvm.h` and
//! `Documentation/virt/kvm/devices/arm-vgic-v3.rst`, `arm-vgic-its.rst`.

use alloc::format;
use alloc::string::{String, ToString};

use cpreg::register::RegisterId;

use crate::message::AttributeAccess;
use crate::situation::Situation;

/// Group of the attributes that control the device.
const CTRL: u32 = 4;
/// Attribute to save the tables of the ITS to the guest's RAM.
const ITS_SAVE_TABLES: u64 = 1;
/// Attribute to read the tables of the ITS from the guest's RAM.
const ITS_RESTORE_TABLES: u64 = 2;
/// Attribute to save the pending interrupts to the guest's RAM.
const SAVE_PENDING_TABLES: u64 = 3;

/// Attribute of an interrupt controller.
pub(super) struct Attribute {
    /// Name of the group and of the attribute, as the kernel's header spells them.
    pub(super) name: String,
    /// Meaning of the access, in words.
    pub(super) meaning: String,
    /// Activity in which QEMU accesses the attribute.
    pub(super) situation: Situation,
}

/// Returns `true` if the attribute saves tables to the guest's RAM.
pub(super) const fn is_table_save(group: u32, attribute: u64) -> bool {
    group == CTRL && matches!(attribute, ITS_SAVE_TABLES | SAVE_PENDING_TABLES)
}

/// Returns the attribute with this group and number.
pub(super) fn attribute(access: AttributeAccess, group: u32, attribute: u64) -> Attribute {
    let verb = match access {
        AttributeAccess::Get => "save",
        AttributeAccess::Set => "restore",
    };
    let state = match access {
        AttributeAccess::Get => Situation::Save,
        AttributeAccess::Set => Situation::Load,
    };
    let (name, meaning, situation) = match group {
        0 => (
            format!("KVM_DEV_ARM_VGIC_GRP_ADDR, {}", address_name(attribute)),
            "set an address of the interrupt controller".to_string(),
            Situation::Start,
        ),
        1 => register(
            "KVM_DEV_ARM_VGIC_GRP_DIST_REGS",
            verb,
            &distributor(attribute),
            state,
        ),
        2 => register(
            "KVM_DEV_ARM_VGIC_GRP_CPU_REGS",
            verb,
            &offset("GICC", attribute),
            state,
        ),
        3 => (
            "KVM_DEV_ARM_VGIC_GRP_NR_IRQS".to_string(),
            "set the number of interrupts".to_string(),
            Situation::Start,
        ),
        CTRL => control(attribute, state),
        5 => register(
            "KVM_DEV_ARM_VGIC_GRP_REDIST_REGS",
            verb,
            &redistributor(attribute),
            state,
        ),
        6 => register(
            "KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS",
            verb,
            &system_register(attribute),
            state,
        ),
        7 => (
            "KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO".to_string(),
            format!("{verb} the levels of the interrupt lines"),
            state,
        ),
        8 => register(
            "KVM_DEV_ARM_VGIC_GRP_ITS_REGS",
            verb,
            &its(attribute),
            state,
        ),
        9 => (
            "KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ".to_string(),
            "set the maintenance interrupt".to_string(),
            Situation::Start,
        ),
        group => (
            format!("group {group}, attribute {attribute:#x}"),
            format!("{verb} a part of a device's state"),
            state,
        ),
    };
    Attribute {
        name,
        meaning,
        situation,
    }
}

fn register(
    group: &str,
    verb: &str,
    register: &str,
    situation: Situation,
) -> (String, String, Situation) {
    (
        format!("{group}, {register}"),
        format!("{verb} the register {register}"),
        situation,
    )
}

fn control(attribute: u64, state: Situation) -> (String, String, Situation) {
    let (name, meaning, situation) = match attribute {
        0 => (
            "KVM_DEV_ARM_VGIC_CTRL_INIT",
            "initialize the controller",
            Situation::Start,
        ),
        ITS_SAVE_TABLES => (
            "KVM_DEV_ARM_ITS_SAVE_TABLES",
            "save the tables of the ITS to the guest's RAM",
            Situation::Save,
        ),
        ITS_RESTORE_TABLES => (
            "KVM_DEV_ARM_ITS_RESTORE_TABLES",
            "restore the tables of the ITS from the guest's RAM",
            Situation::Load,
        ),
        SAVE_PENDING_TABLES => (
            "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES",
            "save the pending interrupts to the guest's RAM",
            Situation::Save,
        ),
        4 => (
            "KVM_DEV_ARM_ITS_CTRL_RESET",
            "reset the ITS",
            Situation::Start,
        ),
        attribute => {
            return (
                format!("KVM_DEV_ARM_VGIC_GRP_CTRL, attribute {attribute}"),
                "control the interrupt controller".to_string(),
                state,
            );
        }
    };
    (
        format!("KVM_DEV_ARM_VGIC_GRP_CTRL, {name}"),
        meaning.to_string(),
        situation,
    )
}

fn address_name(attribute: u64) -> String {
    match attribute & 0xff {
        0 => "KVM_VGIC_V2_ADDR_TYPE_DIST".into(),
        1 => "KVM_VGIC_V2_ADDR_TYPE_CPU".into(),
        2 => "KVM_VGIC_V3_ADDR_TYPE_DIST".into(),
        3 => "KVM_VGIC_V3_ADDR_TYPE_REDIST".into(),
        4 => "KVM_VGIC_ITS_ADDR_TYPE".into(),
        5 => "KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION".into(),
        other => format!("attribute {other}"),
    }
}

/// Registers with their offsets; a register with several words has the offset of the first.
type Offsets = &'static [(u64, &'static str)];

const DISTRIBUTOR: Offsets = &[
    (0x0, "GICD_CTLR"),
    (0x4, "GICD_TYPER"),
    (0x8, "GICD_IIDR"),
    (0x10, "GICD_STATUSR"),
    (0x80, "GICD_IGROUPR"),
    (0x100, "GICD_ISENABLER"),
    (0x180, "GICD_ICENABLER"),
    (0x200, "GICD_ISPENDR"),
    (0x280, "GICD_ICPENDR"),
    (0x300, "GICD_ISACTIVER"),
    (0x380, "GICD_ICACTIVER"),
    (0x400, "GICD_IPRIORITYR"),
    (0x800, "GICD_ITARGETSR"),
    (0xc00, "GICD_ICFGR"),
    (0xd00, "GICD_IGRPMODR"),
    (0xf00, "GICD_SGIR"),
    (0x6000, "GICD_IROUTER"),
];

const REDISTRIBUTOR: Offsets = &[
    (0x0, "GICR_CTLR"),
    (0x4, "GICR_IIDR"),
    (0x8, "GICR_TYPER"),
    (0x10, "GICR_STATUSR"),
    (0x14, "GICR_WAKER"),
    (0x70, "GICR_PROPBASER"),
    (0x78, "GICR_PENDBASER"),
    (0x1_0080, "GICR_IGROUPR0"),
    (0x1_0100, "GICR_ISENABLER0"),
    (0x1_0180, "GICR_ICENABLER0"),
    (0x1_0200, "GICR_ISPENDR0"),
    (0x1_0280, "GICR_ICPENDR0"),
    (0x1_0300, "GICR_ISACTIVER0"),
    (0x1_0380, "GICR_ICACTIVER0"),
    (0x1_0400, "GICR_IPRIORITYR"),
    (0x1_0c00, "GICR_ICFGR"),
];

const ITS: Offsets = &[
    (0x0, "GITS_CTLR"),
    (0x4, "GITS_IIDR"),
    (0x8, "GITS_TYPER"),
    (0x80, "GITS_CBASER"),
    (0x88, "GITS_CWRITER"),
    (0x90, "GITS_CREADR"),
    (0x100, "GITS_BASER"),
];

/// Encodings of the CPU interface's system registers, and their names.
const SYSTEM_REGISTERS: [(u16, &str); 11] = [
    (0xc230, "ICC_PMR_EL1"),
    (0xc643, "ICC_BPR0_EL1"),
    (0xc644, "ICC_AP0R0_EL1"),
    (0xc648, "ICC_AP1R0_EL1"),
    (0xc661, "ICC_DIR_EL1"),
    (0xc663, "ICC_BPR1_EL1"),
    (0xc664, "ICC_CTLR_EL1"),
    (0xc665, "ICC_SRE_EL1"),
    (0xc666, "ICC_IGRPEN0_EL1"),
    (0xc667, "ICC_IGRPEN1_EL1"),
    (0xc65b, "ICC_RPR_EL1"),
];

fn name_at(registers: Offsets, group: &str, attribute: u64) -> String {
    let offset = attribute & 0xffff_ffff;
    match registers.iter().rev().find(|(at, _)| *at <= offset) {
        Some((at, name)) if *at == offset => (*name).to_string(),
        Some((at, name)) if offset - at < 0x400 => format!("{name}+{:#x}", offset - at),
        _ => format!("{group} offset {offset:#x}"),
    }
}

fn distributor(attribute: u64) -> String {
    name_at(DISTRIBUTOR, "distributor", attribute)
}

fn redistributor(attribute: u64) -> String {
    name_at(REDISTRIBUTOR, "redistributor", attribute)
}

fn its(attribute: u64) -> String {
    name_at(ITS, "ITS", attribute)
}

fn offset(group: &str, attribute: u64) -> String {
    format!("{group} offset {:#x}", attribute & 0xffff_ffff)
}

fn system_register(attribute: u64) -> String {
    let [low, high, ..] = attribute.to_le_bytes();
    let encoding = u16::from_le_bytes([low, high]);
    let known = SYSTEM_REGISTERS.iter().find(|(it, _)| *it == encoding);
    known.map_or_else(
        || {
            const SYSTEM_REGISTER: u64 = 0x6030_0000_0013_0000;
            RegisterId::from_raw(SYSTEM_REGISTER | u64::from(encoding)).to_string()
        },
        |(_, name)| (*name).to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups and attributes, with the name and the activity.
    #[test]
    fn attributes_are_named() {
        use AttributeAccess::{Get, Set};
        for (access, group, number, name, situation) in [
            (Set, 4, 1, "KVM_DEV_ARM_ITS_SAVE_TABLES", Situation::Save),
            (Set, 4, 2, "KVM_DEV_ARM_ITS_RESTORE_TABLES", Situation::Load),
            (
                Set,
                4,
                3,
                "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES",
                Situation::Save,
            ),
            (Set, 4, 0, "KVM_DEV_ARM_VGIC_CTRL_INIT", Situation::Start),
            (Set, 1, 8, "GICD_IIDR", Situation::Load),
            (Get, 1, 0x104, "GICD_ISENABLER+0x4", Situation::Save),
            (Set, 5, 0x1_0000_0001_0080, "GICR_IGROUPR0", Situation::Load),
            (Set, 6, 0xc664, "ICC_CTLR_EL1", Situation::Load),
            (Set, 8, 0x100, "GITS_BASER", Situation::Load),
            (Set, 0, 4, "KVM_VGIC_ITS_ADDR_TYPE", Situation::Start),
            (Set, 7, 0, "LEVEL_INFO", Situation::Load),
        ] {
            let found = attribute(access, group, number);
            assert!(found.name.contains(name), "{} has no {name}", found.name);
            assert_eq!(found.situation, situation, "{name}");
        }
    }
}
