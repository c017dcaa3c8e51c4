//! [`Setting`]: a value with which a VM is born. [`FixedValue`]: a difference that no setting
//! removes.

use std::collections::BTreeSet;

use cpreg::destination::kernel::{PSCI_VERSIONS, RegisterKind};
use cpreg::destination::{Destination, DestinationVcpu};
use cpreg::register::{Field, RegisterField, RegisterId, differing_fields};

use super::host_register::HostRegister;

/// Value of a register or of one of its fields, with which a VM is born on every host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// Register to set.
    pub register: RegisterId,
    /// Field to set, or `None` for the whole register.
    pub field: Option<Field>,
    /// Value of the field or register.
    pub value: u64,
    /// Value that promises the guest the most, among those of the hosts.
    pub best: u64,
    /// Hosts that do not keep `best`, as indexes. If all values promise the same, hosts that keep
    /// no other host's value.
    pub forced_by: Vec<usize>,
}

/// Register or field with different values on the hosts, of which no value suits all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FixedValue {
    /// Register with the difference.
    pub register: RegisterId,
    /// Field with the difference, or `None` for the whole register.
    pub field: Option<Field>,
    /// Values of the hosts, ascending, each with its hosts.
    pub values: Vec<(u64, Vec<usize>)>,
    /// Hosts that keep none of the other hosts' values.
    pub fixed_on: Vec<usize>,
    /// `true` if it is not known for some host and value whether the host keeps the value.
    pub is_uncertain: bool,
}

impl Setting {
    /// Returns the register's `value` with the setting made.
    pub fn apply(&self, value: u64) -> u64 {
        match self.field {
            Some(field) => field.insert(value, self.value).unwrap_or(value),
            None => self.value,
        }
    }

    /// Returns `REGISTER.FIELD` or `REGISTER`.
    pub fn name(&self) -> String {
        name(self.register, self.field)
    }
}

impl FixedValue {
    /// Returns `REGISTER.FIELD` or `REGISTER`.
    pub fn name(&self) -> String {
        name(self.register, self.field)
    }

    /// Returns `true` if the register identifies the CPU.
    pub fn identifies_cpu(&self) -> bool {
        RegisterKind::from_id(self.register) == RegisterKind::Implementation
    }
}

fn name(id: RegisterId, field: Option<Field>) -> String {
    match field {
        Some(field) => RegisterField { id, field }.to_string(),
        None => id.to_string(),
    }
}

/// Settings and fixed values of all registers.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) settings: Vec<Setting>,
    pub(super) fixed: Vec<FixedValue>,
}

impl Settings {
    /// Finds the settings for these hosts. `is_kept` says that a field keeps its best value
    /// although a host does not have it.
    pub(super) fn find(
        hosts: &[Destination],
        is_kept: impl Fn(RegisterId, Option<Field>) -> bool,
    ) -> Self {
        let vcpus = hosts.iter().filter_map(|host| host.vcpu(0));
        let ids: BTreeSet<_> = vcpus
            .flat_map(DestinationVcpu::registers)
            .map(|register| register.id)
            .filter(|id| has_setting(RegisterKind::from_id(*id)))
            .collect();
        let mut found = Self::default();
        for id in ids {
            let hosts = host_registers(hosts, id);
            let Some(first) = hosts.first() else { continue };
            if hosts.iter().all(|host| host.own == first.own) {
                continue;
            }
            match RegisterKind::from_id(id) {
                RegisterKind::Identification | RegisterKind::CacheType => {
                    for field in fields(id, &hosts) {
                        found.add(id, Some(field), &hosts, is_kept(id, Some(field)));
                    }
                }
                _ => found.add(id, None, &hosts, is_kept(id, None)),
            }
        }
        found
    }

    /// Adds the setting of a field that KVM takes away from running guests on the hosts
    /// `forced_by`. Returns `true` if all hosts keep the value, and no setting of the field was
    /// known.
    pub(super) fn add_lost_field(
        &mut self,
        hosts: &[Destination],
        place: RegisterField,
        value: u64,
        forced_by: Vec<usize>,
    ) -> bool {
        let RegisterField { id, field } = place;
        let is_place = |register, other: Option<Field>| register == id && other == Some(field);
        let mut settings = self.settings.iter();
        let mut fixed = self.fixed.iter();
        if settings.any(|setting| is_place(setting.register, setting.field))
            || fixed.any(|fixed| is_place(fixed.register, fixed.field))
        {
            return false;
        }
        let hosts: Vec<_> = host_registers(hosts, id);
        let choice = Choice {
            register: id,
            field: Some(field),
            hosts: &hosts,
        };
        if !choice.is_common(value) {
            return false;
        }
        let setting = Setting {
            forced_by,
            ..choice.setting(value)
        };
        self.settings.push(setting);
        self.settings.sort_by_key(|setting| {
            let lsb = setting.field.map(Field::lsb);
            (setting.register, std::cmp::Reverse(lsb))
        });
        true
    }

    fn add(
        &mut self,
        register: RegisterId,
        field: Option<Field>,
        hosts: &[HostRegister<'_>],
        is_kept: bool,
    ) {
        let choice = Choice {
            register,
            field,
            hosts,
        };
        match choice.find() {
            _ if is_kept => self.settings.push(choice.setting(choice.best())),
            Some(value) => self.settings.push(choice.setting(value)),
            None => self.fixed.push(choice.fixed()),
        }
    }
}

/// Returns the register of each host that lists it with a known value.
///
/// A value that is not known makes the plans of its host unknown.
fn host_registers(hosts: &[Destination], id: RegisterId) -> Vec<HostRegister<'_>> {
    let hosts = hosts.iter().enumerate();
    let registers = hosts.filter_map(|(index, host)| HostRegister::new(index, host, id));
    registers.collect()
}

/// Returns `true` if all hosts must agree on the value of a register of this kind.
pub(super) const fn has_setting(kind: RegisterKind) -> bool {
    matches!(
        kind,
        RegisterKind::Identification
            | RegisterKind::Implementation
            | RegisterKind::CacheType
            | RegisterKind::CacheLevels
            | RegisterKind::CacheSize(_)
            | RegisterKind::PmuModel
            | RegisterKind::PsciVersion
            | RegisterKind::Workaround(_)
            | RegisterKind::FirmwareBitmap(_)
    )
}

/// Returns the fields that differ between any two hosts, most significant first.
fn fields(id: RegisterId, hosts: &[HostRegister<'_>]) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for host in hosts {
        for difference in differing_fields(id, hosts[0].own, host.own) {
            if !fields.contains(&difference.field) {
                fields.push(difference.field);
            }
        }
    }
    fields.sort_by_key(|field| std::cmp::Reverse(field.lsb()));
    fields
}

/// Choice of one value for a register or field.
struct Choice<'a> {
    register: RegisterId,
    field: Option<Field>,
    hosts: &'a [HostRegister<'a>],
}

impl Choice<'_> {
    /// Returns the host's own value.
    fn own(&self, host: &HostRegister<'_>) -> u64 {
        self.field.map_or(host.own, |field| field.extract(host.own))
    }

    /// Returns `Some(true)` if the host keeps the value, and `None` if it is not known.
    fn is_kept_by(&self, host: &HostRegister<'_>, value: u64) -> Option<bool> {
        match self.field {
            Some(field) => host.keeps(field.insert(host.own, value)?),
            None => host.keeps(value),
        }
    }

    /// Returns the number by which values are ordered: more promises the guest more.
    fn rank(&self, value: u64) -> u64 {
        match (self.field, RegisterKind::from_id(self.register)) {
            (Some(field), _) => field.rank(value),
            (None, RegisterKind::FirmwareBitmap(_)) => u64::from(value.count_ones()),
            (None, _) => value,
        }
    }

    /// Returns `true` if a lower value promises the guest less. The geometry of caches has no such
    /// order, because KVM executes cache maintenance correctly for any geometry.
    fn has_order(&self) -> bool {
        !matches!(
            RegisterKind::from_id(self.register),
            RegisterKind::CacheLevels | RegisterKind::CacheSize(_)
        )
    }

    /// Returns the best value of any host.
    fn best(&self) -> u64 {
        let own = self.hosts.iter().map(|host| self.own(host));
        own.max_by_key(|value| self.rank(*value)).unwrap_or(0)
    }

    /// Returns the values to try.
    fn candidates(&self) -> BTreeSet<u64> {
        /// Fields up to this width are tried with all values.
        const MAX_WIDTH: u8 = 4;
        let mut values: BTreeSet<_> = self.hosts.iter().map(|host| self.own(host)).collect();
        if let Some(field) = self.field {
            if field.width() <= MAX_WIDTH {
                values.extend(0..1 << field.width());
            }
            return values;
        }
        match RegisterKind::from_id(self.register) {
            RegisterKind::PsciVersion => values.extend(PSCI_VERSIONS),
            RegisterKind::FirmwareBitmap(_) => {
                let common = values.iter().fold(u64::MAX, |all, value| all & value);
                values.extend([common, 0]);
            }
            RegisterKind::PmuModel | RegisterKind::Workaround(_) => {
                values.insert(0);
            }
            _ => {}
        }
        values
    }

    /// Returns `true` if all hosts keep the value.
    fn is_common(&self, value: u64) -> bool {
        let mut hosts = self.hosts.iter();
        hosts.all(|host| self.is_kept_by(host, value) == Some(true))
    }

    /// Returns the best value that all hosts keep. Prefers the value of a host, because a host has
    /// shown it to guests.
    fn find(&self) -> Option<u64> {
        let is_own = |value: u64| self.hosts.iter().any(|host| self.own(host) == value);
        let candidates = self.candidates().into_iter();
        let common = candidates.filter(|value| self.is_common(*value));
        common.max_by_key(|value| (is_own(*value), self.rank(*value)))
    }

    fn setting(&self, value: u64) -> Setting {
        let best = if self.has_order() { self.best() } else { value };
        let is_forcing = |host: &&HostRegister<'_>| {
            if best != value {
                return self.is_kept_by(host, best) != Some(true);
            }
            let mut others = self.hosts.iter().map(|host| self.own(host));
            others.any(|other| self.is_kept_by(host, other) != Some(true))
        };
        let forced_by = self.hosts.iter().filter(is_forcing);
        Setting {
            register: self.register,
            field: self.field,
            value,
            best,
            forced_by: forced_by.map(|host| host.index).collect(),
        }
    }

    fn fixed(&self) -> FixedValue {
        let values: BTreeSet<_> = self.hosts.iter().map(|host| self.own(host)).collect();
        let with_value = |value: u64| {
            let hosts = self.hosts.iter().filter(|host| self.own(host) == value);
            hosts.map(|host| host.index).collect()
        };
        let is_fixed = |host: &&HostRegister<'_>| {
            let mut others = values.iter().filter(|value| **value != self.own(host));
            others.all(|value| self.is_kept_by(host, *value) == Some(false))
        };
        let fixed_on = self.hosts.iter().filter(is_fixed);
        let mut trials = self
            .hosts
            .iter()
            .flat_map(|host| values.iter().map(move |value| (host, *value)));
        FixedValue {
            register: self.register,
            field: self.field,
            fixed_on: fixed_on.map(|host| host.index).collect(),
            is_uncertain: trials.any(|(host, value)| self.is_kept_by(host, value).is_none()),
            values: values
                .iter()
                .map(|value| (*value, with_value(*value)))
                .collect(),
        }
    }
}
