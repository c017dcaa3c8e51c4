//! Observation while the guest is moved.

use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use crate::check::CheckName;
use crate::error::Error;
use crate::feature::{HWCAP_CPUID, HWCAP_PACA};
use crate::instructions::{read_counter, sign};
use crate::observe::{add_counter, read_cpu};
use crate::state::{CpuState, Hexadecimal, RegisterChange, WatchState};
use crate::system::{
    CpuSet, catch_end_signals, is_end_requested, pin, read_hwcaps, read_raw_clock,
    release_end_signals,
};

/// Interval between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(10);
/// Number of changes that are kept.
const MAX_CHANGES: usize = 100;
/// Pointers and modifiers whose signatures are compared.
const POINTERS: [(u64, u64); 4] = [
    (0x0000_7fff_1234_5678, 0),
    (0x0000_0000_0040_0000, 0x5eed),
    (0x0000_5555_aaaa_0000, u64::MAX),
    (0x0000_7000_0000_0008, 0x0123_4567_89ab_cdef),
];

/// Takes samples on all CPUs in turn, until SIGTERM or SIGINT, or for `milliseconds`. A later
/// signal ends the program.
///
/// # Errors
/// Returns an error if Linux refuses to pin the thread.
pub(crate) fn watch(milliseconds: Option<u64>) -> Result<WatchState, Error> {
    let failed = |error| Error::io("sched_setaffinity", error);
    let cpu_set = CpuSet::of_thread().map_err(failed)?;
    let cpus = cpu_set.list();
    let (hwcap, _) = read_hwcaps();
    let has_cpuid = hwcap & HWCAP_CPUID != 0;
    let signatures = (hwcap & HWCAP_PACA != 0).then(sign_all);
    let mut watch = WatchState {
        changed_signatures: signatures.map(|_| 0),
        ..WatchState::default()
    };
    catch_end_signals();
    // A script waits for this line. A failure to write to standard error can be reported nowhere.
    let _ = writeln!(
        io::stderr(),
        "note: watching until SIGTERM, SIGINT or the end of the time"
    );
    let mut first: Vec<CpuState> = Vec::new();
    let start = read_raw_clock();
    let mut previous = start;
    let mut counter = read_counter();
    for (index, cpu) in cpus.iter().cycle().enumerate() {
        pin(*cpu).map_err(failed)?;
        add_counter(&mut watch.counter_order, &mut counter, read_counter());
        let now = read_raw_clock();
        let gap = now.saturating_sub(previous) / 1_000_000;
        watch.max_gap_milliseconds = watch.max_gap_milliseconds.max(gap);
        previous = now;
        watch.samples += 1;
        watch.milliseconds = now.saturating_sub(start) / 1_000_000;
        let state = read_cpu(*cpu, has_cpuid);
        match first.get(index % cpus.len()) {
            None => first.push(state),
            Some(before) => add_changes(&mut watch, before, &state),
        }
        if let (Some(expected), Some(count)) = (signatures, &mut watch.changed_signatures) {
            *count += u64::from(sign_all() != expected);
        }
        let is_over = milliseconds.is_some_and(|limit| watch.milliseconds >= limit);
        if is_over || is_end_requested() {
            break;
        }
        thread::sleep(SAMPLE_INTERVAL);
    }
    release_end_signals();
    cpu_set.apply().map_err(failed)?;
    Ok(watch)
}

fn sign_all() -> [u64; POINTERS.len()] {
    POINTERS.map(|(pointer, modifier)| sign(pointer, modifier))
}

/// Adds the registers whose value is not the one of the first sample, each once.
fn add_changes(watch: &mut WatchState, before: &CpuState, after: &CpuState) {
    let frequency = |cpu: &CpuState| Some(Hexadecimal(cpu.counter_frequency));
    let registers = [
        (
            CheckName::CounterFrequency,
            "CNTFRQ_EL0",
            frequency(before),
            frequency(after),
        ),
        (
            CheckName::CacheType,
            "CTR_EL0",
            Some(before.ctr),
            Some(after.ctr),
        ),
        (
            CheckName::ZvaBlock,
            "DCZID_EL0",
            Some(before.dczid),
            Some(after.dczid),
        ),
        (CheckName::CpuIdentity, "MIDR_EL1", before.midr, after.midr),
    ];
    for (check, register, old, new) in registers {
        let (Some(old), Some(new)) = (old, new) else {
            continue;
        };
        let is_listed = watch.changes.iter().any(|change| {
            change.register == register && change.cpu == after.cpu && change.after == new
        });
        if old != new && !is_listed && watch.changes.len() < MAX_CHANGES {
            watch.changes.push(RegisterChange {
                check,
                register: register.to_owned(),
                sample: watch.samples,
                cpu: after.cpu,
                before: old,
                after: new,
            });
        }
    }
}
