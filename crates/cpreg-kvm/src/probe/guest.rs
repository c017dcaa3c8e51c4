//! One guest of a host: which registers a fresh vCPU with one set of features has, what they hold, what they take.
//!
//! Everything is read before anything is written: on some kernels writing one register of the PMU changes another.

use std::collections::BTreeMap;

use cpreg::destination::Features;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::{AtReset, Guest, Register};

use super::trials::{self, Trials};
use crate::errno::Errno;
use crate::error::{Error, ErrorKind};
use crate::host::{Host, Vcpu, Vm};
use crate::value;

/// What each register of a vCPU holds, in the order of KVM's list.
type Values = Vec<(RegisterId, Result<Value, Errno>)>;

/// Looks at a guest with two vCPUs, so as to tell what differs by vCPU; with one where two cannot be made.
pub(super) fn guest(host: &impl Host, features: Features, trials: Trials) -> Result<Guest, Error> {
    let (vm, values) = fresh(host, features, 2).or_else(|_| fresh(host, features, 1))?;
    let second = values.get(1).map(by_id);
    let mut guest = first_vcpu(&vm, features, trials, &values)?;
    for register in &mut guest.registers {
        let other = second.as_ref().and_then(|values| values.get(&register.id));
        register.differs_by_vcpu = match (&register.at_reset, other) {
            (AtReset::Value(value), Some(Ok(other))) => value != other,
            _ => false,
        };
    }
    Ok(guest)
}

/// Looks at a guest with so many vCPUs: one for each, with the values that it holds, and what the first one of them takes.
pub(super) fn each_vcpu(
    host: &impl Host,
    features: Features,
    vcpus: usize,
) -> Result<Vec<Guest>, Error> {
    let (vm, all) = fresh(host, features, vcpus)?;
    let first = first_vcpu(&vm, features, Trials::Services, &all)?;
    let others = all.iter().skip(1).map(|values| {
        let (mut guest, values) = (first.clone(), by_id(values));
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

fn by_id(values: &Values) -> BTreeMap<RegisterId, &Result<Value, Errno>> {
    values.iter().map(|(id, read)| (*id, read)).collect()
}

fn at_reset(id: RegisterId, read: &Result<Value, Errno>) -> AtReset {
    match read {
        Ok(value) => AtReset::of(id, value.clone()),
        Err(errno) => AtReset::Unreadable(errno.0),
    }
}

/// A VM with every vCPU ready to be read, and what they hold.
fn fresh<H: Host>(
    host: &H,
    features: Features,
    vcpus: usize,
) -> Result<(H::Vm, Vec<Values>), Error> {
    let fail = |kind: ErrorKind| Error::from(kind).probing(features);
    let vm = host
        .create(features, vcpus)
        .map_err(|error| error.probing(features))?;
    let mut all = Vec::new();
    for vcpu in vm.vcpus() {
        if features.contains(Features::SVE) {
            vcpu.finalize_sve()
                .map_err(|errno| fail(ErrorKind::Finalize(errno)))?;
        }
    }
    for vcpu in vm.vcpus() {
        let list = vcpu
            .list()
            .map_err(|errno| fail(ErrorKind::List { vcpu: None, errno }))?;
        let read = list.into_iter().map(|id| (id, value::read(vcpu, id)));
        all.push(read.collect());
    }
    Ok((vm, all))
}

fn first_vcpu(
    vm: &impl Vm,
    features: Features,
    trials: Trials,
    values: &[Values],
) -> Result<Guest, Error> {
    let (Some(vcpu), Some(values)) = (vm.vcpus().first(), values.first()) else {
        return Ok(Guest::default());
    };
    let mut registers: Vec<_> = values
        .iter()
        .map(|(id, read)| Register {
            id: *id,
            at_reset: at_reset(*id, read),
            differs_by_vcpu: false,
            write_back: write_back(vcpu, *id),
            trials: Vec::new(),
        })
        .collect();
    for register in &mut registers {
        register.trials = trials::of(vcpu, register.id, trials);
    }
    registers.sort_by_key(|register| register.id);
    let masks = vm.writable_masks().map_err(|errno| {
        let error = Error::from(ErrorKind::Masks(errno));
        error.probing(features)
    })?;
    Ok(Guest {
        registers,
        writable: masks.map(BTreeMap::from_iter),
    })
}

/// The errno of writing back what is read, 0 if that works or it cannot be read.
fn write_back(vcpu: &impl Vcpu, id: RegisterId) -> u16 {
    let Ok(value) = value::read(vcpu, id) else {
        return 0;
    };
    match value::write(vcpu, id, &value) {
        Ok(()) => 0,
        Err(errno) => errno.0,
    }
}
