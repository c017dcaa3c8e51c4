//! KVM's rule for ID registers, compared with every recorded trial.
//!
//! The predictions use the values of a fresh vCPU, the writable masks and the kernel's release, but
//! no result of a trial.

use cpreg::destination::accept::Acceptance;
use cpreg::destination::kernel::RegisterKind;
use cpreg::destination::loader::Program;
use cpreg::destination::{
    Accelerator, AcceptedValues, Destination, DestinationRegister, DestinationVcpu, ValueOrigin,
    Version,
};
use cpreg::hardware::HardwareFacts;
use cpreg::plan::{Consents, Plan, PlanOutcome};
use cpreg::register::{RegisterId, Value};
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;
use cpreg::vm::{Registers, Vcpu, Vm};
use cpreg_hosts::record::{GuestRecord, WriteTrial};
use cpreg_hosts::{HostIndex, Profile};

/// A trial of an ID register, and the prediction.
struct Prediction {
    /// Description of the trial, for messages.
    text: String,
    id: RegisterId,
    has_masks: bool,
    is_accepted: bool,
    acceptance: Acceptance,
}

/// Returns the guest as a destination of which only values and masks are known.
fn destination(guest: &GuestRecord, kernel_version: Option<Version>) -> Destination {
    let known = guest.to_destination_vcpu();
    let registers = known.registers().iter().map(|register| {
        let mask = guest.writable.as_ref().map(|masks| {
            let mask = masks.get(&register.id);
            mask.copied().unwrap_or(0)
        });
        let is_identification = RegisterKind::from_id(register.id) == RegisterKind::Identification;
        let has_mask = is_identification || mask.is_some_and(|mask| mask != 0);
        DestinationRegister {
            id: register.id,
            value: register.value.clone(),
            accepted_values: match mask {
                Some(mask) if has_mask => AcceptedValues::Writable(mask),
                _ => AcceptedValues::ByKind,
            },
        }
    });
    Destination {
        name: String::new(),
        accelerator: Some(Accelerator::Kvm),
        loader: None,
        value_origin: ValueOrigin::Reset,
        vcpus: vec![DestinationVcpu::new(registers, Vec::new())],
        kernel_version,
        hardware: HardwareFacts::UNKNOWN,
        shape: None,
    }
}

/// Returns the predictions of all recorded trials of ID registers and CTR_EL0.
fn predictions(is_release_known: bool) -> Vec<Prediction> {
    let index = HostIndex::built_in().expect("the checked-in index");
    let mut predictions = Vec::new();
    for host in index.hosts() {
        let record = host.record();
        let version = Version::from_kernel_release(&record.identity.release);
        assert!(version.is_some(), "{}", record.identity.release);
        for (features, guest) in &record.guests {
            let destination = destination(guest, version.filter(|_| is_release_known));
            let vcpu = &destination.vcpus[0];
            let registers = guest.registers.iter().filter(|register| {
                let kind = RegisterKind::from_id(register.id);
                matches!(kind, RegisterKind::Identification | RegisterKind::CacheType)
            });
            for register in registers {
                let destination_register = vcpu.get(register.id).expect("a listed register");
                let reset_value = vcpu.value(register.id).expect("a value at reset");
                let predict = |trial: &WriteTrial| {
                    let value = Value::U64(trial.value);
                    let acceptance =
                        destination
                            .acceptor()
                            .evaluate(vcpu, destination_register, &value);
                    let (name, id, value) = (host.name(), register.id, trial.value);
                    Prediction {
                        text: format!(
                            "{name}/{features}: {id}={value:#x} (at reset {reset_value:#x})"
                        ),
                        id,
                        has_masks: guest.writable.is_some(),
                        is_accepted: trial.errno == 0,
                        acceptance,
                    }
                };
                predictions.extend(register.trials.iter().map(predict));
            }
        }
    }
    predictions
}

#[test]
fn the_rule_agrees_with_every_trial() {
    let predictions = predictions(true);
    for prediction in &predictions {
        assert_eq!(
            prediction.acceptance.as_bool(),
            Some(prediction.is_accepted),
            "{}",
            prediction.text
        );
    }
    assert!(predictions.len() > 19_000, "{}", predictions.len());
}

/// Releases before the masks take current values only, and exception levels stay since v6.16.
#[test]
fn without_the_release_the_rule_agrees_or_is_unknown() {
    let predictions = predictions(false);
    let is_unknown = |prediction: &&Prediction| prediction.acceptance.as_bool().is_none();
    for prediction in predictions
        .iter()
        .filter(|prediction| !is_unknown(prediction))
    {
        let accepts = prediction.acceptance.as_bool();
        assert_eq!(accepts, Some(prediction.is_accepted), "{}", prediction.text);
    }
    let with_masks = predictions.iter().filter(|prediction| prediction.has_masks);
    let unknown = with_masks.filter(is_unknown);
    for prediction in unknown.clone() {
        assert_eq!(
            prediction.id,
            RegisterId::ID_AA64PFR0_EL1,
            "{}",
            prediction.text
        );
    }
    assert_eq!(unknown.count(), 12);
}

/// A VM of a host with AArch32 at EL0 loads on one without, if it does not have AArch32 itself.
#[test]
fn aarch32_id_registers_are_no_refusal_without_aarch32() {
    let path = "../../tests/fixtures/profiles-fatal/p-no32.json";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let profile = Profile::from_json(&std::fs::read(path).expect("the fixture"));
    let destination = profile.expect("a profile").destination;
    assert_eq!(destination.kernel_version, Some(Version::new(7, 3)));
    let pfr0 = destination.vcpus[0].value(RegisterId::ID_AA64PFR0_EL1);
    let index = HostIndex::built_in().expect("the checked-in index");
    let host = index
        .resolve("linux-7.3.4/neoverse-n1/pmu")
        .expect("a host");
    let source = host
        .host
        .destination(host.features.expect("features"), Program::QEMU);
    let source = source.expect("a destination");
    let mut registers = Registers::default();
    for register in source.vcpus[0].registers() {
        if let Some(value) = &register.value {
            registers.insert(register.id, value.clone());
        }
    }
    registers.insert(
        RegisterId::ID_AA64PFR0_EL1,
        Value::U64(pfr0.expect("a value")),
    );
    let vm = Vm {
        vcpus: vec![Vcpu {
            registers,
            ..Vcpu::default()
        }],
        ..Vm::default()
    };
    let plan = Plan::new(
        &vm,
        &destination,
        &Tolerances::default(),
        &Consents::default(),
    );
    assert_eq!(plan.outcome(), PlanOutcome::Ready);
    let ignored = plan.visible_changes.iter().filter(|change| {
        let name = change.register.map(|id| id.to_string()).unwrap_or_default();
        name.starts_with("ID_") && !name.starts_with("ID_AA64") || name.starts_with("MVFR")
    });
    for change in ignored.clone() {
        assert_eq!(
            (change.severity, change.to),
            (Severity::Low, Some(0)),
            "{change:?}"
        );
    }
    assert_eq!(ignored.count(), 19);
}
