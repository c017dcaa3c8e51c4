//! Observation of the guest's machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;

use crate::check::CheckName;
use crate::clock::{self, RateError};
use crate::code::observe_code;
use crate::error::Error;
use crate::execution::{Execution, ExecutionEnd, execute_features};
use crate::feature::{FEATURES, HWCAP_CPUID, HWCAP_SVE};
use crate::instructions::{
    AlignedBuffer, BUFFER_LEN, execute, read_counter, read_counter_frequency, read_ctr, read_dczid,
    read_id_registers, read_midr, read_vector_length, store_vector, zero_block,
};
use crate::state::{CounterOrder, CpuState, GuestState, Hexadecimal, Unobserved, VectorLength};
use crate::system::{CpuSet, pin, read_hwcaps, run_in_child, set_vector_length};

/// Number of turns over all CPUs with a reading of the counter.
const COUNTER_TURNS: usize = 200;
/// Greatest vector length of the architecture, in bytes.
const MAX_VECTOR_LEN: u32 = 256;
/// Bytes between two vector lengths.
const VECTOR_LEN_STEP: u32 = 16;
/// Bit of DCZID_EL0 that prohibits `DC ZVA`.
const DCZID_DZP: u64 = 1 << 4;
/// Byte that a stored vector holds.
const VECTOR_BYTE: u8 = 0x55;
/// Value of memory before an instruction clears it.
const FILLED_BYTE: u8 = 0xaa;

/// Observes everything.
///
/// # Errors
/// Returns an error if Linux lacks `/proc`, or refuses a call that every program may make.
pub(crate) fn observe() -> Result<GuestState, Error> {
    let cpu_set = CpuSet::of_thread().map_err(|error| Error::io("sched_getaffinity", error))?;
    let numbers = cpu_set.list();
    let (hwcap, hwcap2) = read_hwcaps();
    let has_cpuid = hwcap & HWCAP_CPUID != 0;
    let mut unobserved = Vec::new();
    let mut note = |check, is_absent, reason: &str| {
        unobserved.push(Unobserved {
            check,
            is_absent,
            reason: reason.to_owned(),
        });
    };
    let mut cpus = Vec::new();
    for cpu in &numbers {
        pin(*cpu).map_err(|error| Error::io("sched_setaffinity", error))?;
        cpus.push(read_cpu(*cpu, has_cpuid));
    }
    let (counter_order, counter) =
        observe_order(&numbers).map_err(|error| Error::io("sched_setaffinity", error))?;
    cpu_set
        .apply()
        .map_err(|error| Error::io("sched_setaffinity", error))?;

    let kernel_frequency = clock::measure_frequency();
    if kernel_frequency.is_none() {
        let reason = "the kernel's clock did not advance";
        note(CheckName::CounterFrequency, false, reason);
    }
    let clock_rate = match clock::measure_rate() {
        Ok(rate) => Some(rate),
        Err(RateError::NoClock) => {
            note(
                CheckName::ClockRate,
                true,
                "the guest has no real-time clock (rtc0)",
            );
            None
        }
        Err(RateError::Timeout) => {
            let reason = "the real-time clock did not advance for a minute";
            note(CheckName::ClockRate, false, reason);
            None
        }
    };
    let zva_bytes = if cpus.iter().any(|cpu| cpu.dczid.0 & DCZID_DZP != 0) {
        note(CheckName::ZvaBlock, true, "DCZID_EL0 prohibits `DC ZVA`");
        None
    } else {
        Some(count_zeroed())
    };
    let vector_lengths = if hwcap & HWCAP_SVE == 0 {
        note(CheckName::VectorLengths, true, "no SVE (HWCAP)");
        Vec::new()
    } else {
        observe_vector_lengths().map_err(|error| Error::io("fork", error))?
    };
    if hwcap & HWCAP_SVE != 0 && vector_lengths.is_empty() {
        let reason = "the kernel refused every vector length";
        note(CheckName::VectorLengths, false, reason);
    }
    if !has_cpuid {
        let reason = "the kernel does not emulate reads of ID registers (HWCAP_CPUID)";
        note(CheckName::IdRegisters, true, reason);
        note(CheckName::CpuIdentity, true, reason);
    }
    let execution = observe_features(hwcap, hwcap2).map_err(|error| Error::io("fork", error))?;
    if !execution.failures.is_empty() {
        note(CheckName::Features, false, &execution.failures.join("; "));
    }
    let code = match observe_code(&numbers) {
        Ok(code) => Some(code),
        Err(error) => {
            let reason = format!("no executable memory: {error}");
            note(CheckName::CodeCoherence, false, &reason);
            None
        }
    };
    Ok(GuestState {
        boot_id: read_text("/proc/sys/kernel/random/boot_id")?,
        kernel_release: read_text("/proc/sys/kernel/osrelease")?,
        counter: Hexadecimal(counter),
        cpus,
        kernel_frequency,
        clock_rate,
        counter_order,
        zva_bytes,
        vector_lengths,
        hwcap: Hexadecimal(hwcap),
        hwcap2: Hexadecimal(hwcap2),
        id_registers: observe_id_registers(has_cpuid),
        features: execution.states,
        code,
        unobserved,
    })
}

/// Reads the ID registers that the kernel emulates; none without HWCAP_CPUID.
fn observe_id_registers(has_cpuid: bool) -> BTreeMap<String, Hexadecimal> {
    let registers = if has_cpuid {
        read_id_registers()
    } else {
        Vec::new()
    };
    let registers = registers.into_iter();
    registers
        .map(|(name, value)| (name.to_owned(), Hexadecimal(value)))
        .collect()
}

fn read_text(path: &str) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    Ok(text.trim().to_owned())
}

/// Reads the registers of the CPU to which the thread is pinned.
pub(crate) fn read_cpu(cpu: u32, has_cpuid: bool) -> CpuState {
    let kernel = |name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/regs/identification/{name}");
        let text = fs::read_to_string(path).ok()?;
        Hexadecimal::try_from(text.trim().to_owned()).ok()
    };
    CpuState {
        cpu,
        counter_frequency: read_counter_frequency(),
        ctr: Hexadecimal(read_ctr()),
        dczid: Hexadecimal(read_dczid()),
        midr: has_cpuid.then(|| Hexadecimal(read_midr())),
        kernel_midr: kernel("midr_el1"),
        kernel_revidr: kernel("revidr_el1"),
    }
}

/// Reads the counter on all CPUs in turn. Returns the order of the values, and the last one.
fn observe_order(cpus: &[u32]) -> io::Result<(CounterOrder, u64)> {
    let mut order = CounterOrder::default();
    let mut last = read_counter();
    for cpu in cpus.iter().cycle().take(cpus.len() * COUNTER_TURNS) {
        pin(*cpu)?;
        add_counter(&mut order, &mut last, read_counter());
    }
    Ok((order, last))
}

/// Adds a value of the counter to the order.
pub(crate) fn add_counter(order: &mut CounterOrder, last: &mut u64, value: u64) {
    order.compared += 1;
    if value < *last {
        order.backward += 1;
        order.max_backward_ticks = order.max_backward_ticks.max(*last - value);
    }
    *last = value;
}

/// Returns the number of bytes that one `DC ZVA` clears.
fn count_zeroed() -> u32 {
    let mut buffer = Box::new([FILLED_BYTE; 16384]);
    zero_block(&mut buffer);
    count_bytes(buffer.as_slice(), 0)
}

/// Returns the number of bytes with this value.
fn count_bytes(bytes: &[u8], value: u8) -> u32 {
    bytes.iter().map(|byte| u32::from(*byte == value)).sum()
}

/// Sets each vector length that the kernel offers, and observes the CPU's length.
///
/// A child process has each length, because Linux ends a process if the CPU lacks the length that
/// the kernel set. The child stores the values before Linux can end it, unless the scheduler
/// preempts it first.
fn observe_vector_lengths() -> io::Result<Vec<VectorLength>> {
    let mut lengths = Vec::new();
    for bytes in (VECTOR_LEN_STEP..=MAX_VECTOR_LEN).step_by(VECTOR_LEN_STEP as usize) {
        let end = run_in_child(|values| {
            // The kernel sets the next lower length if it lacks this one.
            if set_vector_length(bytes).ok() != Some(bytes) {
                return;
            }
            values[0].store(1, Ordering::SeqCst);
            let mut buffer = [FILLED_BYTE; BUFFER_LEN];
            store_vector(&mut buffer);
            values[1].store(read_vector_length(), Ordering::SeqCst);
            let stored = count_bytes(&buffer, VECTOR_BYTE);
            values[2].store(u64::from(stored), Ordering::SeqCst);
        })?;
        let [is_offered, rdvl, stored, ..] = end.values;
        if is_offered != 0 {
            lengths.push(VectorLength {
                kernel: bytes,
                rdvl: u32::try_from(rdvl).unwrap_or(u32::MAX),
                stored: u32::try_from(stored).unwrap_or(u32::MAX),
                signal: end.signal,
            });
        }
    }
    Ok(lengths)
}

/// Executes an instruction of each feature that HWCAP states.
fn observe_features(hwcap: u64, hwcap2: u64) -> io::Result<Execution> {
    let stated: Vec<_> = FEATURES
        .iter()
        .filter(|feature| feature.is_stated(hwcap, hwcap2))
        .collect();
    execute_features(&stated, |rest| {
        // A child executes the instructions until one raises a signal.
        let end = run_in_child(|values| {
            let mut buffer = AlignedBuffer([0; BUFFER_LEN]);
            for feature in rest {
                execute(feature.instruction, &mut buffer);
                values[0].fetch_add(1, Ordering::SeqCst);
            }
        })?;
        Ok(ExecutionEnd {
            executed: usize::try_from(end.values[0]).unwrap_or(0),
            signal: end.signal,
        })
    })
}
