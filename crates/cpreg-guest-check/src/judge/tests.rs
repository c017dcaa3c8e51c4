//! Tests of the judgement: one difference at a time.

use super::*;
use crate::state::{CounterOrder, FeatureState, FrequencyMeasurement, RateMeasurement, Unobserved};

fn cpu(cpu: u32) -> CpuState {
    CpuState {
        cpu,
        counter_frequency: 62_500_000,
        ctr: Hexadecimal(0x8444_c004),
        dczid: Hexadecimal(4),
        midr: Some(Hexadecimal(0x413f_d0c1)),
        kernel_midr: Some(Hexadecimal(0x413f_d0c1)),
        kernel_revidr: Some(Hexadecimal(0x181)),
    }
}

/// Returns the state of a guest with two CPUs, atomic instructions and SVE.
fn state() -> GuestState {
    let length = |bytes| VectorLength {
        kernel: bytes,
        rdvl: bytes,
        stored: bytes,
        signal: None,
    };
    let rounds = |rounds| StaleCount { rounds, stale: 0 };
    GuestState {
        boot_id: "5f0c".to_owned(),
        kernel_release: "6.12.107".to_owned(),
        counter: Hexadecimal(1000),
        cpus: vec![cpu(0), cpu(1)],
        kernel_frequency: Some(FrequencyMeasurement {
            hertz: 62_499_000,
            uncertainty: 1000,
        }),
        clock_rate: Some(RateMeasurement {
            millionths: 1_000_100,
            uncertainty: 400,
        }),
        counter_order: CounterOrder {
            compared: 400,
            ..CounterOrder::default()
        },
        zva_bytes: Some(64),
        vector_lengths: vec![length(16), length(32)],
        hwcap: Hexadecimal(1 << 8 | 1 << 22),
        hwcap2: Hexadecimal(0),
        id_registers: [("ID_AA64ISAR0_EL1".to_owned(), Hexadecimal(0x20_0000))].into(),
        features: vec![FeatureState {
            name: "atomics".to_owned(),
            is_executed: true,
        }],
        code: Some(CodeState {
            maintained: rounds(4000),
            protected: rounds(1000),
            unmaintained: StaleCount {
                rounds: 4000,
                stale: 12,
            },
            signal: None,
        }),
        unobserved: Vec::new(),
    }
}

/// Returns the checks without those that found nothing.
fn findings(checks: &[Check]) -> Vec<String> {
    let findings = checks
        .iter()
        .filter(|it| it.result > CheckResult::Unchanged);
    findings
        .map(|check| {
            format!(
                "{} {}: {}",
                check.result.text(),
                check.name.text(),
                check.reason
            )
        })
        .collect()
}

/// Judges a state with a change, against the state without it.
fn judge_change(change: impl FnOnce(&mut GuestState)) -> Vec<String> {
    let before = state();
    let mut now = state();
    change(&mut now);
    findings(&judge(&now, Some(&before)))
}

/// Judges a state with a change by itself.
fn judge_alone(change: impl FnOnce(&mut GuestState)) -> Vec<String> {
    let mut now = state();
    change(&mut now);
    findings(&judge(&now, None))
}

#[test]
fn the_same_machine_has_no_difference() {
    assert_eq!(judge_change(|_| {}), Vec::<String>::new());
    assert_eq!(judge(&state(), None).len(), 10);
}

#[test]
fn another_frequency_is_found_without_a_record() {
    let change = |now: &mut GuestState| {
        for cpu in &mut now.cpus {
            cpu.counter_frequency = 24_000_000;
        }
    };
    let found = judge_alone(change);
    assert_eq!(
        found,
        [
            "found counter-frequency: CNTFRQ_EL0 of CPU 0 is 24000000 Hz, and the kernel computes \
          time with 62499000 Hz; CNTFRQ_EL0 of CPU 1 is 24000000 Hz, and the kernel computes time \
          with 62499000 Hz: time runs at the ratio of the frequencies, until the guest is \
          restarted"
        ]
    );
    assert!(judge_change(change)[0].contains("was 62500000 Hz, is 24000000 Hz"));
}

#[test]
fn frequencies_of_25_and_24_megahertz_differ() {
    let set = |frequency, hertz, uncertainty| {
        judge_alone(|now| {
            now.cpus.truncate(1);
            now.cpus[0].counter_frequency = frequency;
            now.kernel_frequency = Some(FrequencyMeasurement { hertz, uncertainty });
        })
    };
    assert!(set(25_000_000, 24_000_000, 1000)[0].starts_with("found counter-frequency"));
    assert!(set(25_000_000, 24_900_000, 1000).is_empty());
    assert_eq!(
        set(25_000_000, 24_000_000, 2_000_000),
        ["unknown counter-frequency: the guest was too slow for a measurement; repeat it"]
    );
}

#[test]
fn a_wrong_rate_of_time_is_found() {
    let set = |millionths, uncertainty| {
        judge_alone(|now| {
            now.clock_rate = Some(RateMeasurement {
                millionths,
                uncertainty,
            });
        })
    };
    assert_eq!(
        set(196_900, 800),
        [
            "found clock-rate: a second of the real-time clock is 196.900 ± 0.800 ms of the \
          kernel's clock: the guest's time runs at a wrong rate"
        ]
    );
    assert!(set(1_005_000, 800).is_empty());
    assert!(set(1_005_000, 20_000)[0].starts_with("unknown clock-rate"));
    assert!(set(5_080_000, 20_000)[0].starts_with("found clock-rate"));
}

#[test]
fn time_that_goes_backwards_is_found() {
    assert_eq!(
        judge_change(|now| now.counter = Hexadecimal(999)),
        ["found counter-order: CNTVCT_EL0 was 0x3e8, is 0x3e7: time went backwards"]
    );
    let found = judge_alone(|now| {
        now.counter_order.backward = 2;
        now.counter_order.max_backward_ticks = 70;
    });
    assert!(found[0].contains("2 of 400 values"), "{found:?}");
}

#[test]
fn another_zva_block_is_found() {
    assert_eq!(
        judge_alone(|now| now.zva_bytes = Some(256)),
        [
            "found zva-block: DCZID_EL0 of CPU 0 states 64 bytes, and `DC ZVA` clears 256; \
          DCZID_EL0 of CPU 1 states 64 bytes, and `DC ZVA` clears 256: programs and the kernel \
          clear other memory than they mean"
        ]
    );
    // The register and the instruction agree, but the guest began with another block.
    let found = judge_change(|now| {
        now.zva_bytes = Some(128);
        for cpu in &mut now.cpus {
            cpu.dczid = Hexadecimal(5);
        }
    });
    assert!(found[0].contains("`DC ZVA` cleared 64 bytes, clears 128"));
}

#[test]
fn a_missing_vector_length_is_found_without_a_record() {
    let change = |now: &mut GuestState| {
        now.vector_lengths[1].rdvl = 16;
        now.vector_lengths[1].stored = 16;
        now.vector_lengths[1].signal = Some(9);
    };
    assert_eq!(
        judge_alone(change),
        [
            "found vector-lengths: the kernel's length of 256 bits is 128 by RDVL and 128 by a \
          store; signal 9 ended a process with 256 bits: programs with vectors compute wrong \
          results, and Linux ends them"
        ]
    );
    let found = judge_change(|now| now.vector_lengths.truncate(1));
    assert!(found[0].contains("lengths were 128, 256 bits, are 128"));
}

#[test]
fn extreme_values_are_judged() {
    let mut before = state();
    before.vector_lengths[1].kernel = u32::MAX;
    let mut now = state();
    now.vector_lengths[0].stored = u32::MAX;
    now.cpus.truncate(1);
    now.cpus[0].counter_frequency = u64::MAX;
    now.kernel_frequency = Some(FrequencyMeasurement {
        hertz: 1,
        uncertainty: u64::MAX,
    });
    now.clock_rate = Some(RateMeasurement {
        millionths: u64::MAX,
        uncertainty: u64::MAX,
    });
    let found = findings(&judge(&now, Some(&before)));
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("was 62500000 Hz, is 18446744073709551615 Hz"));
    assert!(found[1].starts_with("unknown clock-rate"));
    assert!(
        found[2].contains("34359738360 by a store") && found[2].contains("128, 34359738360 bits"),
        "{found:?}"
    );
}

#[test]
fn old_code_is_found() {
    let found = judge_alone(|now| {
        if let Some(code) = &mut now.code {
            code.protected.stale = 955;
            code.signal = Some(4);
        }
    });
    assert_eq!(
        found,
        [
            "found code-coherence: 955 of 1000 new executable pages executed old code; signal 4 \
          ended patched code: the CPU needs cache maintenance that programs and the kernel omit"
        ]
    );
    let found = judge_alone(|now| {
        if let Some(code) = &mut now.code {
            code.maintained.stale = 1;
        }
    });
    assert!(found[0].starts_with("found code-coherence: 1 of 4000 patches"));
}

#[test]
fn another_cache_type_is_found() {
    let found = judge_change(|now| now.cpus[1].ctr = Hexadecimal(0xb444_c004));
    assert_eq!(
        found,
        [
            "found cache-type: CTR_EL0 of CPU 1 was 0x8444c004, is 0xb444c004; CTR_EL0 is \
          0x8444c004 on CPU 0, 0xb444c004 on CPU 1: the kernel chose its cache maintenance at \
          boot, by the value of that time"
        ]
    );
}

#[test]
fn missing_instructions_are_found() {
    let found = judge_alone(|now| now.features[0].is_executed = false);
    assert_eq!(
        found,
        [
            "found features: the CPU does not execute atomics: programs that use HWCAP end with \
          SIGILL"
        ]
    );
}

#[test]
fn a_feature_without_a_result_is_unknown() {
    let change = |now: &mut GuestState| {
        now.unobserved.push(Unobserved {
            check: CheckName::Features,
            is_absent: false,
            reason: "signal 9 ended the execution of sve".to_owned(),
        });
    };
    assert_eq!(
        judge_alone(change),
        ["unknown features: signal 9 ended the execution of sve"]
    );
    let found = judge_alone(|now| {
        change(now);
        now.features[0].is_executed = false;
    });
    assert!(found[0].starts_with("found features: the CPU does not execute atomics"));
}

#[test]
fn id_registers_contradict_hwcap() {
    let found = judge_alone(|now| {
        now.id_registers
            .insert("ID_AA64ISAR0_EL1".to_owned(), Hexadecimal(0x10_0000));
    });
    assert!(
        found[0].contains("HWCAP states atomics, and ID_AA64ISAR0_EL1 is 0x100000"),
        "{found:?}"
    );
    let found = judge_change(|now| now.hwcap2 = Hexadecimal(2));
    assert!(found[0].contains("HWCAP2 was 0x0, is 0x2"), "{found:?}");
}

#[test]
fn another_cpu_is_found_without_a_record() {
    let found = judge_alone(|now| now.cpus[0].midr = Some(Hexadecimal(0x410f_d400)));
    assert_eq!(
        found,
        [
            "found cpu-identity: MIDR_EL1 of CPU 0 was 0x413fd0c1 at boot, is 0x410fd400: the \
          kernel chose its workarounds at boot, for another CPU"
        ]
    );
    let found = judge_change(|now| {
        now.cpus[1].midr = Some(Hexadecimal(0x410f_d400));
        now.cpus[1].kernel_midr = None;
    });
    assert!(found[0].contains("MIDR_EL1 of CPU 1 was 0x413fd0c1, is 0x410fd400"));
}

#[test]
fn another_revision_is_found_with_a_record_only() {
    let change = |now: &mut GuestState| now.cpus[1].kernel_revidr = Some(Hexadecimal(0x180));
    assert_eq!(judge_alone(change), Vec::<String>::new());
    assert_eq!(
        judge_change(change),
        [
            "found cpu-identity: REVIDR_EL1 of CPU 1 was 0x181, is 0x180 since the CPU came online \
          again: the kernel chose its workarounds at boot, for another CPU"
        ]
    );
    let without = judge_change(|now| now.cpus[1].kernel_revidr = None);
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn a_record_of_another_boot_is_not_compared() {
    let found = judge_change(|now| {
        now.boot_id = "77aa".to_owned();
        now.counter = Hexadecimal(1);
        now.hwcap2 = Hexadecimal(2);
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("unknown boot: "));
}

#[test]
fn unobserved_subjects_are_absent_or_unknown() {
    let judge_without = |is_absent| {
        let mut now = state();
        now.vector_lengths.clear();
        now.code = None;
        for check in [CheckName::VectorLengths, CheckName::CodeCoherence] {
            now.unobserved.push(Unobserved {
                check,
                is_absent,
                reason: "the reason".to_owned(),
            });
        }
        judge(&now, None)
    };
    assert_eq!(
        CheckResult::of_all(&judge_without(true)),
        CheckResult::Unchanged
    );
    assert_eq!(
        findings(&judge_without(false)),
        [
            "unknown vector-lengths: the reason",
            "unknown code-coherence: the reason"
        ]
    );
}

#[test]
fn a_watch_adds_its_observations() {
    let now = state();
    let mut checks = judge(&now, Some(&now));
    let change = RegisterChange {
        check: CheckName::CounterFrequency,
        register: "CNTFRQ_EL0".to_owned(),
        sample: 7,
        cpu: 1,
        before: Hexadecimal(2),
        after: Hexadecimal(3),
    };
    let watch = WatchState {
        samples: 9,
        changed_signatures: Some(2),
        changes: vec![change],
        counter_order: CounterOrder {
            compared: 9,
            backward: 1,
            max_backward_ticks: 5,
        },
        ..WatchState::default()
    };
    judge_watch(&mut checks, &watch);
    let found = findings(&checks);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(
        found[0],
        "found counter-frequency: CNTFRQ_EL0 on CPU 1: 0x2 -> 0x3 in sample 7"
    );
    assert!(found[1].contains("1 of 9 values of CNTVCT_EL0"));
    assert!(found[2].contains("other signatures in 2 of 9 samples"));

    let mut checks = judge(&now, Some(&now));
    judge_watch(&mut checks, &WatchState::default());
    assert_eq!(findings(&checks), Vec::<String>::new());
}
