//! Work on the hosts that has the effect of settings: parameters of Linux, firmware.
//!
//! The parameters lower the ID registers that Linux and KVM use (Linux
//! `arch/arm64/kernel/pi/idreg-override.c`). They affect all guests of a host, and the host itself.

use cpreg::destination::Features;
use cpreg::hardware::HardwareFact;
use cpreg::plan::DecidedPart;
use cpreg::register::RegisterId;
use cpreg_fleet::baseline::Baseline;
use cpreg_fleet::baseline::features::LossReason;
use cpreg_fleet::baseline::setting::Setting;

use super::model::HostItem;

/// Parameters of Linux that take a feature of the vCPU away.
const FEATURE_PARAMETERS: [(Features, &str); 3] = [
    (Features::SVE, "arm64.nosve"),
    (Features::POINTER_AUTHENTICATION, "arm64.nopauth"),
    (Features::MTE, "arm64.nomte"),
];

/// Parameters of Linux that lower a field: register, field, value, parameter.
const FIELD_PARAMETERS: [(RegisterId, &str, u64, &str); 4] = [
    (RegisterId::ID_AA64PFR0_EL1, "EL0", 1, "arm64.no32bit_el0"),
    (RegisterId::ID_AA64PFR1_EL1, "BT", 0, "arm64.nobti"),
    (RegisterId::ID_AA64PFR1_EL1, "SME", 0, "arm64.nosme"),
    (RegisterId::ID_AA64PFR1_EL1, "MTE", 0, "arm64.nomte"),
];

/// Returns the items, with hosts by the names in `hosts`.
pub(super) fn host_items(baseline: &Baseline, hosts: &[String]) -> Vec<HostItem> {
    let others = |forced_by: &[usize]| {
        let indexes = hosts.iter().enumerate();
        let others = indexes.filter(|(index, _)| !forced_by.contains(index));
        others.map(|(_, name)| name.clone()).collect::<Vec<_>>()
    };
    let named = |indexes: &[usize]| {
        let names = indexes.iter().filter_map(|index| hosts.get(*index));
        names.cloned().collect::<Vec<_>>()
    };
    let mut items = Vec::new();
    for lost in &baseline.lost_features {
        let mut parameters = FEATURE_PARAMETERS.iter();
        let parameter = parameters.find(|(feature, _)| *feature == lost.feature);
        if let Some((feature, parameter)) = parameter
            && lost.reason != LossReason::NotWanted
        {
            items.push(HostItem {
                parameter: Some((*parameter).to_owned()),
                hosts: others(&lost.forced_by),
                effect: format!("no guest has {feature}, whatever the VMM asks for"),
            });
        }
    }
    for setting in &baseline.settings {
        let mut parameters = FIELD_PARAMETERS.iter();
        let parameter = parameters.find(|(id, field, value, _)| {
            *id == setting.register
                && setting.field.is_some_and(|own| own.name() == *field)
                && *value == setting.value
        });
        if let Some((.., parameter)) = parameter {
            items.push(HostItem {
                parameter: Some((*parameter).to_owned()),
                hosts: others(&setting.forced_by),
                effect: format!("every guest has {} {:#x}", setting.name(), setting.value),
            });
        } else if is_mitigation(setting) {
            items.push(HostItem {
                parameter: None,
                hosts: named(&setting.forced_by),
                effect: format!(
                    "firmware and kernel decide {}: a host that reaches {:#x} forces nothing",
                    setting.name(),
                    setting.best
                ),
            });
        }
    }
    items.extend(fact_items(baseline, hosts));
    items
}

/// Returns `true` if firmware and kernel decide the value, as for mitigations of CPU errata.
fn is_mitigation(setting: &Setting) -> bool {
    let workarounds = [
        RegisterId::SMCCC_ARCH_WORKAROUND_1,
        RegisterId::SMCCC_ARCH_WORKAROUND_2,
        RegisterId::SMCCC_ARCH_WORKAROUND_3,
    ];
    let name = setting.field.map_or("", |field| field.name());
    workarounds.contains(&setting.register)
        || setting.register == RegisterId::ID_AA64PFR0_EL1 && matches!(name, "CSV2" | "CSV3")
}

/// Returns an item for each property of the hosts that blocks moves.
fn fact_items(baseline: &Baseline, hosts: &[String]) -> Vec<HostItem> {
    let mut items: Vec<HostItem> = Vec::new();
    for (from, to, one) in baseline.pairs() {
        for blocker in &one.blockers {
            let DecidedPart::Hardware(fact) = blocker.part else {
                continue;
            };
            let effect = if blocker.is_unknown {
                "not known; `cpreg probe kvm` on the host records it"
            } else {
                match fact {
                    HardwareFact::CounterFrequency => {
                        "no VMM has a setting; choose hosts with the same (firmware sets it)"
                    }
                    HardwareFact::GicRevision => {
                        "QEMU has no setting; choose hosts with Linux 5.19 or later"
                    }
                    _ => "no VMM has a setting; choose hosts with the same",
                }
            };
            let effect = format!("{}: {effect}", fact.name());
            let names = [from, to].map(|index| hosts.get(index).cloned().unwrap_or_default());
            match items.iter_mut().find(|item| item.effect == effect) {
                Some(item) => {
                    for name in names {
                        if !item.hosts.contains(&name) {
                            item.hosts.push(name);
                        }
                    }
                }
                None => items.push(HostItem {
                    parameter: None,
                    hosts: names.to_vec(),
                    effect,
                }),
            }
        }
    }
    items
}
