//! Comparison of the feature gates (ID fields that hide registers) with all recorded lists.

use cpreg::destination::kernel::{FEATURE_GATES, gates_by_vm_id_field};
use cpreg::destination::{DestinationVcpu, Version};
use cpreg::register::RegisterId;
use cpreg_hosts::HostIndex;

/// Register that only guests with EL2 have.
const HCR_EL2: RegisterId = RegisterId::sysreg(3, 4, 1, 1, 0);

fn is_el2(id: RegisterId) -> bool {
    id.to_string().ends_with("_EL2")
}

/// Calls `compare` for every recorded guest.
fn for_each_guest(mut compare: impl FnMut(&str, Version, &DestinationVcpu)) {
    let index = HostIndex::built_in().expect("the checked-in index");
    for host in index.hosts() {
        let record = host.record();
        let version = Version::from_kernel_release(&record.identity.release);
        for (features, guest) in &record.guests {
            let name = format!("{}/{features}", host.name());
            let vcpu = guest.to_destination_vcpu();
            compare(&name, version.expect("a version"), &vcpu);
        }
    }
}

/// A guest's list has a gated register if and only if the guest's ID register has the feature.
#[test]
fn lists_follow_the_id_fields() {
    let (mut listed, mut hidden) = (0, 0);
    for_each_guest(|name, version, vcpu| {
        for gate in FEATURE_GATES.iter().filter(|gate| version >= gate.since) {
            let value = vcpu.value(gate.id_register).unwrap_or(0);
            for id in gate.registers {
                if is_el2(*id) && vcpu.get(HCR_EL2).is_none() {
                    continue;
                }
                let is_listed = vcpu.get(*id).is_some();
                assert_eq!(is_listed, !gate.hides(value), "{name}: {id}");
                if is_listed {
                    listed += 1;
                } else {
                    hidden += 1;
                }
            }
        }
    });
    assert!(listed > 1_000 && hidden > 1_000, "{listed} {hidden}");
}

/// A decision from the list alone never contradicts the decision from the kernel's version.
#[test]
fn a_list_shows_the_gates_of_its_kernel() {
    let (mut decided, mut undecided) = (0, 0);
    for_each_guest(|name, version, vcpu| {
        for id in FEATURE_GATES.iter().flat_map(|gate| gate.registers) {
            if vcpu.get(*id).is_none() {
                continue;
            }
            let by_version = gates_by_vm_id_field(vcpu, Some(version), *id);
            match gates_by_vm_id_field(vcpu, None, *id) {
                Some(by_list) => {
                    decided += 1;
                    assert_eq!(Some(by_list), by_version, "{name}: {id}");
                }
                None => undecided += 1,
            }
        }
    });
    assert!(decided > 1_000 && undecided > 100, "{decided} {undecided}");
}
