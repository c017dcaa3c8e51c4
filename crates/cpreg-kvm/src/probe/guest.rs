//! One guest of a host: the registers of a fresh vCPU with one set of features, their values, and
//! trials.
//!
//! The probe reads all registers before the first write, because on some kernels a write to one PMU
//! register changes another.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::{AtReset, GuestRecord, RegisterRecord};

use super::fields;
use super::trials::{self, TrialScope};
use super::vm::create_vm;
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};
use crate::value;

/// Values of a vCPU's registers, in the order of KVM's list.
type RegisterValues = Vec<(RegisterId, Result<Value, Errno>)>;

/// Probes a guest with two vCPUs, to detect differences between the vCPUs. Falls back to one vCPU
/// if two fail.
pub(super) fn probe_guest(
    host: &impl Host,
    features: Features,
    scope: TrialScope,
) -> Result<GuestRecord, Error> {
    let (vm, values) =
        create_and_read(host, features, 2).or_else(|_| create_and_read(host, features, 1))?;
    let second = values.get(1).map(index_by_id);
    let mut guest = probe_first_vcpu(&vm, features, scope, &values)?;
    add_fields(host, features, &mut guest)?;
    for register in &mut guest.registers {
        let other = second.as_ref().and_then(|values| values.get(&register.id));
        register.differs_by_vcpu = match (&register.at_reset, other) {
            (AtReset::Value(value), Some(Ok(other))) => value != other,
            _ => false,
        };
    }
    Ok(guest)
}

/// Probes a guest with `vcpus` vCPUs. Returns one record for each vCPU.
///
/// Each record has the values of its vCPU; all have the trials of the first vCPU.
pub(super) fn probe_each_vcpu(
    host: &impl Host,
    features: Features,
    vcpus: usize,
) -> Result<Vec<GuestRecord>, Error> {
    let (vm, values_by_vcpu) = create_and_read(host, features, vcpus)?;
    let mut first = probe_first_vcpu(&vm, features, TrialScope::FirmwareOnly, &values_by_vcpu)?;
    add_fields(host, features, &mut first)?;
    let others = values_by_vcpu.iter().skip(1).map(|values| {
        let (mut guest, values) = (first.clone(), index_by_id(values));
        for register in &mut guest.registers {
            if let Some(read) = values.get(&register.id) {
                register.at_reset = at_reset(register.id, read);
            }
        }
        guest
    });
    let others: Vec<_> = others.collect();
    Ok(std::iter::once(first).chain(others).collect())
}

/// Adds the accepted values of the fields of ID registers, which are VM-wide.
fn add_fields(host: &impl Host, features: Features, guest: &mut GuestRecord) -> Result<(), Error> {
    let mut accepted = fields::probe_fields(host, features)?;
    for register in &mut guest.registers {
        register.fields = accepted.remove(&register.id);
    }
    Ok(())
}

fn index_by_id(values: &RegisterValues) -> BTreeMap<RegisterId, &Result<Value, Errno>> {
    values.iter().map(|(id, read)| (*id, read)).collect()
}

fn at_reset(id: RegisterId, read: &Result<Value, Errno>) -> AtReset {
    match read {
        Ok(value) => AtReset::from_value(id, value.clone()),
        Err(errno) => AtReset::Unreadable(errno.0),
    }
}

/// Creates a VM with SVE finalized, and reads all registers of its vCPUs.
fn create_and_read<H: Host>(
    host: &H,
    features: Features,
    vcpus: usize,
) -> Result<(H::Vm, Vec<RegisterValues>), Error> {
    let fail = |kind: ErrorKind| Error::from(kind).with_probe_features(features);
    let vm = create_vm(host, features, vcpus)?;
    let mut values_by_vcpu = Vec::new();
    for vcpu in vm.vcpus() {
        let list = vcpu
            .list()
            .map_err(|errno| fail(ErrorKind::List { vcpu: None, errno }))?;
        let read = list.into_iter().map(|id| (id, value::read(vcpu, id)));
        values_by_vcpu.push(read.collect());
    }
    Ok((vm, values_by_vcpu))
}

fn probe_first_vcpu(
    vm: &impl Vm,
    features: Features,
    scope: TrialScope,
    values: &[RegisterValues],
) -> Result<GuestRecord, Error> {
    let (Some(vcpu), Some(values)) = (vm.vcpus().first(), values.first()) else {
        return Ok(GuestRecord::default());
    };
    let mut registers: Vec<_> = values
        .iter()
        .map(|(id, read)| RegisterRecord {
            id: *id,
            at_reset: at_reset(*id, read),
            differs_by_vcpu: false,
            write_back: write_back(vcpu, *id),
            trials: Vec::new(),
            fields: None,
        })
        .collect();
    for register in &mut registers {
        register.trials = trials::try_register(vcpu, register.id, scope);
    }
    registers.sort_by_key(|register| register.id);
    let masks = vm.writable_masks().map_err(|errno| {
        let error = Error::from(ErrorKind::Masks(errno));
        error.with_probe_features(features)
    })?;
    Ok(GuestRecord {
        registers,
        writable: masks.map(BTreeMap::from_iter),
    })
}

/// Writes a register's own value back. Returns the errno of the write, or 0 on success or if the
/// register cannot be read.
fn write_back(vcpu: &impl Vcpu, id: RegisterId) -> u16 {
    let Ok(value) = value::read(vcpu, id) else {
        return 0;
    };
    match value::write(vcpu, id, &value) {
        Ok(()) => 0,
        Err(errno) => errno.0,
    }
}
