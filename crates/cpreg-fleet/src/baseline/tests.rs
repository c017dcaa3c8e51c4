use cpreg::plan::{Consents, DecidedPart};
use cpreg::register::Naming;
use cpreg::severity::Severity;
use cpreg::tolerance::Tolerances;

use super::advice::{Advice, advise};
use super::features::LossReason;
use super::*;
use crate::host::testing::recorded_hosts;

/// Baseline of recorded hosts.
struct TestFleet {
    baseline: Baseline,
}

fn find_with(names: &[&str], wishes: &Wishes, consents: &Consents) -> TestFleet {
    let hosts = recorded_hosts(names);
    let hosts: Vec<_> = hosts.iter().collect();
    let inputs = PlanInputs {
        tolerances: &Tolerances::default(),
        consents,
    };
    let baseline = Baseline::find(&hosts, wishes, inputs).expect("recorded hosts");
    TestFleet { baseline }
}

fn find(names: &[&str]) -> TestFleet {
    find_with(names, &Wishes::default(), &Consents::default())
}

impl TestFleet {
    fn advice(&self, names: &[&str]) -> Vec<Advice> {
        let hosts = recorded_hosts(names);
        let hosts: Vec<_> = hosts.iter().collect();
        let inputs = PlanInputs {
            tolerances: &Tolerances::default(),
            consents: &Consents::default(),
        };
        advise(&self.baseline, &hosts, &Wishes::default(), inputs).expect("recorded hosts")
    }

    fn settings(&self) -> Vec<String> {
        let settings = self.baseline.settings.iter();
        settings
            .map(|setting| format!("{}={:#x}", setting.name(), setting.value))
            .collect()
    }

    fn fixed(&self) -> Vec<String> {
        self.baseline.fixed.iter().map(FixedValue::name).collect()
    }

    fn outcomes(&self) -> BTreeSet<MoveOutcome> {
        self.baseline
            .pairs()
            .map(|(_, _, one)| one.outcome)
            .collect()
    }
}

const N1_6_12: &str = "linux-6.12.107/neoverse-n1";
const N1_7_3: &str = "linux-7.3.4/neoverse-n1";

#[test]
fn kernels_6_12_to_7_3_on_one_cpu_need_only_a_psci_version() {
    let names = [
        N1_6_12,
        "linux-6.16.12/neoverse-n1",
        "linux-6.17.13/neoverse-n1",
        "linux-7.2.12/neoverse-n1",
        N1_7_3,
    ];
    let found = find(&names);
    assert_eq!(found.settings(), ["PSCI_VERSION=0x10001"]);
    assert_eq!(found.baseline.settings[0].forced_by, [0]);
    assert!(found.fixed().is_empty());
    assert_eq!(found.outcomes(), BTreeSet::from([MoveOutcome::Ready]));
    assert_eq!(found.baseline.pairs().count(), 20);
    assert_eq!(found.baseline.verdict(), Verdict::Converts);
    // Seen in the lab: without these registers QEMU 11.1 loads all pairs (docs/kvm-baseline.md).
    let drops = found.baseline.drops.iter().map(ToString::to_string);
    assert_eq!(
        drops.collect::<Vec<_>>().join(" "),
        "TCR2_EL1 PMMIR_EL1 PIRE0_EL1 PIR_EL1 KVM_REG_ARM_VENDOR_HYP_BMAP_2"
    );
    for (_, _, one) in found.baseline.pairs() {
        let mut loaders = one.loaders_after_drops.iter();
        assert!(loaders.all(|(_, loads)| *loads));
    }
    let without_6_12 = &found.advice(&names)[0];
    assert_eq!(without_6_12.hosts, [0]);
    assert_eq!(without_6_12.values, ["PSCI_VERSION"]);
}

#[test]
fn without_settings_the_same_hosts_refuse() {
    let hosts = recorded_hosts(&[N1_6_12, N1_7_3]);
    let inputs = PlanInputs {
        tolerances: &Tolerances::default(),
        consents: &Consents::default(),
    };
    let births: Vec<_> = hosts
        .iter()
        .map(|host| Birth::new(host, Features::PMU, &[], None).expect("recorded"))
        .collect();
    let (moves, _) = moves::plan(&births, inputs);
    assert_eq!(moves[1][0].outcome, MoveOutcome::NeedsConsent);
}

#[test]
fn fixed_debug_versions_of_5_10_and_6_1_are_named() {
    let old = ["linux-5.10.223/neoverse-n1", "linux-6.1.176/neoverse-n1"];
    let names = [old[0], old[1], N1_6_12];
    let found = find(&names);
    assert_eq!(found.fixed(), ["ID_AA64DFR0_EL1.DebugVer"]);
    let fixed = &found.baseline.fixed[0];
    assert_eq!(fixed.values, [(6, vec![1]), (8, vec![0, 2])]);
    assert_eq!(fixed.fixed_on, [0, 1]);
    assert_eq!(found.baseline.verdict(), Verdict::Refused);
    // 6.1 moves VMs with newer kernels. 5.10 has an earlier revision of the GIC.
    let advice = found.advice(&names);
    let left_out: Vec<_> = advice.iter().map(|advice| &*advice.hosts).collect();
    assert_eq!(left_out, [[0], [1]]);
    let outcomes = |name| find(&[name, N1_6_12, N1_7_3]).outcomes();
    let both = BTreeSet::from([MoveOutcome::Ready, MoveOutcome::Refused]);
    assert_eq!(outcomes(old[0]), both);
    assert_eq!(outcomes(old[1]), BTreeSet::from([MoveOutcome::Ready]));
}

#[test]
fn on_max_only_nested_virtualization_is_left() {
    let names = ["linux-6.12.107/max", "linux-6.17.13/max", "linux-7.3.4/max"];
    let found = find(&names);
    assert_eq!(found.baseline.features.to_string(), "pmu,sve,ptrauth");
    assert_eq!(found.fixed(), ["ID_AA64MMFR2_EL1.NV"]);
    // KVM of 7.3 takes S1PIE away from guests without ATS1A, which 6.12 does not have.
    for setting in ["ID_AA64MMFR3_EL1.S1PIE=0x0", "ID_AA64MMFR3_EL1.SCTLRX=0x0"] {
        assert!(
            found.settings().iter().any(|name| name == setting),
            "{setting}"
        );
    }
    for (_, _, one) in found.baseline.pairs() {
        let expected = [MoveOutcome::Ready, MoveOutcome::NeedsConsent];
        assert!(expected.contains(&one.outcome), "{one:?}");
        for adjustment in &one.proposed {
            assert_eq!(adjustment.register, RegisterId::ID_AA64MMFR2_EL1);
            assert_eq!(adjustment.severity, Severity::Low);
        }
        for change in &one.visible_changes {
            assert_eq!(change.field.as_deref(), Some("NV"), "{change:?}");
        }
    }
    let consents = Consents {
        accept: vec![RegisterId::ID_AA64MMFR2_EL1],
        ..Consents::default()
    };
    let found = find_with(&names, &Wishes::default(), &consents);
    assert_eq!(found.outcomes(), BTreeSet::from([MoveOutcome::Ready]));
}

#[test]
fn v1_and_n2_differ_only_in_the_cpu() {
    let found = find(&["linux-7.3.4/neoverse-v1", "linux-7.3.4/neoverse-n2"]);
    for setting in ["TGran4_2", "TGran16_2", "TGran64_2"] {
        let setting = format!("ID_AA64MMFR0_EL1.{setting}=0x1");
        assert!(found.settings().contains(&setting), "{setting}");
    }
    let limit = found.baseline.vector_limit.as_ref().expect("other lengths");
    assert_eq!((limit.max_bits, limit.best_bits), (128, 256));
    assert_eq!(found.fixed(), ["MIDR_EL1"]);
    assert_eq!(found.outcomes(), BTreeSet::from([MoveOutcome::CpuDiffers]));
    // The algorithms of pointer authentication differ.
    let lost = &found.baseline.lost_features[0];
    assert_eq!(lost.feature, Features::POINTER_AUTHENTICATION);
    assert_eq!(lost.reason, LossReason::Moves);
    assert!(
        lost.fixed
            .iter()
            .any(|name| name.starts_with("ID_AA64ISAR")),
        "{lost:?}"
    );
}

#[test]
fn n1_and_a76_differ_only_in_the_cpu() {
    let found = find(&[N1_7_3, "linux-7.3.4/cortex-a76"]);
    assert_eq!(found.fixed(), ["MIDR_EL1"]);
    assert_eq!(found.outcomes(), BTreeSet::from([MoveOutcome::CpuDiffers]));
    assert_eq!(
        found.settings(),
        ["ID_AA64PFR1_EL1.SSBS=0x1", "ID_AA64MMFR0_EL1.PARange=0x2"]
    );
}

#[test]
fn n1_and_v1_have_fixed_fields() {
    let found = find(&[N1_7_3, "linux-7.3.4/neoverse-v1"]);
    let fields = ["EVT", "FWB", "IDS"].map(|field| format!("ID_AA64MMFR2_EL1.{field}"));
    assert_eq!(found.fixed()[1..], fields);
    assert_eq!(found.outcomes(), BTreeSet::from([MoveOutcome::Refused]));
    let (_, _, one) = found.baseline.pairs().next().expect("a pair");
    let part = DecidedPart::Register(RegisterId::ID_AA64MMFR2_EL1);
    assert!(one.blockers.iter().any(|blocker| blocker.part == part));
    let lost = found.baseline.lost_features.iter();
    let lost = lost.map(|lost| (lost.feature, lost.forced_by.clone()));
    let expected = [
        (Features::POINTER_AUTHENTICATION, vec![0]),
        (Features::SVE, vec![0]),
    ];
    assert_eq!(lost.collect::<Vec<_>>(), expected);
}

#[test]
fn advice_names_the_host_without_a_feature() {
    let names = ["linux-6.12.107/max", "linux-6.12.95/max", N1_6_12];
    let found = find(&names);
    let advice = found.advice(&names);
    let advice = advice.iter().find(|advice| advice.hosts == [2]);
    let advice = advice.expect("advice to leave out the N1");
    assert!(advice.features.contains(Features::SVE));
    assert_eq!(advice.ready, (4, 4));
    // A feature that a host lacks cannot be kept, and the verdict says so.
    let wishes = Wishes {
        features: Features::SVE,
        ..Wishes::default()
    };
    let found = find_with(&names, &wishes, &Consents::default());
    let lost = found.baseline.lost_features.iter();
    assert!(lost.filter(|lost| lost.is_wanted).count() == 1);
    assert_eq!(found.baseline.verdict(), Verdict::Refused);
}

#[test]
fn a_field_that_is_kept_has_its_best_value() {
    let field = RegisterField::parse_in("ID_AA64ISAR3_EL1.FPRCVT", Naming::Kvm).expect("a field");
    let wishes = Wishes {
        fields: vec![field],
        ..Wishes::default()
    };
    let names = ["linux-6.12.107/max", "linux-7.3.4/max"];
    let found = find_with(&names, &wishes, &Consents::default());
    let setting = found.settings().into_iter();
    assert_eq!(setting.filter(|name| name.contains("FPRCVT")).count(), 1);
    assert!(
        found
            .settings()
            .contains(&"ID_AA64ISAR3_EL1.FPRCVT=0x1".to_owned())
    );
    // 6.12 does not have the field, so its VMs cannot be born.
    let (_, birth) = found.baseline.births().next().expect("a host");
    assert_ne!(birth.outcome, MoveOutcome::Ready);
}

/// Every host keeps every setting, so that the VMM does not end at its start.
#[test]
fn every_host_keeps_every_setting() {
    for cpu in [
        "neoverse-n1",
        "neoverse-v1",
        "neoverse-n2",
        "cortex-a57",
        "max",
    ] {
        let kernels = ["6.12.43", "6.16.3", "6.18.15", "7.0.13", "7.3.4"];
        let names = kernels.map(|kernel| format!("linux-{kernel}/{cpu}"));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found = find(&names);
        let hosts = recorded_hosts(&names);
        for (host, name) in hosts.iter().zip(&names) {
            let features = found.baseline.features;
            let destination = host.destination_for_new_vm(features).expect("recorded");
            for setting in &found.baseline.settings {
                let Some(register) =
                    host_register::HostRegister::new(0, &destination, setting.register)
                else {
                    continue;
                };
                let of_register = found.baseline.settings.iter();
                let of_register = of_register.filter(|it| it.register == setting.register);
                let value = of_register.fold(register.own, |value, it| it.apply(value));
                assert_eq!(
                    register.keeps(value),
                    Some(true),
                    "{name}: {}",
                    setting.name()
                );
            }
        }
        for (index, birth) in found.baseline.births() {
            assert_eq!(birth.outcome, MoveOutcome::Ready, "{}", names[index]);
        }
    }
}
