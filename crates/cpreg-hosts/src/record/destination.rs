//! A recorded host as a destination for a guest with some features.
//!
//! - Registers: from the recording of a guest with exactly these features, or combined from
//!   recordings that each have some of the features.
//! - Values at reset: from a fresh vCPU, if the register has a value that is the same on all vCPUs.
//! - Other accepted values: from trials for PSCI versions, bits of bitmaps and fields of ID
//!   registers. An ID register without trials has the values that the kernel's writable mask
//!   allows. Without trials and masks, the accepted values are not known.
//!
//! [`cpreg::destination::features`] decides which features a guest has, and
//! [`cpreg::destination::accept`] whether a value is accepted.

use std::collections::{BTreeMap, BTreeSet};

use cpreg::destination::kernel::{PSCI_VERSIONS, RegisterKind};
use cpreg::destination::loader::Program;
use cpreg::destination::{
    Accelerator, AcceptedFields, AcceptedValues, Destination, DestinationRegister, DestinationVcpu,
    Features, ValueOrigin, Version,
};
use cpreg::hardware::{HardwareFacts, VectorLengths};
use cpreg::register::{DecodedId, RegisterId, Value};
use cpreg::tolerance::condition::RESET_POISON;
use cpreg::vm::Vm;

use super::register::reset_value;
use super::{AtReset, GuestRecord, HostRecord, RegisterRecord, WriteTrial};
use crate::error::{Error, ErrorKind};
use crate::profile::{Profile, ProfileOrigin};

/// Evidence of a destination with values of an emulated host, in words for reports.
pub const EMULATED_HOST_EVIDENCE: &str = "a recorded host with an emulated CPU: right about its kernel, no proof of a real machine's values";

impl HostRecord {
    /// Returns the host as a destination for a guest with these features, with the registers in the
    /// list of `program`.
    ///
    /// If a set of features was not recorded, the method combines recordings of its subsets that
    /// together have all features. KVM lists the registers of all these subsets. A value is known
    /// if the recordings of all subsets and supersets of the features agree. A field of an ID
    /// register is also known if the recordings show that it depends on one feature only.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn destination(&self, features: Features, program: Program) -> Result<Destination, Error> {
        let features = remove_el1_32bit(features);
        let recorded: BTreeMap<Features, DestinationVcpu> = self
            .guests
            .iter()
            .filter(|(features, _)| !features.contains(Features::EL1_32BIT))
            .map(|(features, guest)| (*features, guest.to_destination_vcpu()))
            .collect();
        let registers = match recorded.get(&features) {
            Some(vcpu) => vcpu.registers().to_vec(),
            None => combine_registers(features, &recorded)
                .ok_or_else(|| self.not_recorded_error(features, recorded.keys()))?,
        };
        let kept = registers
            .into_iter()
            .filter(|register| program.has_in_list(register.id));
        Ok(Destination {
            name: format!("{}/{features}", self.identity.name()),
            accelerator: Some(Accelerator::Kvm),
            loader: None,
            value_origin: if self.identity.emulated {
                ValueOrigin::EmulatedHost
            } else {
                ValueOrigin::Reset
            },
            vcpus: vec![DestinationVcpu::new(kept, Vec::new())],
            kernel_version: Version::from_kernel_release(&self.identity.release),
            hardware: self.hardware_facts(features),
            shape: None,
        })
    }

    /// Returns a new VM of this host with these features and one vCPU, as `program` saves the VM
    /// before its guest runs.
    ///
    /// A register that holds KVM's reset poison has the poison as its value. Counters, registers
    /// that differ between vCPUs and those on which recordings disagree have an [unknown
    /// value](Value::unknown).
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn new_vm(&self, features: Features, program: Program) -> Result<Vm, Error> {
        let mut vm = self.destination(features, program)?.new_vm(usize::MAX);
        for vcpu in &mut vm.vcpus {
            let unknown: Vec<_> = vcpu
                .registers
                .iter()
                .filter(|(_, value)| value.is_unknown())
                .map(|(id, _)| id)
                .collect();
            for id in unknown {
                if let Some(poison) = self.reset_poison(id) {
                    vcpu.registers.insert(id, poison);
                }
            }
        }
        Ok(vm)
    }

    /// Returns KVM's reset poison, if all recordings of the register hold it.
    fn reset_poison(&self, id: RegisterId) -> Option<Value> {
        let guests = self.guests.values().flat_map(|guest| &guest.registers);
        let mut records = guests.filter(|register| register.id == id).peekable();
        records.peek()?;
        let is_short = id.size_bytes().is_some_and(|size| size < 8);
        let poison = RESET_POISON & if is_short { 0xffff_ffff } else { u64::MAX };
        let is_poison = records.all(|register| register.at_reset == AtReset::Poison);
        is_poison.then_some(Value::U64(poison))
    }

    /// Returns the facts that a VM of this host may have seen: those of a guest with all features,
    /// because the VM's features are not known.
    pub fn source_hardware(&self) -> HardwareFacts {
        HardwareFacts {
            is_emulated: self.identity.emulated,
            ..self.hardware_facts(Features::SVE | Features::MTE | Features::PMU)
        }
    }

    /// Returns the facts about a guest with these features that its register list does not hold.
    ///
    /// QEMU's list leaves out KVM_REG_ARM64_SVE_VLS. The vector lengths are known if all recordings
    /// of guests with SVE agree.
    fn hardware_facts(&self, features: Features) -> HardwareFacts {
        let mut facts = self.hardware;
        if !features.contains(Features::MTE) {
            facts.gmid = None;
        }
        if !features.contains(Features::PMU) {
            facts.pmu_events = None;
        }
        if !features.contains(Features::SVE) {
            return HardwareFacts {
                vector_lengths: None,
                ..facts
            };
        }
        let guests = self.guests.values().flat_map(|guest| &guest.registers);
        let sets = guests.filter(|register| register.id == RegisterId::SVE_VLS);
        let mut sets = sets.map(|register| match &register.at_reset {
            AtReset::Value(value) => VectorLengths::from_value(value),
            _ => None,
        });
        let first = sets.next().flatten();
        facts.or(HardwareFacts {
            vector_lengths: first.filter(|_| sets.all(|set| set == first)),
            ..HardwareFacts::UNKNOWN
        })
    }

    fn not_recorded_error<'a>(
        &self,
        features: Features,
        recorded: impl Iterator<Item = &'a Features>,
    ) -> Error {
        let recorded: Vec<_> = recorded.map(ToString::to_string).collect();
        let message = format!(
            "{} was not recorded for guests with the features {features}; recorded features: {}",
            self.identity.name(),
            recorded.join("; ")
        );
        Error::new(ErrorKind::NotRecorded, message)
    }

    /// Returns the evidence of [`Self::destination`] for these features, in words for reports.
    pub fn evidence(&self, features: Features) -> String {
        let release = &self.identity.release;
        let (cpu, limits) = if self.identity.emulated {
            let limits = ": right about its kernel, no proof of a real machine's values";
            (" with an emulated CPU", limits)
        } else {
            ("", "")
        };
        let host = format!("a recorded host{cpu}, Linux {release}");
        if self.guests.contains_key(&remove_el1_32bit(features)) {
            return host + limits;
        }
        format!(
            "combined from recordings of guests that each have some of these features: {host}{limits}"
        )
    }

    /// Returns [`Self::destination`] as a profile.
    ///
    /// # Errors
    /// Returns an error if the recordings do not cover these features.
    pub fn profile(&self, features: Features, program: Program) -> Result<Profile, Error> {
        let destination = self.destination(features, program)?;
        let origin = ProfileOrigin {
            accelerator: Accelerator::Kvm.name().to_owned(),
            cpu: self.identity.cpu_and_mode(),
            kernel: self.identity.release.clone(),
            ..ProfileOrigin::default()
        };
        Ok(Profile {
            origin,
            destination,
        })
    }
}

/// Removes `EL1_32BIT`, on which the list of registers does not depend.
fn remove_el1_32bit(features: Features) -> Features {
    features.difference(Features::EL1_32BIT)
}

/// Combines the registers of a set of features from recordings of its subsets.
fn combine_registers(
    features: Features,
    recorded: &BTreeMap<Features, DestinationVcpu>,
) -> Option<Vec<DestinationRegister>> {
    let parts = recorded.iter().filter(|(set, _)| features.contains(**set));
    let union = parts
        .clone()
        .fold(Features::NONE, |union, (set, _)| union | *set);
    // The empty set has no proper subsets, so only its own recording can describe it.
    if union != features || features.is_empty() {
        return None;
    }
    let supersets = recorded.iter().filter(|(set, _)| set.contains(features));
    let mut registers: BTreeMap<RegisterId, DestinationRegister> = BTreeMap::new();
    for (_, vcpu) in parts.clone() {
        for register in vcpu.registers() {
            registers.insert(register.id, register.clone());
        }
    }
    let mut disagreements = BTreeSet::new();
    for (_, vcpu) in parts.chain(supersets) {
        for register in vcpu.registers() {
            let Some(known) = registers.get_mut(&register.id) else {
                continue;
            };
            if register.value != known.value {
                known.value = None;
                disagreements.insert(register.id);
            }
            known.accepted_values =
                common_accepted_values(&known.accepted_values, &register.accepted_values);
        }
    }
    for id in disagreements {
        if let Some(known) = registers.get_mut(&id) {
            known.value = infer_id_register(id, features, recorded);
        }
    }
    Some(registers.into_values().collect())
}

/// Infers the value of an ID register for a set of features, field by field.
fn infer_id_register(
    id: RegisterId,
    features: Features,
    recorded: &BTreeMap<Features, DestinationVcpu>,
) -> Option<Value> {
    const FIELD_BITS: usize = 4;
    if RegisterKind::from_id(id) != RegisterKind::Identification {
        return None;
    }
    let listed = recorded
        .iter()
        .filter_map(|(set, vcpu)| Some((*set, vcpu.get(id)?)));
    let values = listed.map(|(set, register)| Some((set, register.value.as_ref()?.as_u64()?)));
    let values: Vec<_> = values.collect::<Option<_>>()?;
    let mut fields = (0..u64::BITS).step_by(FIELD_BITS);
    let value = fields.try_fold(0, |value, lsb| {
        let field = values.iter().map(|(set, value)| (*set, value >> lsb & 0xf));
        Some(value | infer_field(features, &field.collect::<Vec<_>>())? << lsb)
    });
    value.map(Value::U64)
}

/// Infers the value of one field from the values in recordings of other sets of features.
///
/// The field must be constant or depend on one feature. Returns `None` if features that it may
/// depend on predict different values. Also returns `None` if no recording agrees with `features`
/// on such a feature.
fn infer_field(features: Features, values: &[(Features, u64)]) -> Option<u64> {
    let is_constant = values.iter().all(|(_, value)| *value == values[0].1);
    if is_constant {
        return values.first().map(|(_, value)| *value);
    }
    let sets = values.iter().map(|(set, _)| *set);
    let all = sets.fold(features, |all, set| all | set);
    let causes = all.names().filter_map(Features::from_name);
    let with_cause = |cause, has_cause| {
        let values = values.iter();
        let values = values.filter(move |(set, _)| set.contains(cause) == has_cause);
        values.map(|(_, value)| *value).collect::<BTreeSet<_>>()
    };
    // A feature can be the cause if the field has at most one value with it and one without it.
    let mut predictions = causes
        .filter(|cause| {
            [true, false]
                .into_iter()
                .all(|has_cause| with_cause(*cause, has_cause).len() <= 1)
        })
        .map(|cause| with_cause(cause, features.contains(cause)).first().copied());
    let prediction = predictions.next()??;
    predictions
        .all(|other| other == Some(prediction))
        .then_some(prediction)
}

/// Number of bits of a firmware bitmap in KVM's ABI.
const BITMAP_BITS: u32 = u64::BITS;

impl GuestRecord {
    /// Returns a vCPU of such a guest as part of a destination.
    pub fn to_destination_vcpu(&self) -> DestinationVcpu {
        let registers = self.registers.iter().map(|register| DestinationRegister {
            id: register.id,
            value: match &register.at_reset {
                AtReset::Value(value) if !register.differs_by_vcpu => Some(value.clone()),
                _ => None,
            },
            accepted_values: self.accepted_values(register),
        });
        DestinationVcpu::new(registers, Vec::new())
    }

    /// Returns the values that a register accepts.
    ///
    /// Trials of PSCI versions or of bitmap bits count only if the probe tried all of them.
    fn accepted_values(&self, register: &RegisterRecord) -> AcceptedValues {
        let trial = |value: u64| register.trials.iter().find(|trial| trial.value == value);
        let reset_value = reset_value(&register.at_reset);
        match RegisterKind::from_id(register.id) {
            RegisterKind::PsciVersion
                if PSCI_VERSIONS
                    .into_iter()
                    .all(|v| reset_value == Some(v) || trial(v).is_some()) =>
            {
                let is_accepted = |value: &u64| {
                    reset_value == Some(*value)
                        || trial(*value).is_some_and(WriteTrial::is_accepted)
                };
                AcceptedValues::OneOf(PSCI_VERSIONS.into_iter().filter(is_accepted).collect())
            }
            RegisterKind::FirmwareBitmap(_)
                if (0..BITMAP_BITS)
                    .all(|bit| reset_value == Some(1 << bit) || trial(1 << bit).is_some()) =>
            {
                let bits = (0..BITMAP_BITS).map(|bit| 1 << bit);
                let accepted = bits.filter(|bit| trial(*bit).is_some_and(WriteTrial::is_accepted));
                AcceptedValues::Subset(
                    accepted.fold(reset_value.unwrap_or(0), |all, bit| all | bit),
                )
            }
            kind => {
                if let Some(fields) = self.accepted_fields(register) {
                    return AcceptedValues::Fields(Box::new(fields));
                }
                let Some(masks) = &self.writable else {
                    return AcceptedValues::ByKind;
                };
                match masks.get(&register.id) {
                    Some(mask) => AcceptedValues::Writable(*mask),
                    // The kernel reports masks, but none for this register: no bit may change.
                    None if kind == RegisterKind::Identification
                        && !can_ignore_writes(register.id, reset_value) =>
                    {
                        AcceptedValues::Writable(0)
                    }
                    None => AcceptedValues::ByKind,
                }
            }
        }
    }
}

impl GuestRecord {
    /// Returns the values of a register's fields, if the probe tried them.
    fn accepted_fields(&self, register: &RegisterRecord) -> Option<AcceptedFields> {
        let fields = register.fields.clone()?;
        let masks = self.writable.as_ref();
        let mask = masks.map(|masks| masks.get(&register.id).copied().unwrap_or(0));
        AcceptedFields::new(mask, fields)
    }
}

/// Returns the accepted values of a register that are known from two recordings.
///
/// If the recordings differ, the fields are not known. Only the writable mask remains, if both
/// recordings have the same mask.
fn common_accepted_values(one: &AcceptedValues, other: &AcceptedValues) -> AcceptedValues {
    let mask = |values: &AcceptedValues| match values {
        AcceptedValues::Writable(mask) => Some(*mask),
        AcceptedValues::Fields(fields) => fields.writable,
        _ => None,
    };
    match (mask(one), mask(other)) {
        _ if one == other => one.clone(),
        (Some(one), Some(other)) if one == other => AcceptedValues::Writable(one),
        _ => AcceptedValues::ByKind,
    }
}

/// Returns `true` if the register may be an AArch32 ID register of a CPU without AArch32.
///
/// Such a register reads as zero. KVM accepts and ignores any written value (`aa32_id_visibility`
/// in Linux `arch/arm64/kvm/sys_regs.c`, since v6.1, d5efec7ed826). No such CPU was recorded.
fn can_ignore_writes(id: RegisterId, reset_value: Option<u64>) -> bool {
    let is_aarch32 = matches!(
        id.decode(),
        DecodedId::SystemRegister(register) if (1..=3).contains(&register.crm)
    );
    is_aarch32 && reset_value.is_none_or(|value| value == 0)
}

#[cfg(test)]
mod tests {
    use cpreg::register::Value;

    use super::*;

    fn register(id: RegisterId, reset: u64, trials: Vec<WriteTrial>) -> RegisterRecord {
        RegisterRecord {
            id,
            at_reset: AtReset::Value(Value::U64(reset)),
            differs_by_vcpu: false,
            write_back: 0,
            trials,
            fields: None,
        }
    }

    fn trial(value: u64, reset: u64, is_accepted: bool) -> WriteTrial {
        WriteTrial {
            value,
            errno: if is_accepted { 0 } else { 22 },
            read_back: if is_accepted { value } else { reset },
        }
    }

    fn accepts(register: RegisterRecord) -> AcceptedValues {
        let id = register.id;
        let guest = GuestRecord {
            registers: vec![register],
            writable: Some(BTreeMap::from([(RegisterId::ID_AA64PFR0_EL1, 0xff)])),
        };
        let vcpu = guest.to_destination_vcpu();
        vcpu.get(id)
            .map(|register| register.accepted_values.clone())
            .unwrap_or_default()
    }

    #[test]
    fn trials_determine_the_accepted_values() {
        let reset = 0x1_0001;
        let others = PSCI_VERSIONS
            .into_iter()
            .filter(|version| *version != reset);
        let trials: Vec<_> = others
            .map(|version| trial(version, reset, version < reset))
            .collect();
        assert_eq!(
            accepts(register(RegisterId::PSCI_VERSION, reset, trials.clone())),
            AcceptedValues::OneOf(vec![0x2, 0x1_0000, 0x1_0001])
        );
        assert_eq!(
            accepts(register(
                RegisterId::PSCI_VERSION,
                reset,
                trials[1..].to_vec()
            )),
            AcceptedValues::ByKind
        );
        let bits = (0..64).map(|bit| trial(1 << bit, 0, bit < 2)).collect();
        assert_eq!(
            accepts(register(RegisterId::VENDOR_HYP_BMAP_2, 0, bits)),
            AcceptedValues::Subset(0b11)
        );
        assert_eq!(
            accepts(register(RegisterId::ID_AA64PFR0_EL1, 0x11, Vec::new())),
            AcceptedValues::Writable(0xff)
        );
    }

    #[test]
    fn registers_without_a_mask_are_not_writable() {
        let accepts = |id, reset| accepts(register(id, reset, Vec::new()));
        assert_eq!(
            accepts(RegisterId::ID_AA64DFR1_EL1, 0),
            AcceptedValues::Writable(0)
        );
        assert_eq!(
            accepts(RegisterId::ID_DFR0_EL1, 0x300_0006),
            AcceptedValues::Writable(0)
        );
        // A value of 0 may be that of a CPU without AArch32, on which KVM ignores writes.
        assert_eq!(accepts(RegisterId::ID_DFR0_EL1, 0), AcceptedValues::ByKind);
        // SCTLR_EL1 is not an ID register, so the masks do not describe it.
        assert_eq!(accepts(RegisterId::SCTLR_EL1, 0), AcceptedValues::ByKind);
    }

    /// Checks every recorded host that reports masks, with every value that was tried.
    #[test]
    fn id_registers_without_a_mask_refused_every_other_value() {
        let index = crate::host_index::HostIndex::built_in().expect("the checked-in index");
        let mut checked = 0;
        for host in index.hosts() {
            for (features, guest) in &host.record().guests {
                let Some(masks) = &guest.writable else {
                    continue;
                };
                // As in a record of an older probe, which did not try each field.
                let mut untried = guest.clone();
                for register in &mut untried.registers {
                    register.fields = None;
                }
                let vcpu = untried.to_destination_vcpu();
                for register in &guest.registers {
                    let accepted = vcpu.get(register.id).map(|known| &known.accepted_values);
                    if masks.contains_key(&register.id)
                        || accepted != Some(&AcceptedValues::Writable(0))
                    {
                        continue;
                    }
                    for trial in &register.trials {
                        checked += 1;
                        assert_ne!(
                            trial.errno,
                            0,
                            "{}: {} with {features} accepts or ignores {:#x}",
                            host.name(),
                            register.id,
                            trial.value
                        );
                    }
                }
            }
        }
        assert!(checked > 500, "{checked}");
    }

    /// Checks the fields of every recorded host with the values that were tried on whole registers,
    /// most of which change several fields.
    #[test]
    fn tried_fields_agree_with_tried_values() {
        let index = crate::host_index::HostIndex::built_in().expect("the checked-in index");
        let (mut checked, mut accepted) = (0, 0);
        for host in index.hosts() {
            for (features, guest) in &host.record().guests {
                for register in &guest.registers {
                    let (Some(fields), Some(own)) = (
                        guest.accepted_fields(register),
                        reset_value(&register.at_reset),
                    ) else {
                        continue;
                    };
                    for trial in &register.trials {
                        checked += 1;
                        accepted += usize::from(trial.errno == 0);
                        let read_back = (trial.errno == 0).then_some(trial.read_back);
                        assert_eq!(
                            fields.value_after_write(own, trial.value),
                            read_back,
                            "{}/{features}: {} <- {:#x}",
                            host.name(),
                            register.id,
                            trial.value
                        );
                    }
                }
            }
        }
        assert!(checked > 10_000 && accepted > 1_000, "{checked} {accepted}");
    }

    #[test]
    fn a_register_that_differs_by_vcpu_has_no_value() {
        let mut register = register(RegisterId::MPIDR_EL1, 0x8000_0000, Vec::new());
        register.differs_by_vcpu = true;
        let guest = GuestRecord {
            registers: vec![register],
            writable: None,
        };
        assert_eq!(
            guest.to_destination_vcpu().value(RegisterId::MPIDR_EL1),
            None
        );
    }
}
