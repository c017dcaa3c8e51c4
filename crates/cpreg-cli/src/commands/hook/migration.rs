//! Decision about an incoming migration from the XML of the domain and facts about this host.
//!
//! Registers are not known before the migration: the relay decides about them. Facts that are not
//! known refuse nothing.

use std::fmt;

use cpreg::destination::Features;
use cpreg_snapshot::libvirt::Domain;

use super::host_facts::HostFacts;

/// Proven reason for which the VM cannot run on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Machine type that the domain's emulator lacks.
    Machine {
        machine: String,
        emulator: String,
        /// Newest machine type of the emulator, if known.
        newest: Option<String>,
    },
    /// vCPU features that the XML requires and this host's KVM lacks.
    Features(Features),
    /// Version of an interrupt controller that this host's KVM cannot make.
    Gic(u8),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine {
                machine,
                emulator,
                newest,
            } => {
                write!(
                    f,
                    "{emulator} of this host lacks the machine type {machine}"
                )?;
                if let Some(newest) = newest {
                    write!(f, "; its newest is {newest}")?;
                }
                f.write_str("; install a newer QEMU here, or migrate to another host")
            }
            Self::Features(features) => write!(
                f,
                "KVM of this host lacks the vCPU features that the domain requires: {features}; \
                 migrate to a host that has them"
            ),
            Self::Gic(version) => write!(
                f,
                "KVM of this host cannot make the domain's interrupt controller, a GICv{version}; \
                 migrate to a host that can"
            ),
        }
    }
}

/// Returns every proven reason for which the VM cannot run on this host.
pub(super) fn find_refusals(domain: &Domain, host: &HostFacts) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if let (Some(emulator), Some(machine)) = (&host.emulator, &domain.machine)
        && !emulator.machines.contains(machine)
    {
        refusals.push(Refusal::Machine {
            machine: machine.clone(),
            emulator: emulator.path.clone(),
            newest: emulator.newest.clone(),
        });
    }
    if let Some(kvm) = &host.kvm {
        let missing = required_features(domain).difference(kvm.features);
        if !missing.is_empty() {
            refusals.push(Refusal::Features(missing));
        }
        let version = domain.gic.as_deref().and_then(|text| text.parse().ok());
        if let Some(version) = version
            && kvm.impossible_gics.contains(&version)
        {
            refusals.push(Refusal::Gic(version));
        }
    }
    refusals
}

/// Returns the vCPU features without which the domain's QEMU does not start.
///
/// A feature that the XML does not mention depends on the source host, so it is not required here.
fn required_features(domain: &Domain) -> Features {
    let named = domain.cpu_features.iter();
    let required = named.filter(|(_, policy)| matches!(&**policy, "require" | "force"));
    let mut features = required
        .filter_map(|(name, _)| Features::from_name(name))
        .fold(Features::NONE, |all, feature| all | feature);
    if domain.pmu == Some(true) {
        features = features | Features::PMU;
    }
    if has_memory_tagging(&domain.arguments) {
        features = features | Features::MTE;
    }
    features
}

/// Returns `true` if QEMU's arguments in the XML (`qemu:commandline`) switch memory tagging on.
/// libvirt has no element for it.
fn has_memory_tagging(arguments: &[String]) -> bool {
    let mut pairs = arguments.windows(2);
    pairs.any(|pair| {
        matches!(&*pair[0], "-machine" | "-M" | "--machine")
            && pair[1].split(',').any(|part| part == "mte=on")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::hook::host_facts::{EmulatorFacts, KvmFacts};

    fn domain(elements: &str) -> Domain {
        let xml = format!(
            "<domain type='kvm'><name>web</name><os><type arch='aarch64' machine='virt-10.0'>hvm\
             </type></os>{elements}</domain>"
        );
        Domain::parse(&xml).unwrap()
    }

    fn emulator(machines: &[&str]) -> EmulatorFacts {
        EmulatorFacts {
            path: "/usr/bin/qemu".to_owned(),
            machines: machines.iter().map(|name| (*name).to_owned()).collect(),
            newest: machines.last().map(|name| (*name).to_owned()),
        }
    }

    fn host(features: Features, impossible_gics: &[u8]) -> HostFacts {
        HostFacts {
            emulator: Some(emulator(&["virt-10.0"])),
            kvm: Some(KvmFacts {
                features,
                impossible_gics: impossible_gics.to_vec(),
            }),
        }
    }

    #[test]
    fn only_proven_reasons_refuse() {
        let all = Features::PMU | Features::SVE | Features::MTE;
        let sve = "<cpu><feature policy='require' name='sve'/></cpu>";
        let no_sve = "<cpu><feature policy='disable' name='sve'/></cpu>";
        let lengths = "<cpu><feature policy='require' name='sve512'/></cpu>";
        let pmu = "<features><pmu state='on'/></features>";
        let no_pmu = "<features><pmu state='off'/></features>";
        let (gic2, gic_host) = (
            "<features><gic version='2'/></features>",
            "<features><gic version='host'/></features>",
        );
        let mte = "<qemu:commandline><qemu:arg value='-machine'/>\
                   <qemu:arg value='virt,mte=on'/></qemu:commandline>";
        let lacking = |feature| vec![Refusal::Features(feature)];
        let none = Features::NONE;
        for (elements, features, gics, expected) in [
            ("", none, &[2, 3][..], vec![]),
            (sve, all, &[], vec![]),
            (sve, none, &[], lacking(Features::SVE)),
            (no_sve, none, &[], vec![]),
            (lengths, none, &[], vec![]),
            (pmu, Features::SVE, &[], lacking(Features::PMU)),
            (no_pmu, none, &[], vec![]),
            (mte, Features::PMU, &[], lacking(Features::MTE)),
            (mte, all, &[], vec![]),
            (gic2, all, &[2], vec![Refusal::Gic(2)]),
            (gic2, all, &[3], vec![]),
            (gic_host, all, &[2, 3], vec![]),
        ] {
            let found = find_refusals(&domain(elements), &host(features, gics));
            assert_eq!(found, expected, "{elements}");
        }
    }

    #[test]
    fn all_reasons_are_named_at_once() {
        let elements = "<features><pmu state='on'/><gic version='2'/></features>\
                        <cpu><feature policy='require' name='sve'/></cpu>";
        let mut host = host(Features::NONE, &[2]);
        host.emulator = Some(emulator(&["virt", "virt-7.2"]));
        let refusals = find_refusals(&domain(elements), &host);
        let texts: Vec<_> = refusals.iter().map(Refusal::to_string).collect();
        assert_eq!(
            texts,
            [
                "/usr/bin/qemu of this host lacks the machine type virt-10.0; its newest is \
                 virt-7.2; install a newer QEMU here, or migrate to another host",
                "KVM of this host lacks the vCPU features that the domain requires: pmu,sve; \
                 migrate to a host that has them",
                "KVM of this host cannot make the domain's interrupt controller, a GICv2; \
                 migrate to a host that can",
            ]
        );
    }

    #[test]
    fn unknown_facts_refuse_nothing() {
        let elements = "<features><pmu state='on'/><gic version='2'/></features>";
        let unknown = HostFacts {
            emulator: None,
            kvm: None,
        };
        assert_eq!(find_refusals(&domain(elements), &unknown), []);
    }
}
