//! Every register id observed in a real stream or on a real host: it decodes, has a name or a
//! reason to have none, and its printed spelling parses to the same id.

use cpreg::register::{DecodedId, Naming, RegisterClass, RegisterId};

const OBSERVED_IDS: &str = include_str!("../../../tests/fixtures/ids/seen-ids.txt");

/// Returns the ids of the list, each with the places of its observation.
fn observed_ids() -> impl Iterator<Item = (RegisterId, Vec<&'static str>)> {
    OBSERVED_IDS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (id, places) = line.split_once(' ').expect("an id and a list of places");
            let id = u64::from_str_radix(id, 16).expect("an id in hexadecimal");
            (RegisterId::from_raw(id), places.split(',').collect())
        })
}

/// Returns the naming for each place of an observation.
fn namings(places: &[&str]) -> Vec<Naming> {
    places
        .iter()
        .map(|place| {
            if *place == "tcg" {
                Naming::Architectural
            } else {
                Naming::Kvm
            }
        })
        .collect()
}

#[test]
fn the_list_is_complete() {
    assert_eq!(observed_ids().count(), 761);
    for place in ["kvm", "tcg", "host"] {
        assert!(
            observed_ids().any(|(_, places)| places.contains(&place)),
            "{place}"
        );
    }
}

#[test]
fn observed_ids_decode_and_have_a_size() {
    for (id, _) in observed_ids() {
        assert_ne!(id.class(), RegisterClass::Unknown, "{id}");
        assert!(id.size_bytes().is_some(), "{id}");
    }
}

#[test]
fn observed_ids_round_trip() {
    for (id, places) in observed_ids() {
        for naming in namings(&places) {
            let text = id.display_in(naming).to_string();
            assert_eq!(RegisterId::parse_in(&text, naming), Ok(id), "{text}");
            assert!(!text.starts_with("0x"), "{text}");
        }
    }
}

/// Returns `true` if the architecture reserves the id, so that it has no name.
fn is_reserved(id: RegisterId) -> bool {
    if id.is_id_register() {
        return true;
    }
    match id.decode() {
        // The rest of the AArch32 ID space, and QEMU's ids for the EL3 registers AFSR0 and AFSR1,
        // which do not exist in AArch32.
        DecodedId::Coprocessor(register) => {
            (register.coprocessor, register.opc1, register.crn) == (15, 0, 0)
                || (register.coprocessor, register.opc1, register.crn) == (15, 6, 5)
        }
        _ => false,
    }
}

#[test]
fn observed_ids_have_a_name_or_are_reserved() {
    let (mut implementation_defined, mut reserved) = (0, 0);
    for (id, places) in observed_ids() {
        for naming in namings(&places) {
            // The Secure instance has the name of the other one, with a suffix.
            let not_secure = match id.decode() {
                DecodedId::Coprocessor(mut register) => {
                    register.secure = false;
                    RegisterId::coprocessor(register)
                }
                _ => id,
            };
            if not_secure.name_in(naming).is_some() {
                continue;
            }
            if id.implementation_defined_names().next().is_some() {
                implementation_defined += 1;
            } else {
                assert!(is_reserved(id), "{id} ({:#x}) has no name", id.raw());
                reserved += usize::from(naming == Naming::Architectural);
            }
        }
    }
    // Under TCG: 14 AArch64 and 17 AArch32 ID registers that are reserved, and two AFSRs.
    assert_eq!((implementation_defined, reserved), (39, 33));
}

#[test]
fn the_pmu_has_74_registers_and_pmmir() {
    let pmu = observed_ids().filter(|(id, places)| places.contains(&"host") && id.is_pmu());
    assert_eq!(pmu.count(), 75);
}

#[test]
fn aarch32_ids_are_observed_only_under_tcg() {
    for (id, places) in observed_ids() {
        if id.class() == RegisterClass::Coprocessor {
            assert_eq!(places, ["tcg"], "{id}");
        }
    }
    let mirrored = observed_ids()
        .filter(|(id, _)| id.counterpart().is_some())
        .count();
    assert!(mirrored > 100, "{mirrored}");
}
