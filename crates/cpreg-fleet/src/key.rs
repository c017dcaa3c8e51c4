//! [`HostKey`]: a short, stable name for everything about a host that decides if a VM loads there.
//!
//! Hosts with equal keys get the same decision for every VM with these features. The key says
//! nothing about the kernel's version as such: two releases that list, hold and accept the same
//! have one key.
//!
//! | line | content |
//! |---|---|
//! | `features`, `accelerator`, `values` | features of the guest, accelerator, origin of values |
//! | `register` | each listed register: initial value, accepted values |
//! | `gate` | each ID field that hides listed registers, and if this kernel honours it |
//! | `rules` | the rules by which this kernel replaces parts of a value that it takes |
//! | `series` | the kernel's series; only if not all fields of an ID register were tried |
//! | `fact` | counter frequency, SVE vector lengths, DCZID_EL0, GIC |
//!
//! Counters and the timers' read-only status bit are left out, because time changes them. The key
//! is the beginning of the SHA-256 of the sorted lines, after the version of this scheme.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use cpreg::destination::accept;
use cpreg::destination::kernel::{self, RegisterKind, time_dependent_bits};
use cpreg::destination::loader::Program;
use cpreg::destination::{
    AcceptedFields, AcceptedValues, Destination, DestinationRegister, Features, ValueOrigin,
};
use cpreg::gic::Gic;
use cpreg::hardware::HardwareFact;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::Error;
use sha2::{Digest as _, Sha256};

use crate::host::Host;

/// Version of the scheme. A change of the lines needs a new version.
pub const VERSION: u32 = 1;

/// Number of bytes of the digest in a key.
const DIGEST_LEN: usize = 8;

/// Short name for everything about a host that decides: `k1-2f6b0c9a41d7e358`.
///
/// It fits the value of a Kubernetes label and the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostKey(String);

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Part of a host that decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyPart {
    /// The guest's features, the accelerator, the origin of the values, the kernel's rules, or its
    /// series.
    Basis(&'static str),
    /// Property of the host that no register list holds.
    Fact(&'static str),
    /// Registers that the host lists.
    Listed(RegisterId),
    /// Initial value of a register.
    InitialValue(RegisterId),
    /// Values that a register accepts.
    AcceptedValues(RegisterId),
    /// ID field that hides the register on this kernel.
    Gate(RegisterId),
}

impl KeyPart {
    /// Returns the register that the part is about.
    pub const fn register(&self) -> Option<RegisterId> {
        match self {
            Self::Listed(id)
            | Self::InitialValue(id)
            | Self::AcceptedValues(id)
            | Self::Gate(id) => Some(*id),
            Self::Basis(_) | Self::Fact(_) => None,
        }
    }
}

/// Everything about a host that decides for guests with some features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyContent {
    parts: BTreeMap<KeyPart, String>,
}

impl KeyContent {
    /// Returns what decides on a host, for guests with these features.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn new(host: &Host, features: Features) -> Result<Self, Error> {
        let features = host.features().unwrap_or(features);
        let destination = host.destination(features, Program::CPREG)?;
        let mut content = Self::of_destination(&destination);
        let features = features.to_string();
        content.parts.insert(KeyPart::Basis("features"), features);
        Ok(content)
    }

    /// Returns what decides at a destination, by its first vCPU.
    pub(crate) fn of_destination(destination: &Destination) -> Self {
        let mut parts = BTreeMap::new();
        let accelerator = destination.accelerator.map_or("unknown", |it| it.name());
        parts.insert(KeyPart::Basis("accelerator"), accelerator.to_owned());
        let origin = match (destination.value_origin, destination.is_emulated()) {
            (ValueOrigin::Guest, _) => "guest",
            (_, true) => "emulated-host",
            (_, false) => "reset",
        };
        parts.insert(KeyPart::Basis("values"), origin.to_owned());
        let mut needs_series = false;
        for vcpu in destination.vcpus.iter().take(1) {
            for register in vcpu.registers() {
                let id = register.id;
                add_register(&mut parts, register);
                needs_series |= depends_on_series(register);
                let version = destination.kernel_version;
                if let Some(gate) = kernel::find_active_gate(version, id) {
                    let honoured = match kernel::gates_by_vm_id_field(vcpu, version, id) {
                        Some(true) => "honoured",
                        Some(false) => "ignored",
                        None => "unknown",
                    };
                    let text = format!("{} {honoured}", gate.field);
                    parts.insert(KeyPart::Gate(id), text);
                }
            }
            for extension in &vcpu.extensions {
                // Only profiles of QEMU have extensions, and their order has no meaning.
                let all = parts.entry(KeyPart::Basis("extensions")).or_default();
                all.push_str(&extension.name);
                all.push(' ');
            }
        }
        let rules = accept::special_rule_names(destination.kernel_version);
        let rules: Vec<_> = rules.into_iter().collect();
        parts.insert(KeyPart::Basis("rules"), rules.join(" | "));
        if needs_series {
            let series = destination.kernel_version;
            let series = series.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
            parts.insert(KeyPart::Basis("series"), series);
        }
        add_facts(&mut parts, destination);
        Self { parts }
    }

    /// Returns the key.
    pub fn key(&self) -> HostKey {
        let digest = Sha256::digest(self.to_string());
        let bytes = digest.iter().take(DIGEST_LEN);
        let digits = bytes.map(|byte| format!("{byte:02x}"));
        HostKey(format!("k{VERSION}-{}", digits.collect::<String>()))
    }

    /// Returns the parts in which two hosts differ. A register that only one of them lists has no
    /// further parts.
    pub fn differences(&self, other: &Self) -> Vec<KeyPart> {
        let all: BTreeSet<_> = self.parts.keys().chain(other.parts.keys()).collect();
        let is_listed = |content: &Self, id| content.parts.contains_key(&KeyPart::Listed(id));
        let differing = all.into_iter().filter(|part| {
            let is_in_both = part.register().is_none_or(|id| {
                matches!(part, KeyPart::Listed(_)) || is_listed(self, id) && is_listed(other, id)
            });
            is_in_both && self.parts.get(part) != other.parts.get(part)
        });
        differing.cloned().collect()
    }

    /// Returns `true` if the host lists the register.
    pub fn lists(&self, id: RegisterId) -> bool {
        self.parts.contains_key(&KeyPart::Listed(id))
    }
}

/// Formats the lines whose digest is the key.
impl fmt::Display for KeyContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cpreg.host-key/{VERSION}")?;
        for (part, text) in &self.parts {
            match part {
                KeyPart::Basis(name) => writeln!(f, "{name} {text}")?,
                KeyPart::Fact(name) => writeln!(f, "fact {name} {text}")?,
                KeyPart::Listed(id) => writeln!(f, "register {:016x} listed", id.raw())?,
                KeyPart::InitialValue(id) => {
                    writeln!(f, "register {:016x} value {text}", id.raw())?;
                }
                KeyPart::AcceptedValues(id) => {
                    writeln!(f, "register {:016x} accepts {text}", id.raw())?;
                }
                KeyPart::Gate(id) => writeln!(f, "gate {:016x} {text}", id.raw())?,
            }
        }
        Ok(())
    }
}

fn add_register(parts: &mut BTreeMap<KeyPart, String>, register: &DestinationRegister) {
    let id = register.id;
    parts.insert(KeyPart::Listed(id), String::new());
    if RegisterKind::from_id(id) != RegisterKind::Counter {
        let value = register.value.as_ref();
        let value = value.map_or_else(|| "unknown".to_owned(), |value| describe(id, value));
        parts.insert(KeyPart::InitialValue(id), value);
    }
    let accepted = match &register.accepted_values {
        AcceptedValues::ByKind => "by-kind".to_owned(),
        AcceptedValues::Writable(mask) => format!("mask {mask:#x}"),
        AcceptedValues::OneOf(values) => {
            let values: BTreeSet<_> = values.iter().collect();
            let values: Vec<_> = values.iter().map(|value| format!("{value:#x}")).collect();
            format!("one-of {}", values.join(" "))
        }
        AcceptedValues::Subset(bits) => format!("subset {bits:#x}"),
        AcceptedValues::Fields(fields) => describe_fields(fields),
    };
    parts.insert(KeyPart::AcceptedValues(id), accepted);
}

/// Returns a value without the bits that time changes.
fn describe(id: RegisterId, value: &Value) -> String {
    match value.as_u64() {
        Some(number) => format!("{:#x}", number & !time_dependent_bits(id)),
        None => value.to_string(),
    }
}

fn describe_fields(fields: &AcceptedFields) -> String {
    let mut text = "fields".to_owned();
    if let Some(mask) = fields.writable {
        // Writing to a string does not fail.
        let _ = write!(text, " mask {mask:#x}");
    }
    for field in fields.fields() {
        let (msb, lsb) = (field.msb(), field.lsb());
        let _ = write!(text, " {msb}:{lsb}={:#x}", field.kept());
        for dropped in field.dropped() {
            let _ = write!(text, ",{:#x}->{}", dropped.values, dropped.reads);
        }
    }
    text
}

/// Returns `true` if the rules of the kernel's series decide about values of the register, because
/// not all of its fields were tried.
fn depends_on_series(register: &DestinationRegister) -> bool {
    let is_id = matches!(
        RegisterKind::from_id(register.id),
        RegisterKind::Identification | RegisterKind::CacheType
    );
    is_id && !matches!(register.accepted_values, AcceptedValues::Fields(_))
}

/// Revision of the GICv3 on all kernels since Linux 5.19, which the key leaves out.
const USUAL_GIC_REVISION: u64 = 3;

/// Adds the facts that can refuse a VM.
fn add_facts(parts: &mut BTreeMap<KeyPart, String>, destination: &Destination) {
    let facts = destination.hardware;
    let hexadecimal = |fact| facts.get(fact).map(|value| format!("{value:#x}"));
    let gic = facts.gic.map(|gic| match gic {
        Gic::V3(limits) => format!("v3 {:#x}", limits.bits()),
        Gic::Other => "other".to_owned(),
    });
    let revision = facts.gic_revision().filter(|it| *it != USUAL_GIC_REVISION);
    let all = [
        (
            "counter-frequency",
            facts.counter_frequency.map(|hertz| hertz.to_string()),
        ),
        ("vector-lengths", hexadecimal(HardwareFact::VectorLengths)),
        ("dczid", hexadecimal(HardwareFact::ZeroingBlock)),
        ("gmid", hexadecimal(HardwareFact::TagBlock)),
        ("gic", gic),
        ("gic-revision", revision.map(|it| it.to_string())),
    ];
    for (name, text) in all {
        if let Some(text) = text {
            parts.insert(KeyPart::Fact(name), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use cpreg_hosts::HostRecord;

    use super::*;
    use crate::host::testing::recorded_hosts;

    fn content(name: &str, features: Features) -> KeyContent {
        let host = recorded_hosts(&[name]).remove(0);
        KeyContent::new(&host, features).expect("recorded")
    }

    #[test]
    fn a_key_is_short_and_its_scheme_does_not_change() {
        let key = content("linux-6.12.107/neoverse-n1", Features::PMU).key();
        let text = key.to_string();
        assert_eq!(text.len(), "k1-".len() + 2 * DIGEST_LEN);
        let is_label = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        assert!(text.chars().all(is_label), "{text}");
        // A change of this key needs a new VERSION, because people store keys.
        assert_eq!(text, "k1-c8b757e57ef02cae");
    }

    #[test]
    fn the_name_and_the_point_release_do_not_decide() {
        let host = recorded_hosts(&["linux-6.12.107/neoverse-n1"]).remove(0);
        let own = KeyContent::new(&host, Features::PMU)
            .expect("recorded")
            .key();
        let record = host.record().expect("a recorded host");
        for release in [
            "6.12.63", "6.12.70", "6.12.80", "6.12.90", "6.12.100", "6.12.110",
        ] {
            let mut identity = record.identity.clone();
            identity.release = format!("{release}+deb13-arm64");
            identity.version = format!("#1 SMP Debian {release}-1 (2026-01-01)");
            let record = HostRecord {
                identity,
                ..record.clone()
            };
            let release = Host::recorded(release.to_owned(), record);
            let key = KeyContent::new(&release, Features::PMU)
                .expect("recorded")
                .key();
            assert_eq!(key, own);
        }
    }

    #[test]
    fn whatever_a_recording_changes_changes_the_key() {
        let host = recorded_hosts(&["linux-6.12.107/neoverse-n1"]).remove(0);
        let destination = host
            .destination(Features::PMU, Program::CPREG)
            .expect("recorded");
        let own = KeyContent::of_destination(&destination).key();
        let mut others = Vec::new();
        let registers = destination.vcpus[0].registers();
        for index in 0..registers.len() {
            let id = registers[index].id;
            if RegisterKind::from_id(id) == RegisterKind::Counter {
                continue;
            }
            let changed = |change: fn(&mut DestinationRegister)| {
                let mut registers = registers.to_vec();
                change(&mut registers[index]);
                let mut destination = destination.as_ref().clone();
                destination.vcpus = vec![cpreg::destination::DestinationVcpu::new(
                    registers,
                    Vec::new(),
                )];
                KeyContent::of_destination(&destination).key()
            };
            let other_value = changed(|it| it.value = Some(Value::U64(0x1234_5678_9abc_def0)));
            let other_values =
                changed(|it| it.accepted_values = AcceptedValues::OneOf(vec![0xabc]));
            others.extend([other_value, other_values]);
        }
        let mut slower = destination.as_ref().clone();
        slower.hardware.counter_frequency = Some(1);
        others.push(KeyContent::of_destination(&slower).key());
        let mut older = destination.as_ref().clone();
        older.hardware.gicd_iidr = Some(0x4b00_243b);
        others.push(KeyContent::of_destination(&older).key());
        assert!(others.len() > 600, "{}", others.len());
        assert!(!others.contains(&own));
    }

    /// Returns the boundary between two hosts: the registers that only one lists, those with other
    /// initial values, and the number of registers that accept other values.
    fn boundary(one: &str, other: &str) -> String {
        let [one, other] = [one, other].map(|name| content(name, Features::PMU));
        let parts = one.differences(&other);
        let mut words = Vec::new();
        let mut accepted = Vec::new();
        for part in &parts {
            match part {
                KeyPart::Listed(id) if one.lists(*id) => words.push(format!("-{id}")),
                KeyPart::Listed(id) => words.push(format!("+{id}")),
                // 31 registers of the PMU, all with KVM's reset poison before 6.1.
                KeyPart::InitialValue(id) if id.to_string().starts_with("PMEVTYPER") => {}
                KeyPart::InitialValue(id) => words.push(format!("={id}")),
                KeyPart::AcceptedValues(id) => accepted.push(format!("~{id}")),
                KeyPart::Gate(id) => words.push(format!("gate {id}")),
                KeyPart::Basis(name) | KeyPart::Fact(name) => words.push((*name).to_owned()),
            }
        }
        if accepted.len() > 3 {
            accepted = vec![format!("~{} registers", accepted.len())];
        }
        words.extend(accepted);
        words.join(" ")
    }

    #[test]
    fn each_boundary_between_kernels_has_its_registers() {
        let kernels = [
            "5.10.223", "6.1.176", "6.12.43", "6.12.95", "6.12.107", "6.16.3", "6.16.12",
            "6.17.13", "6.18.15", "6.19.14", "7.0.13", "7.1.13", "7.2.12", "7.3.4",
        ];
        let names = kernels.map(|kernel| format!("linux-{kernel}/neoverse-n1"));
        let boundaries = names.windows(2).zip(kernels.windows(2));
        let boundaries = boundaries.map(|(pair, versions)| {
            let text = boundary(&pair[0], &pair[1]);
            format!("{}..{}: {text}", versions[0], versions[1])
        });
        let boundaries: Vec<_> = boundaries.collect();
        let expected = [
            "5.10.223..6.1.176: rules gic-revision +OSLSR_EL1 +KVM_REG_ARM_STD_BMAP \
             +KVM_REG_ARM_STD_HYP_BMAP +KVM_REG_ARM_VENDOR_HYP_BMAP \
             =ID_AA64DFR0_EL1 =PMINTENSET_EL1 =PMINTENCLR_EL1 =PMCNTENSET_EL0 \
             =PMCNTENCLR_EL0 =PMOVSCLR_EL0 =PMSWINC_EL0 =PMSELR_EL0 =PMOVSSET_EL0 \
             =PSCI_VERSION ~ID_AA64PFR0_EL1 ~PSCI_VERSION",
            "6.1.176..6.12.43: rules +CCSIDR_EL1[3] +CCSIDR_EL1[4] +CCSIDR_EL1[5] \
             +CCSIDR_EL1[6] +CCSIDR_EL1[7] +CCSIDR_EL1[8] +CCSIDR_EL1[9] \
             +CCSIDR_EL1[10] +CCSIDR_EL1[11] +CCSIDR_EL1[12] +CCSIDR_EL1[13] \
             +TCR2_EL1 +PIRE0_EL1 +PIR_EL1 +CNTPCT_EL0 +CNTP_CTL_EL0 +CNTP_CVAL_EL0 \
             =CCSIDR_EL1[0] =CCSIDR_EL1[1] =CCSIDR_EL1[2] =ID_AA64DFR0_EL1 \
             =CLIDR_EL1 =PMCR_EL0 ~58 registers",
            "6.12.43..6.12.95: ~21 registers",
            "6.12.95..6.12.107: ",
            "6.12.107..6.16.3: rules -TCR2_EL1 -PIRE0_EL1 -PIR_EL1 \
             +KVM_REG_ARM_VENDOR_HYP_BMAP_2 =PSCI_VERSION ~33 registers",
            "6.16.3..6.16.12: ",
            "6.16.12..6.17.13: ~24 registers",
            "6.17.13..6.18.15: ~ID_AA64ISAR3_EL1 ~ID_AA64MMFR1_EL1",
            "6.18.15..6.19.14: ",
            "6.19.14..7.0.13: ~ID_DFR0_EL1 ~ID_AA64DFR0_EL1 ~ID_AA64ISAR0_EL1",
            "7.0.13..7.1.13: ~ID_AA64PFR2_EL1 ~ID_AA64FPFR0_EL1 ~ID_AA64ISAR3_EL1",
            "7.1.13..7.2.12: rules",
            "7.2.12..7.3.4: +PMMIR_EL1",
        ];
        assert_eq!(boundaries, expected);
    }
}
