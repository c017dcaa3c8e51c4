//! A recorded host as a destination, for a guest with some features.
//!
//! | question | answered by |
//! |---|---|
//! | which registers | the recording of a guest with just these features; else put together from recordings with some of them each |
//! | which values at reset | what a fresh vCPU held, where that is a value and all vCPUs have it |
//! | which others are taken | PSCI versions and bitmap bits: what was tried; ID registers: the mask that the kernel tells, and none if it tells none of them; else nothing is said |
//!
//! Nothing here decides anything: which features a guest has says [`cpreg::destination::features`], and what a value means
//! [`cpreg::destination::accept`].

use std::collections::BTreeMap;

use cpreg::destination::kernel::{PSCI_VERSIONS, RegisterKind};
use cpreg::destination::loader::Program;
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, Features,
    ValueOrigin,
};
use cpreg::register::{DecodedId, RegisterId};

use super::{AtReset, GuestRecord, HostRecord, RegisterRecord, WriteTrial};
use crate::error::{Error, ErrorKind};
use crate::profile::{Profile, ProfileOrigin};

/// What a destination whose values are of an emulated host is known from, in words for reports, where nothing else is known of it.
pub const EMULATED_HOST_EVIDENCE: &str = "a recorded host with an emulated CPU: right about its kernel, no proof of a real machine's values";

impl HostRecord {
    /// Returns the host as a destination for a guest with these features, as `program` keeps its list.
    ///
    /// A set that was not recorded is put together where each of its features was recorded with
    /// others of it: KVM then lists what it lists for these, and a value is known where all
    /// recordings of the host that have to do with it agree.
    ///
    /// # Errors
    /// If there are no such recordings.
    pub fn destination(&self, features: Features, program: Program) -> Result<Destination, Error> {
        let features = list_relevant_features(features);
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
            shape: None,
        })
    }

    fn not_recorded_error<'a>(
        &self,
        features: Features,
        recorded: impl Iterator<Item = &'a Features>,
    ) -> Error {
        let recorded: Vec<_> = recorded.map(ToString::to_string).collect();
        let message = format!(
            "{} was not recorded for guests with the features {features}; it was for: {}",
            self.identity.name(),
            recorded.join("; ")
        );
        Error::new(ErrorKind::NotRecorded, message)
    }

    /// Returns what [`Self::destination`] knows a destination for these features from, in words for
    /// reports.
    pub fn evidence(&self, features: Features) -> String {
        let release = &self.identity.release;
        let (cpu, limits) = if self.identity.emulated {
            let limits = ": right about its kernel, no proof of a real machine's values";
            (" with an emulated CPU", limits)
        } else {
            ("", "")
        };
        let whole = format!("a recorded host{cpu}, Linux {release}");
        if self.guests.contains_key(&list_relevant_features(features)) {
            return whole + limits;
        }
        format!(
            "put together from what was recorded of guests with some of these features each: {whole}{limits}"
        )
    }

    /// Returns [`Self::destination`] as a profile.
    ///
    /// # Errors
    /// As for [`Self::destination`].
    pub fn profile(&self, features: Features, program: Program) -> Result<Profile, Error> {
        let destination = self.destination(features, program)?;
        let recorded = ProfileOrigin {
            accelerator: Accelerator::Kvm.name().to_owned(),
            cpu: self.identity.cpu_and_mode(),
            kernel: self.identity.release.clone(),
            ..ProfileOrigin::default()
        };
        Ok(Profile {
            origin: recorded,
            destination,
        })
    }
}

/// Returns those features on which the list of registers depends.
fn list_relevant_features(features: Features) -> Features {
    features.difference(Features::EL1_32BIT)
}

/// What KVM lists for a set of features, from recordings of parts of it.
fn combine_registers(
    features: Features,
    recorded: &BTreeMap<Features, DestinationVcpu>,
) -> Option<Vec<DestinationRegister>> {
    let parts = recorded.iter().filter(|(own, _)| features.contains(**own));
    let made = parts
        .clone()
        .fold(Features::NONE, |made, (own, _)| made | *own);
    // A set without features is no part of nothing: it has to be there itself.
    if made != features || features.is_empty() {
        return None;
    }
    let wholes = recorded.iter().filter(|(own, _)| own.contains(features));
    let mut registers: BTreeMap<RegisterId, DestinationRegister> = BTreeMap::new();
    for (_, vcpu) in parts.clone() {
        for register in vcpu.registers() {
            registers.insert(register.id, register.clone());
        }
    }
    for (_, vcpu) in parts.chain(wholes) {
        for own in vcpu.registers() {
            let Some(known) = registers.get_mut(&own.id) else {
                continue;
            };
            if own.value != known.value {
                known.value = None;
            }
            if own.accepted_values != known.accepted_values {
                known.accepted_values = AcceptedValues::ByKind;
            }
        }
    }
    Some(registers.into_values().collect())
}

/// KVM's ABI has no more bits in a firmware bitmap.
const BITMAP_BITS: u32 = u64::BITS;

impl GuestRecord {
    /// A vCPU of such a guest, as a destination has it.
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

    fn accepted_values(&self, register: &RegisterRecord) -> AcceptedValues {
        let tried = |value: u64| register.trials.iter().find(|trial| trial.value == value);
        let own = match &register.at_reset {
            AtReset::Value(value) => value.as_u64(),
            _ => None,
        };
        match RegisterKind::from_id(register.id) {
            RegisterKind::PsciVersion
                if PSCI_VERSIONS
                    .into_iter()
                    .all(|v| own == Some(v) || tried(v).is_some()) =>
            {
                let is_taken = |value: &u64| {
                    own == Some(*value) || tried(*value).is_some_and(WriteTrial::is_accepted)
                };
                AcceptedValues::OneOf(PSCI_VERSIONS.into_iter().filter(is_taken).collect())
            }
            RegisterKind::FirmwareBitmap(_)
                if (0..BITMAP_BITS)
                    .all(|bit| own == Some(1 << bit) || tried(1 << bit).is_some()) =>
            {
                let bits = (0..BITMAP_BITS).map(|bit| 1 << bit);
                let taken = bits.filter(|bit| tried(*bit).is_some_and(WriteTrial::is_accepted));
                AcceptedValues::Subset(taken.fold(own.unwrap_or(0), |all, bit| all | bit))
            }
            kind => {
                let Some(masks) = &self.writable else {
                    return AcceptedValues::ByKind;
                };
                match masks.get(&register.id) {
                    Some(mask) => AcceptedValues::Writable(*mask),
                    // Of which a kernel that tells masks tells none, no bit may change.
                    None if kind == RegisterKind::Identification
                        && !can_ignore_writes(register.id, own) =>
                    {
                        AcceptedValues::Writable(0)
                    }
                    None => AcceptedValues::ByKind,
                }
            }
        }
    }
}

/// Whether it may be an AArch32 ID register of a CPU without AArch32, which reads as zero and takes any value without keeping it
/// (`aa32_id_visibility` in Linux `arch/arm64/kvm/sys_regs.c`, since v6.1, d5efec7ed826). No such CPU was recorded.
fn can_ignore_writes(id: RegisterId, own: Option<u64>) -> bool {
    let is_aarch32 = matches!(
        id.decode(),
        DecodedId::SystemRegister(register) if (1..=3).contains(&register.crm)
    );
    is_aarch32 && own.is_none_or(|own| own == 0)
}

#[cfg(test)]
mod tests {
    use cpreg::register::Value;

    use super::*;

    fn register(id: RegisterId, own: u64, trials: Vec<WriteTrial>) -> RegisterRecord {
        RegisterRecord {
            id,
            at_reset: AtReset::Value(Value::U64(own)),
            differs_by_vcpu: false,
            write_back: 0,
            trials,
        }
    }

    fn trial(value: u64, own: u64, is_taken: bool) -> WriteTrial {
        WriteTrial {
            value,
            errno: if is_taken { 0 } else { 22 },
            read_back: if is_taken { value } else { own },
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
            .map(|it| it.accepted_values.clone())
            .unwrap_or_default()
    }

    #[test]
    fn what_was_tried_tells_what_is_taken() {
        let own = 0x1_0001;
        let others = PSCI_VERSIONS.into_iter().filter(|version| *version != own);
        let trials: Vec<_> = others
            .map(|version| trial(version, own, version < own))
            .collect();
        assert_eq!(
            accepts(register(RegisterId::PSCI_VERSION, own, trials.clone())),
            AcceptedValues::OneOf(vec![0x2, 0x1_0000, 0x1_0001])
        );
        assert_eq!(
            accepts(register(
                RegisterId::PSCI_VERSION,
                own,
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
    fn what_has_no_mask_is_not_writable() {
        let accepts = |id, own| accepts(register(id, own, Vec::new()));
        assert_eq!(
            accepts(RegisterId::ID_AA64DFR1_EL1, 0),
            AcceptedValues::Writable(0)
        );
        assert_eq!(
            accepts(RegisterId::ID_DFR0_EL1, 0x300_0006),
            AcceptedValues::Writable(0)
        );
        // Of a CPU without AArch32, perhaps, and no ID register.
        assert_eq!(accepts(RegisterId::ID_DFR0_EL1, 0), AcceptedValues::ByKind);
        assert_eq!(accepts(RegisterId::SCTLR_EL1, 0), AcceptedValues::ByKind);
    }

    /// On every recorded host that tells masks, with every value that was tried.
    #[test]
    fn no_recorded_host_took_another_value_where_it_told_no_mask() {
        let history = crate::host_index::HostIndex::built_in().expect("the checked-in history");
        let mut tried = 0;
        for host in history.hosts() {
            for (features, guest) in &host.record().guests {
                let Some(masks) = &guest.writable else {
                    continue;
                };
                let vcpu = guest.to_destination_vcpu();
                for register in &guest.registers {
                    let there = vcpu.get(register.id).map(|it| &it.accepted_values);
                    if masks.contains_key(&register.id)
                        || there != Some(&AcceptedValues::Writable(0))
                    {
                        continue;
                    }
                    for trial in &register.trials {
                        tried += 1;
                        assert_ne!(
                            trial.errno,
                            0,
                            "{}: {} with {features} takes or ignores {:#x}",
                            host.name(),
                            register.id,
                            trial.value
                        );
                    }
                }
            }
        }
        assert!(tried > 500, "{tried}");
    }

    #[test]
    fn what_differs_by_vcpu_is_no_value() {
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
