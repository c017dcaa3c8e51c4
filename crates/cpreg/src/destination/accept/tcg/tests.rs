use alloc::string::String;
use core::fmt::Write as _;

use super::*;
use crate::destination::AcceptedValues;

fn acceptor(major: u16, minor: u16) -> Acceptor {
    Acceptor {
        accelerator: Some(Accelerator::Tcg),
        loader: Some(Loader::qemu(major, minor)),
        kernel_version: None,
        value_origin: None,
    }
}

fn register(id: RegisterId, value: u64) -> DestinationRegister {
    DestinationRegister {
        id,
        value: Some(Value::U64(value)),
        accepted_values: AcceptedValues::ByKind,
    }
}

#[test]
fn every_name_is_a_register() {
    for name in CONSTANT_REGISTERS {
        assert!(
            RegisterId::parse_in(name, Naming::Architectural).is_ok(),
            "{name}"
        );
    }
    for name in CONSTANT_AARCH32_REGISTERS {
        assert!(name.parse::<RegisterId>().is_ok(), "{name}");
    }
}

fn cpu_from_name(name: &str) -> Cpu {
    Cpu {
        has_el3: name.contains("+el3"),
        is_aarch32: name.starts_with("cortex-a15"),
    }
}

/// The observations that the rules are based on: id, name, writable bits, loaders and CPUs.
#[test]
fn rules_agree_with_the_observations() {
    let observations = include_str!("../../../../data/tcg-acceptance.tsv");
    let mut violations = String::new();
    let mut observation_count = 0;
    for line in observations.lines().filter(|line| !line.starts_with('#')) {
        let columns: alloc::vec::Vec<_> = line.split('\t').collect();
        let hexadecimal = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        let id = RegisterId::from_raw(hexadecimal(columns[0]));
        let observed = hexadecimal(columns[2]);
        for loader_and_cpus in columns[3].split(' ') {
            let (version, cpus) = loader_and_cpus.split_once(':').expect("VERSION:CPU");
            let (major, minor) = version.split_once('.').expect("MAJOR.MINOR");
            let acceptor = acceptor(
                major.parse().expect("a number"),
                minor.parse().expect("a number"),
            );
            for cpu in cpus.split(',') {
                let mask = match id.size_bytes() {
                    Some(4) => 0xffff_ffff,
                    _ => u64::MAX,
                };
                let agrees = match writable_bits(acceptor, cpu_from_name(cpu), id) {
                    WritableBits::Bits(bits) => bits & mask == observed,
                    WritableBits::AtLeast(bits) => bits & mask & !observed == 0,
                    WritableBits::All => false,
                };
                if !agrees {
                    let _ = writeln!(
                        violations,
                        "{} {} {} {version} {cpu}",
                        columns[0], columns[1], columns[2]
                    );
                }
                observation_count += 1;
            }
        }
    }
    assert!(violations.is_empty(), "{violations}");
    assert!(observation_count > 2000, "{observation_count}");
}

#[test]
fn a_constant_accepts_only_its_own_value() {
    let id = register(RegisterId::ID_DFR0_EL1, 6);
    assert_eq!(
        evaluate(
            acceptor(10, 0),
            &DestinationVcpu::default(),
            &id,
            &Value::U64(6)
        )
        .as_bool(),
        Some(true)
    );
    assert_eq!(
        evaluate(
            acceptor(10, 0),
            &DestinationVcpu::default(),
            &id,
            &Value::U64(7)
        )
        .as_bool(),
        Some(false)
    );
    let tpidr = register(RegisterId::TPIDR_EL1, 0);
    assert_eq!(
        evaluate(
            acceptor(10, 0),
            &DestinationVcpu::default(),
            &tpidr,
            &Value::U64(7)
        )
        .as_bool(),
        Some(true)
    );
}

#[test]
fn qemu_5_2_accepts_only_its_number_of_counters() {
    let pmcr = register(RegisterId::PMCR_EL0, 4 << 11);
    let evaluated = |n: u64, version: (u16, u16)| {
        evaluate(
            acceptor(version.0, version.1),
            &DestinationVcpu::default(),
            &pmcr,
            &Value::U64(n << 11),
        )
        .as_bool()
    };
    assert_eq!(evaluated(4, (5, 2)), Some(true));
    assert_eq!(evaluated(3, (5, 2)), Some(false));
    assert_eq!(evaluated(6, (5, 2)), Some(false));
    assert_eq!(evaluated(6, (7, 2)), Some(true));
}

/// 5.2 aborts with fewer counters, even without a value, and accepts more.
#[test]
fn qemu_5_2_compares_the_number_of_counters() {
    let pmcr = register(RegisterId::PMCR_EL0, 4 << 11);
    let mismatch = |acceptor, n: Option<u64>| {
        let value = n.map(|n| Value::U64(n << 11));
        counter_mismatch(acceptor, &pmcr, value.as_ref())
    };
    assert_eq!(
        mismatch(acceptor(5, 2), Some(3)),
        Some(CounterMismatch::Fewer)
    );
    assert_eq!(mismatch(acceptor(5, 2), None), Some(CounterMismatch::Fewer));
    assert_eq!(mismatch(acceptor(5, 2), Some(4)), None);
    assert_eq!(
        mismatch(acceptor(5, 2), Some(6)),
        Some(CounterMismatch::More)
    );
    assert_eq!(mismatch(acceptor(7, 2), Some(3)), None);
}

#[test]
fn missing_registers_are_loaded_as_zero_or_any_value() {
    let short = DestinationVcpu::default();
    let ids = (0..341).map(|number| RegisterId::from_raw(0x6030_0000_0013_0000 + number));
    let long = DestinationVcpu::new(ids.map(|id| register(id, 0)), alloc::vec::Vec::new());
    let evaluated = |version: (u16, u16), destination_vcpu, id, own| {
        evaluate_missing(
            acceptor(version.0, version.1),
            destination_vcpu,
            &register(id, own),
        )
        .as_bool()
    };
    let constant = RegisterId::ID_DFR0_EL1;
    assert_eq!(evaluated((10, 0), &short, constant, 0), Some(true));
    assert_eq!(evaluated((10, 0), &short, constant, 6), Some(false));
    for (version, destination_vcpu) in [((10, 0), &long), ((11, 1), &short)] {
        assert_eq!(evaluated(version, destination_vcpu, constant, 0), None);
        assert_eq!(
            evaluated(version, destination_vcpu, constant, 6),
            Some(false)
        );
        assert_eq!(
            evaluated(version, destination_vcpu, RegisterId::TPIDR_EL1, 0),
            Some(true)
        );
        let narrow = RegisterId::aarch32(15, 0, 13, 0, 1);
        assert_eq!(evaluated(version, destination_vcpu, narrow, 0), None);
    }
    // SCR_EL3 needs two bits that zero lacks, with any own value.
    assert_eq!(evaluated((7, 2), &short, SCR_EL3, 0), Some(false));
    assert_eq!(evaluated((10, 0), &short, SCR_EL3, 0), Some(true));
}
