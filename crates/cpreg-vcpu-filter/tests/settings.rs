//! Settings with which a VM is born, against recorded hosts.

use std::sync::Arc;

use cpreg::destination::Features;
use cpreg::plan::{Consents, SetConsent};
use cpreg::register::{RegisterId, Value};
use cpreg_hosts::HostIndex;
use cpreg_kvm::recorded::RecordedVm;
use cpreg_kvm::{Errno, Host as _, RecordedHost, Vm as _, value};
use cpreg_vcpu_filter::{Event, Policy, VcpuUse, VmFilter};

const PSCI_1_1: u64 = 0x1_0001;
const NEWEST: &str = "linux-7.3.4/neoverse-n1";

struct Vmm {
    filter: VmFilter,
    vm: RecordedVm,
}

impl Vmm {
    fn new(host: &str, born_with: Vec<SetConsent>, consents: Consents) -> Self {
        let index = HostIndex::built_in().expect("the built-in index");
        let host = index.resolve(host).expect("a recorded host");
        let host = RecordedHost::new(host.host.record());
        let policy = Policy {
            born_with,
            consents,
            ..Policy::default()
        };
        Self {
            filter: VmFilter::new(Arc::new(policy)),
            vm: host.create_vm(Features::PMU, 2).expect("a VM"),
        }
    }

    fn initialize(&mut self, vcpu_use: VcpuUse) -> Result<(), Errno> {
        let vcpu = &self.vm.vcpus()[0];
        self.filter.initialize(0, vcpu_use, vcpu)
    }

    fn set(&mut self, id: RegisterId, value: u64) -> Result<(), Errno> {
        let vcpu = &self.vm.vcpus()[0];
        self.filter.set(0, vcpu, id, &value.to_le_bytes())
    }

    fn run(&mut self) -> Result<(), Errno> {
        self.filter.check_run(0, &self.vm.vcpus()[0])
    }

    fn value(&self, id: RegisterId) -> Value {
        value::read(&self.vm.vcpus()[0], id).expect("a value")
    }
}

fn set(register: RegisterId, value: u64) -> SetConsent {
    SetConsent {
        register,
        mask: u64::MAX,
        value,
    }
}

/// The kernel refuses every value but its own.
fn unsettable() -> SetConsent {
    SetConsent {
        register: RegisterId::ID_AA64DFR0_EL1,
        mask: 0xf,
        value: 0xf,
    }
}

#[test]
fn a_setting_is_made_and_survives_the_vmms_own_write() {
    let settings = vec![set(RegisterId::PSCI_VERSION, PSCI_1_1)];
    let mut vmm = Vmm::new(NEWEST, settings, Consents::default());
    assert_ne!(vmm.value(RegisterId::PSCI_VERSION), Value::U64(PSCI_1_1));
    assert_eq!(vmm.initialize(VcpuUse::Guest), Ok(()));
    assert_eq!(vmm.set(RegisterId::PSCI_VERSION, PSCI_1_1), Ok(()));
    assert_eq!(vmm.run(), Ok(()));
    assert_eq!(vmm.value(RegisterId::PSCI_VERSION), Value::U64(PSCI_1_1));
    assert_eq!(vmm.initialize(VcpuUse::Guest), Ok(()));
    let settings = vec![set(RegisterId::PSCI_VERSION, PSCI_1_1)];
    assert_eq!(vmm.filter.take_events(), [Event::SettingsMade { settings }]);
}

#[test]
fn a_guest_does_not_start_without_its_settings() {
    let mut vmm = Vmm::new(
        "linux-6.1.176/neoverse-n1",
        vec![unsettable()],
        Consents::default(),
    );
    assert_eq!(vmm.initialize(VcpuUse::Guest), Err(Errno::EINVAL));
    let events = vmm.filter.take_events();
    let [Event::SettingsRefused { settings, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(settings[0].setting, unsettable());
}

#[test]
fn a_trial_vcpu_only_does_not_run_without_its_settings() {
    let mut vmm = Vmm::new(
        "linux-6.1.176/neoverse-n1",
        vec![unsettable()],
        Consents::default(),
    );
    assert_eq!(vmm.initialize(VcpuUse::Trial), Ok(()));
    assert_eq!(vmm.filter.take_events(), []);
    assert_eq!(vmm.run(), Err(Errno::EINVAL));
    assert!(matches!(
        vmm.filter.take_events()[..],
        [Event::SettingsRefused { .. }]
    ));
}

#[test]
fn a_register_that_the_host_lacks_needs_no_setting_if_its_value_is_harmless() {
    for (value, expected) in [(0, Ok(())), (1, Err(Errno::EINVAL))] {
        let setting = set(RegisterId::VENDOR_HYP_BMAP_2, value);
        let mut vmm = Vmm::new(
            "linux-6.12.107/neoverse-n1",
            vec![setting],
            Consents::default(),
        );
        assert_eq!(vmm.initialize(VcpuUse::Guest), expected, "{value}");
    }
}

#[test]
fn another_value_of_the_vmm_stays_if_the_kernel_accepts_it() {
    let settings = vec![set(RegisterId::PSCI_VERSION, PSCI_1_1)];
    let mut vmm = Vmm::new(NEWEST, settings, Consents::default());
    for _ in 0..2 {
        vmm.initialize(VcpuUse::Guest).expect("the setting");
        vmm.set(RegisterId::PSCI_VERSION, 0x1_0000)
            .expect("a known version");
        assert_eq!(vmm.run(), Ok(()));
        assert_eq!(vmm.value(RegisterId::PSCI_VERSION), Value::U64(0x1_0000));
    }
    let events = vmm.filter.take_events();
    let replaced = events
        .iter()
        .filter(|event| matches!(event, Event::SettingReplaced { .. }));
    assert_eq!(replaced.count(), 1, "{events:?}");
}

#[test]
fn another_value_that_the_kernel_refuses_is_judged() {
    const UNKNOWN_VERSION: u64 = 0x1_0009;
    let accept = Consents {
        accept: vec![RegisterId::PSCI_VERSION],
        ..Consents::default()
    };
    for (consents, runs) in [(Consents::default(), false), (accept, true)] {
        let settings = vec![set(RegisterId::PSCI_VERSION, PSCI_1_1)];
        let mut vmm = Vmm::new(NEWEST, settings, consents);
        vmm.initialize(VcpuUse::Guest).expect("the setting");
        vmm.set(RegisterId::PSCI_VERSION, UNKNOWN_VERSION)
            .expect("not decided yet");
        assert_eq!(vmm.run().is_ok(), runs);
        let events = vmm.filter.take_events();
        let is_refused = events
            .iter()
            .any(|event| matches!(event, Event::Refused(_)));
        assert_eq!(is_refused, !runs, "{events:?}");
    }
}
