//! Hosts for tests: recorded ones from the [`HostIndex`], and small synthetic ones.

use std::collections::BTreeMap;

use cpreg::destination::{Destination, Features};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::HostIndex;
use cpreg_hosts::record::{AtReset, GuestRecord, HostRecord, Identity, RegisterRecord, WriteTrial};

use crate::probe;
use crate::recorded::{RecordedHost, RecordedVm};

/// Returns the record of a register with this value at reset. Writing the value back succeeds.
pub(crate) fn register(id: RegisterId, value: u64) -> RegisterRecord {
    RegisterRecord {
        id,
        at_reset: AtReset::from_value(id, Value::U64(value)),
        differs_by_vcpu: false,
        write_back: 0,
        trials: Vec::new(),
        fields: None,
    }
}

/// Returns the record of a register with trials: value, errno, value read back.
pub(crate) fn register_with_trials(
    id: RegisterId,
    value: u64,
    trials: &[(u64, u16, u64)],
) -> RegisterRecord {
    let trials = trials.iter().map(|(value, errno, read_back)| WriteTrial {
        value: *value,
        errno: *errno,
        read_back: *read_back,
    });
    RegisterRecord {
        trials: trials.collect(),
        ..register(id, value)
    }
}

/// Returns a host with one guest.
pub(crate) fn host(features: Features, mut registers: Vec<RegisterRecord>) -> RecordedHost {
    registers.sort_by_key(|register| register.id);
    let guest = GuestRecord {
        registers,
        writable: None,
    };
    RecordedHost::new(HostRecord {
        identity: Identity::default(),
        capabilities: BTreeMap::new(),
        guests: BTreeMap::from([(features, guest)]),
        hardware: HardwareFacts::UNKNOWN,
    })
}

/// Returns a recorded host of the index.
pub(crate) fn recorded_host(version: &str, cpu: &str) -> RecordedHost {
    let index = HostIndex::built_in().expect("the built-in index");
    let name = format!("{}{version}/{cpu}", cpreg_hosts::host::HOST_NAME_PREFIX);
    let record = index.resolve(&name).expect("a recorded host").host.record();
    RecordedHost::new(record)
}

/// Returns the largest recorded set of features that has neither EL2 nor memory tagging.
pub(crate) fn max_features(host: &RecordedHost) -> Features {
    let sets = host.record().guests.keys().copied();
    let usual = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
    sets.filter(|set| usual.contains(*set))
        .max_by_key(|set| set.len())
        .expect("a guest")
}

/// Creates a VM of the host.
pub(crate) fn vm(host: &RecordedHost, features: Features, vcpus: usize) -> RecordedVm {
    crate::Host::create_vm(host, features, vcpus).expect("a VM")
}

/// Creates a VM of the host with SVE finalized, so that all registers can be read.
pub(crate) fn ready_vm(host: &RecordedHost, features: Features, vcpus: usize) -> RecordedVm {
    let vm = vm(host, features, vcpus);
    if features.contains(Features::SVE) {
        for vcpu in crate::Vm::vcpus(&vm) {
            crate::Vcpu::finalize_sve(vcpu).expect("SVE");
        }
    }
    vm
}

/// Returns the host as the destination for a VM with these features.
pub(crate) fn destination(host: &RecordedHost, features: Features, vcpus: usize) -> Destination {
    probe::probe_destination(host, features, vcpus, "here").expect("a destination")
}

/// Returns the plan for a VM on the host.
pub(crate) fn plan(saved: &Vm, host: &RecordedHost, features: Features) -> Plan {
    let destination = destination(host, features, saved.vcpus.len());
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    Plan::new(saved, &destination, &tolerances, &consents)
}
