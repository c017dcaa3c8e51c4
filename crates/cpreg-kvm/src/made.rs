//! Hosts for tests: recorded ones out of [`History`], and small ones made by hand.

use std::collections::BTreeMap;

use cpreg::destination::{Destination, Features};
use cpreg::plan::{Consents, Plan};
use cpreg::register::{RegisterId, Value};
use cpreg::tolerance::Tolerances;
use cpreg::vm::Vm;
use cpreg_hosts::History;
use cpreg_hosts::history::AtReset;
use cpreg_hosts::record::{Guest, HostRecord, Identity, Register, Trial};

use crate::probe;
use crate::recorded::{RecordedHost, RecordedVm};

/// A register that holds this and takes it back.
pub(crate) fn register(id: RegisterId, value: u64) -> Register {
    Register {
        id,
        at_reset: AtReset::of(id, Value::Small(value)),
        differs_by_vcpu: false,
        write_back: 0,
        trials: Vec::new(),
    }
}

/// The same with what it did with other values: value, errno, what was read.
pub(crate) fn tried(id: RegisterId, value: u64, trials: &[(u64, u16, u64)]) -> Register {
    let trials = trials.iter().map(|(value, errno, reads)| Trial {
        value: *value,
        errno: *errno,
        reads: *reads,
    });
    Register {
        trials: trials.collect(),
        ..register(id, value)
    }
}

/// A host with one guest.
pub(crate) fn host(features: Features, mut registers: Vec<Register>) -> RecordedHost {
    registers.sort_by_key(|register| register.id);
    let guest = Guest {
        registers,
        writable: None,
    };
    RecordedHost::new(HostRecord {
        identity: Identity::default(),
        capabilities: BTreeMap::new(),
        guests: BTreeMap::from([(features, guest)]),
    })
}

/// A recorded host of the history.
pub(crate) fn recorded(version: &str, cpu: &str) -> RecordedHost {
    let history = History::built_in().expect("the built-in history");
    let mut guests = BTreeMap::new();
    let mut capabilities = BTreeMap::new();
    for (number, recording) in history.recordings().iter().enumerate() {
        let kernel = &history.kernels()[recording.kernel];
        if kernel.version != version || recording.cpu != cpu || !recording.mode.is_empty() {
            continue;
        }
        let features = recording
            .features
            .iter()
            .map(|name| Features::from_name(name).expect("a feature"))
            .fold(Features::NONE, |all, feature| all | feature);
        let names: [(Features, &[&str]); 4] = [
            (Features::PMU, &["KVM_CAP_ARM_PMU_V3"]),
            (Features::SVE, &["KVM_CAP_ARM_SVE"]),
            (
                Features::POINTER_AUTHENTICATION,
                &["KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC"],
            ),
            (Features::EL1_32BIT, &["KVM_CAP_ARM_EL1_32BIT"]),
        ];
        for (feature, names) in names {
            if features.contains(feature) {
                capabilities.extend(names.iter().map(|name| ((*name).to_owned(), 1)));
            }
        }
        let registers = history.listed(number).map(|entry| Register {
            id: entry.id,
            at_reset: entry.at_reset.clone(),
            differs_by_vcpu: entry.id == RegisterId::MPIDR_EL1,
            write_back: entry.write_back,
            trials: Vec::new(),
        });
        let masks = history.listed(number);
        let masks = masks.filter_map(|entry| Some((entry.id, entry.writable?)));
        let guest = Guest {
            registers: registers.collect(),
            writable: recording.tells_writable.then(|| masks.collect()),
        };
        guests.insert(features, guest);
    }
    assert!(!guests.is_empty(), "no recording of {version} {cpu}");
    RecordedHost::new(HostRecord {
        identity: Identity {
            release: version.to_owned(),
            cpu: cpu.to_owned(),
            emulated: true,
            ..Identity::default()
        },
        capabilities,
        guests,
    })
}

/// All that a recorded host of the history gives to a guest without an EL2 and without memory tagging.
pub(crate) fn most(host: &RecordedHost) -> Features {
    let sets = host.record().guests.keys().copied();
    let usual = Features::PMU | Features::SVE | Features::POINTER_AUTHENTICATION;
    sets.filter(|set| usual.contains(*set))
        .max_by_key(|set| set.len())
        .expect("a guest")
}

/// A VM of the host.
pub(crate) fn vm(host: &RecordedHost, features: Features, vcpus: usize) -> RecordedVm {
    crate::Host::create(host, features, vcpus).expect("a VM")
}

/// A VM of the host whose registers can all be read.
pub(crate) fn ready(host: &RecordedHost, features: Features, vcpus: usize) -> RecordedVm {
    let vm = vm(host, features, vcpus);
    if features.contains(Features::SVE) {
        for vcpu in crate::Vm::vcpus(&vm) {
            crate::Vcpu::finalize_sve(vcpu).expect("SVE");
        }
    }
    vm
}

/// What the host is for such a VM.
pub(crate) fn destination(host: &RecordedHost, features: Features, vcpus: usize) -> Destination {
    probe::destination(host, features, vcpus, "here").expect("a destination")
}

/// The plan for a VM on the host.
pub(crate) fn plan(saved: &Vm, host: &RecordedHost, features: Features) -> Plan {
    let destination = destination(host, features, saved.vcpus.len());
    let (tolerances, consents) = (Tolerances::default(), Consents::default());
    Plan::new(saved, &destination, &tolerances, &consents)
}
