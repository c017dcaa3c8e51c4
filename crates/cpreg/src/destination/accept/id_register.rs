//! The values that KVM accepts for ID registers and CTR_EL0.
//!
//! KVM's rule (`arm64_check_features` in Linux `arch/arm64/kvm/sys_regs.c`, since v6.5):
//! - A field within the writable mask is compared with its limit, by the field's type. The table
//!   [`id_fields`](super::id_fields) has the types by release.
//! - All other bits must equal the limit, also bits of the mask that belong to no field.
//! - Some registers have special rules ([`SpecialRule`]).
//! - Before v6.5, a register accepts its current value only; CSV2 and CSV3 of ID_AA64PFR0_EL1 are
//!   exceptions.
//!
//! The limit is the value of a fresh vCPU. Where a guest ran, the recorded value may be lower than
//! the limit. Without a mask it is not known which fields are writable, but a field that exceeds
//! its limit is refused in any case.
//!
//! If the release was not examined, its neighbours must agree; if it is not known, all examined
//! releases must.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::acceptance::{Acceptance, Acceptor};
use super::id_fields::{FIELDS, RELEASES, SPECIAL_RULES};
use super::id_rule::{FieldRule, ReleaseRule, SpecialRule};
use crate::destination::{
    AcceptedValues, Confidence, DestinationRegister, DestinationVcpu, ValueOrigin, Version,
};
use crate::register::{DecodedId, RegisterId};

/// Evaluates whether an ID register accepts a value that differs from the recorded one.
pub(super) fn evaluate(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    own: u64,
    value: u64,
) -> Acceptance {
    let target = IdRegister::new(acceptor, destination_vcpu, register, own);
    let mut answers = target
        .releases()
        .map(|release| target.answer(release, value));
    let first = answers.next().unwrap_or(Answer::Unknown);
    let answer = if answers.all(|answer| answer == first) {
        first
    } else {
        Answer::Unknown
    };
    match answer {
        Answer::Taken => Acceptance::INFERRED_TAKEN,
        Answer::Unknown => Acceptance::Unknown,
        Answer::Refused if target.is_outside_mask(value) => Acceptance::Refused(Confidence::Proven),
        Answer::Refused => Acceptance::INFERRED_REFUSED,
    }
}

/// Returns the value that an ID register reads after an accepted write of `value`, if KVM replaces
/// a part of `value` on every release that the destination may run.
///
/// KVM drops some fields silently; see [`SpecialRule`].
pub(super) fn replaced_value(
    acceptor: Acceptor,
    destination_vcpu: &DestinationVcpu,
    register: &DestinationRegister,
    value: u64,
) -> Option<u64> {
    let own = register.value.as_ref()?.as_u64()?;
    if value == own {
        return None;
    }
    let target = IdRegister::new(acceptor, destination_vcpu, register, own);
    let mut values = target.releases().map(|release| {
        if target.ignores_writes(release) == Some(true) {
            own
        } else {
            target.substitute(release, value)
        }
    });
    let first = values.next()?;
    (first != value && values.all(|value| value == first)).then_some(first)
}

/// Returns the names of KVM's special rules for ID registers on a kernel, one text for each release
/// that the kernel may be like. `None` is a kernel of any release.
///
/// Kernels with equal texts replace the same parts of a value that user space writes.
pub fn special_rule_names(kernel_version: Option<Version>) -> BTreeSet<String> {
    releases_like(kernel_version)
        .map(|release| {
            let rules = SPECIAL_RULES.iter().filter(|(_, first, last)| {
                (usize::from(*first)..=usize::from(*last)).contains(&release)
            });
            let observed = OBSERVED_RULES
                .iter()
                .filter(|(_, first)| kernel_version.is_some_and(|version| version >= *first));
            let names = rules.map(|(rule, ..)| format!("{rule:?}"));
            let names = names.chain(observed.map(|(rule, _)| format!("{rule:?}")));
            let names: BTreeSet<_> = names.collect();
            names.into_iter().collect::<Vec<_>>().join("+")
        })
        .collect()
}

/// Returns the indexes of the examined releases that a kernel may be like: its own release, its
/// examined neighbours, or all of them.
fn releases_like(kernel_version: Option<Version>) -> RangeInclusive<usize> {
    kernel_version.map_or(0..=RELEASES.len() - 1, |version| {
        let later = RELEASES.partition_point(|(release, _)| *release < version);
        let earlier = RELEASES.partition_point(|(release, _)| *release <= version);
        earlier.saturating_sub(1)..=later.min(RELEASES.len() - 1)
    })
}

/// Returns `true` if an AArch32 ID register reads as zero and may ignore writes, because the host
/// lacks 32-bit EL0.
pub(crate) fn may_ignore_writes(destination_vcpu: &DestinationVcpu, id: RegisterId) -> bool {
    const EL0_32BIT: u64 = 2;
    let pfr0 = destination_vcpu.value(RegisterId::ID_AA64PFR0_EL1);
    is_zero_without_aarch32(destination_vcpu.value(id), id)
        && pfr0.is_some_and(|pfr0| pfr0 & PFR0_EL0 < EL0_32BIT)
}

/// Returns `true` for an AArch32 ID register that reads as zero and would do so without AArch32.
fn is_zero_without_aarch32(own: Option<u64>, id: RegisterId) -> bool {
    let is_aarch32 = matches!(
        id.decode(),
        DecodedId::SystemRegister(register) if register.op1 == 0
            && register.crn == 0
            && (1..=3).contains(&register.crm)
    );
    is_aarch32 && own == Some(0) && !HIDDEN_AARCH32.contains(&id)
}

/// Answer of one release, from weakest to strongest: the strongest one of all fields decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Taken,
    Unknown,
    Refused,
}

/// ID register of a destination.
#[derive(Clone, Copy)]
struct IdRegister<'a> {
    id: RegisterId,
    own: u64,
    /// Writable bits, if the kernel reports them.
    mask: Option<u64>,
    /// `true` if the recorded value is the highest that KVM accepts.
    is_limit: bool,
    kernel_version: Option<Version>,
    destination_vcpu: &'a DestinationVcpu,
}

impl<'a> IdRegister<'a> {
    fn new(
        acceptor: Acceptor,
        destination_vcpu: &'a DestinationVcpu,
        register: &DestinationRegister,
        own: u64,
    ) -> Self {
        let mask = match register.accepted_values {
            AcceptedValues::Writable(mask) => Some(mask),
            // A kernel that reports masks omits registers that are not writable.
            _ if destination_vcpu.reports_masks() => Some(0),
            _ => None,
        };
        Self {
            id: register.id,
            own,
            mask,
            is_limit: acceptor
                .value_origin
                .is_some_and(|origin| origin != ValueOrigin::Guest),
            kernel_version: acceptor.kernel_version,
            destination_vcpu,
        }
    }

    /// Returns the indices of the releases whose rules may apply.
    ///
    /// These are the release itself, its examined neighbours, or all examined releases. Kernels
    /// that report masks (v6.7) compare types (v6.5).
    fn releases(self) -> impl Iterator<Item = usize> {
        let is_possible = move |index: &usize| {
            self.mask.is_none()
                || RELEASES
                    .get(*index)
                    .is_some_and(|(_, rule)| *rule == ReleaseRule::Types)
        };
        let like = releases_like(self.kernel_version);
        let has_possible = like.clone().any(|index| is_possible(&index));
        // A kernel older than v6.7 reports no masks. If one seems to, its version is wrong.
        let range = if has_possible {
            like
        } else {
            0..=RELEASES.len() - 1
        };
        range.filter(is_possible)
    }

    /// Returns the answer of a release.
    fn answer(self, release: usize, value: u64) -> Answer {
        match self.ignores_writes(release) {
            Some(true) => return Answer::Taken,
            Some(false) => {}
            None if value == self.own => return Answer::Taken,
            None => return Answer::Unknown,
        }
        match RELEASES.get(release) {
            Some((_, ReleaseRule::Types)) => self
                .special_answer(release, value)
                .max(self.types_answer(release, self.substitute(release, value))),
            _ => self.current_answer(release, value),
        }
    }

    /// Returns `Some(true)` if the register ignores writes, and `None` if it is not known.
    ///
    /// AArch32 ID registers do without 32-bit EL0, since v6.1 (d5efec7ed826).
    fn ignores_writes(self, release: usize) -> Option<bool> {
        if !is_zero_without_aarch32(Some(self.own), self.id)
            || !self.has_rule(release, SpecialRule::Aarch32IgnoresWrites)
        {
            return Some(false);
        }
        let vcpu = self.destination_vcpu;
        vcpu.value(RegisterId::ID_AA64PFR0_EL1)?;
        Some(may_ignore_writes(vcpu, self.id))
    }

    /// Returns the answer of a release that accepts the current value only.
    fn current_answer(self, release: usize, value: u64) -> Answer {
        let writable = if self.id != RegisterId::ID_AA64PFR0_EL1 {
            0
        } else if self.has_rule(release, SpecialRule::Csv2AndCsv3Writable) {
            PFR0_CSV2 | PFR0_CSV3
        } else if self.has_rule(release, SpecialRule::Csv2Writable) {
            PFR0_CSV2
        } else {
            0
        };
        let difference = value ^ self.own;
        let raised = value & !self.own & writable;
        if difference & !writable != 0 || value & writable & !PFR0_CSV_ONE != 0 {
            Answer::Refused
        } else if raised == 0 {
            Answer::Taken
        } else if self.is_limit {
            Answer::Refused
        } else {
            Answer::Unknown
        }
    }

    /// Returns the value that KVM compares with the limit.
    fn substitute(self, release: usize, value: u64) -> u64 {
        let has = |rule| self.has_rule(release, rule);
        let field = |register: u64, mask: u64| register & mask;
        match self.id {
            RegisterId::ID_AA64DFR0_EL1 => {
                let mut value = value;
                if has(SpecialRule::ImpdefPmuDropped) && field(value, DFR0_PMUVER) == DFR0_PMUVER {
                    value &= !DFR0_PMUVER;
                }
                let lacks_double_lock = field(self.own, DFR0_DOUBLE_LOCK) == DFR0_DOUBLE_LOCK;
                if has(SpecialRule::DoubleLockDropped)
                    && self.has_el2()
                    && lacks_double_lock
                    && field(value, DFR0_DOUBLE_LOCK) == 0
                {
                    value |= DFR0_DOUBLE_LOCK;
                }
                value
            }
            RegisterId::ID_DFR0_EL1
                if has(SpecialRule::Aarch32ImpdefPmuDropped)
                    && field(value, AA32_DFR0_PERFMON) == AA32_DFR0_PERFMON =>
            {
                value & !AA32_DFR0_PERFMON
            }
            RegisterId::ID_AA64PFR1_EL1
                if has(SpecialRule::MteFracDropped)
                    && field(self.own, PFR1_MTE) == PFR1_MTE2
                    && field(self.own, PFR1_MTE_FRAC) == PFR1_MTE_FRAC
                    && field(value, PFR1_MTE_FRAC) == 0 =>
            {
                value | PFR1_MTE_FRAC
            }
            _ => value,
        }
    }

    /// Returns the answer of the special rules: not known for a field that KVM drops if it equals
    /// the CPU's, because no recording of KVM has the CPU's own value.
    fn special_answer(self, release: usize, value: u64) -> Answer {
        let has = |rule| self.has_rule(release, rule);
        let field = |mask: u64| (value & mask) >> mask.trailing_zeros();
        let is_refused = match self.id {
            RegisterId::ID_AA64DFR0_EL1 => {
                has(SpecialRule::DebugVersionMinimum) && field(DFR0_DEBUGVER) < ARMV8
            }
            RegisterId::ID_DFR0_EL1 => {
                let perfmon = field(AA32_DFR0_PERFMON);
                has(SpecialRule::Aarch32DebugVersionMinimum) && field(AA32_DFR0_COPDBG) < ARMV8
                    || has(SpecialRule::Aarch32PmuMinimum) && (1..PMUV3).contains(&perfmon)
            }
            RegisterId::ID_AA64PFR0_EL1 => {
                has(SpecialRule::ExceptionLevelsRequired)
                    && (field(PFR0_EL0) == 0
                        || field(PFR0_EL1) == 0
                        || self.has_el2() && field(PFR0_EL2) == 0)
            }
            _ => false,
        };
        if is_refused {
            Answer::Refused
        } else {
            Answer::Taken
        }
    }

    /// Returns the answer of the types of fields.
    fn types_answer(self, release: usize, value: u64) -> Answer {
        let dropped = dropped_bits(self.id, release);
        let mut known = dropped;
        let mut answer = if (value ^ self.own) & dropped == 0 {
            Answer::Taken
        } else {
            Answer::Unknown
        };
        for rule in field_rules(self.id).iter().copied() {
            let bits = rule.mask();
            let is_writable = self.mask.is_none_or(|mask| bits & !mask == 0);
            // A kernel reads a field that it does not know as zero.
            let is_known = rule.is_in_release(release) || self.own & bits != 0;
            if is_known && is_writable && bits & dropped == 0 {
                known |= bits;
                answer = answer.max(self.field_answer(rule, value));
            }
        }
        if (value ^ self.own) & !known != 0 {
            Answer::Refused
        } else {
            answer
        }
    }

    /// Returns the answer for one field that is writable, or may be.
    fn field_answer(self, rule: FieldRule, value: u64) -> Answer {
        if (value ^ self.own) & rule.mask() == 0 {
            return Answer::Taken;
        }
        let is_accepted = if self.is_limit {
            rule.accepts(value, self.own)
        } else {
            rule.accepts_for_any_limit(value, self.own)
        };
        match (is_accepted, self.is_limit, self.mask) {
            (true, _, Some(_)) => Answer::Taken,
            (false, true, _) => Answer::Refused,
            _ => Answer::Unknown,
        }
    }

    /// Returns `true` if bits outside the mask differ, without those that KVM may drop.
    fn is_outside_mask(self, value: u64) -> bool {
        let dropped =
            (0..RELEASES.len()).fold(0, |bits, release| bits | dropped_bits(self.id, release));
        self.mask
            .is_some_and(|mask| (value ^ self.own) & !mask & !dropped != 0)
    }

    /// Returns `true` if the kernel has a special rule, given the rules of a release.
    fn has_rule(self, release: usize, rule: SpecialRule) -> bool {
        has_rule(release, rule)
            || self.kernel_version.is_some_and(|version| {
                let mut observations = OBSERVED_RULES.iter();
                observations.any(|(known, first)| *known == rule && version >= *first)
            })
    }

    fn has_el2(self) -> bool {
        self.destination_vcpu.get(HCR_EL2).is_some()
    }
}

/// Returns bits that KVM accepts and drops if they equal the CPU's, whatever the writable mask is.
///
/// Older kernels showed these bits to guests by mistake. A recording of KVM does not contain the
/// CPU's own bits.
fn dropped_bits(id: RegisterId, release: usize) -> u64 {
    let (rule, bits) = match id {
        RegisterId::ID_AA64MMFR2_EL1 => (SpecialRule::NvDropped, MMFR2_NV),
        RegisterId::ID_AA64PFR0_EL1 => (SpecialRule::MpamDropped, PFR0_MPAM),
        RegisterId::ID_AA64PFR1_EL1 => (SpecialRule::MpamFracDropped, PFR1_MPAM_FRAC),
        _ => return 0,
    };
    if has_rule(release, rule) { bits } else { 0 }
}

/// Returns `true` if a release has a special rule.
fn has_rule(release: usize, rule: SpecialRule) -> bool {
    SPECIAL_RULES.iter().any(|(known, first, last)| {
        *known == rule && (usize::from(*first)..=usize::from(*last)).contains(&release)
    })
}

/// Returns the fields that KVM compares, of all examined releases.
fn field_rules(id: RegisterId) -> &'static [FieldRule] {
    FIELDS
        .binary_search_by_key(&id.raw(), |(known, _)| *known)
        .ok()
        .and_then(|index| FIELDS.get(index))
        .map_or(&[], |(_, rules)| rules)
}

/// Special rules that were observed on a release before the first examined one that has the rule.
///
/// Every recorded host from 6.16.3 to 7.1.13 refuses ID_AA64PFR0_EL1 without exception levels.
const OBSERVED_RULES: [(SpecialRule, Version); 1] =
    [(SpecialRule::ExceptionLevelsRequired, Version::new(6, 16))];

/// AArch32 ID registers that read as zero on every host and do not ignore writes (`ID_HIDDEN`).
const HIDDEN_AARCH32: [RegisterId; 2] = [RegisterId::ID_AFR0_EL1, RegisterId::ID_DFR1_EL1];

/// Present only if the VM has EL2.
const HCR_EL2: RegisterId = RegisterId::sysreg(3, 4, 1, 1, 0);

const PFR0_EL0: u64 = 0xf;
const PFR0_EL1: u64 = 0xf << 4;
const PFR0_EL2: u64 = 0xf << 8;
const PFR0_MPAM: u64 = 0xf << 40;
const PFR0_CSV2: u64 = 0xf << 56;
const PFR0_CSV3: u64 = 0xf << 60;
/// Values up to 1 of CSV2 and CSV3.
const PFR0_CSV_ONE: u64 = 1 << 56 | 1 << 60;
const PFR1_MTE: u64 = 0xf << 8;
const PFR1_MTE2: u64 = 2 << 8;
const PFR1_MPAM_FRAC: u64 = 0xf << 16;
const PFR1_MTE_FRAC: u64 = 0xf << 40;
const MMFR2_NV: u64 = 0xf << 24;
const DFR0_DEBUGVER: u64 = 0xf;
const DFR0_PMUVER: u64 = 0xf << 8;
const DFR0_DOUBLE_LOCK: u64 = 0xf << 36;
const AA32_DFR0_COPDBG: u64 = 0xf;
const AA32_DFR0_PERFMON: u64 = 0xf << 24;
/// Version of the debug architecture of Armv8.
const ARMV8: u64 = 6;
/// PMUv3 in ID_DFR0_EL1.PerfMon.
const PMUV3: u64 = 3;

#[cfg(test)]
mod tests;
