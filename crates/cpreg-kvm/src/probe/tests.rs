use cpreg::destination::AcceptedValues;
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::record::WriteTrial;

use super::*;
use crate::errno::Errno;
use crate::error::ErrorKind;
use crate::recorded::RecordedHost;
use crate::testing;

fn probed(host: &RecordedHost) -> (HostRecord, Vec<ProbeEvent>) {
    let mut events = Vec::new();
    let record = probe(host, |event| events.push(event)).expect("probed");
    (record, events)
}

#[test]
fn the_probe_of_a_recorded_host_equals_its_record() {
    for (version, cpu) in [
        ("5.10.223", "max"),
        ("6.1.176", "neoverse-n1"),
        ("6.16.12", "max"),
        ("7.3.4", "max"),
    ] {
        let host = testing::recorded_host(version, cpu);
        let (record, events) = probed(&host);
        let guest_sets: Vec<_> = host.record().guests.keys().copied().collect();
        assert_eq!(events.len(), guest_sets.len());
        assert_eq!(record.identity, host.record().identity);
        assert_eq!(record.capabilities, host.record().capabilities);
        assert_eq!(record.hardware, host.record().hardware);
        for (features, guest) in &record.guests {
            let recorded = &host.record().guests[features];
            assert_eq!(guest.writable, recorded.writable);
            assert_eq!(guest.registers.len(), recorded.registers.len());
            for (probed, recorded) in guest.registers.iter().zip(&recorded.registers) {
                assert_eq!(
                    probed, recorded,
                    "{version} {cpu}/{features}: {}",
                    probed.id
                );
            }
        }
    }
}

#[test]
fn claimed_features_that_fail_are_reported() {
    let host = testing::recorded_host("7.3.4", "neoverse-n1");
    let mut record = host.record().clone();
    record.capabilities.insert("KVM_CAP_ARM_MTE".to_owned(), 1);
    let (probed, events) = probed(&RecordedHost::new(record));
    assert_eq!(probed.guests, host_guests(&host));
    let failed: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ProbeEvent::GuestProbeFailed(error) => Some(error.to_string()),
            _ => None,
        })
        .collect();
    let text = "a guest with the features pmu,mte: cannot create a VM: KVM_ARM_VCPU_INIT: ";
    assert!(
        matches!(failed.as_slice(), [one] if one.starts_with(text)),
        "{failed:?}"
    );
    let mut without_guests = host.record().clone();
    without_guests.guests.clear();
    let error = probe(&RecordedHost::new(without_guests), |_| {}).expect_err("no guest at all");
    assert!(matches!(
        error.kind(),
        ErrorKind::Probe { features, .. } if features.is_empty()
    ));
    assert_eq!(error.errno(), Some(Errno::EINVAL));
}

fn host_guests(host: &RecordedHost) -> BTreeMap<Features, GuestRecord> {
    probed(host).0.guests
}

/// PSCI versions and bitmap bits are tried in every set, other registers in the set with all
/// features.
#[test]
fn trials_depend_on_the_set_and_the_register() {
    let (record, _) = probed(&testing::recorded_host("7.3.4", "max"));
    let trials = |features: &str, id: RegisterId| -> Vec<WriteTrial> {
        let guest = &record.guests[&Features::from_names(features).expect("features")];
        let mut registers = guest.registers.iter();
        let register = registers.find(|register| register.id == id);
        register.expect("listed").trials.clone()
    };
    let values = |features: &str, id: RegisterId| -> Vec<u64> {
        let trials = trials(features, id);
        trials.iter().map(|trial| trial.value).collect()
    };
    assert_eq!(
        values("none", RegisterId::PSCI_VERSION),
        [0x2, 0x1_0000, 0x1_0001, 0x1_0002]
    );
    let bits: Vec<_> = (0..64).map(|bit| 1 << bit).collect();
    assert_eq!(values("none", RegisterId::VENDOR_HYP_BMAP_2), bits);
    let all_features = "pmu,sve,ptrauth";
    assert_eq!(
        values(all_features, RegisterId::PSCI_VERSION),
        [0, u64::MAX, 0x1_0002, 0x2, 0x1_0000, 0x1_0001]
    );
    assert!(trials(all_features, RegisterId::CORE_PC).is_empty());
    assert!(trials("none", RegisterId::CTR_EL0).is_empty());
    assert_eq!(trials(all_features, RegisterId::CTR_EL0).len(), 4);
}

#[test]
fn a_destination_has_each_vcpus_values_and_the_trials() {
    let host = testing::recorded_host("6.12.107", "neoverse-n1");
    let destination = probe_destination(&host, Features::PMU, 3, "kvm").expect("a destination");
    assert_eq!(destination.vcpus.len(), 3);
    for (number, vcpu) in destination.vcpus.iter().enumerate() {
        let mpidr = vcpu.value(RegisterId::MPIDR_EL1);
        assert_eq!(mpidr, Some(1 << 31 | number as u64));
        let psci = vcpu.get(RegisterId::PSCI_VERSION).expect("listed");
        assert_eq!(psci.value, Some(Value::U64(0x1_0001)));
        assert_eq!(
            psci.accepted_values,
            AcceptedValues::OneOf(vec![0x2, 0x1_0000, 0x1_0001])
        );
        let bitmap = vcpu.get(RegisterId::VENDOR_HYP_BMAP).expect("listed");
        assert_eq!(bitmap.accepted_values, AcceptedValues::Subset(3));
    }
}
