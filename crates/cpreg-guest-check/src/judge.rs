//! Judgement of a state: by itself, and against an earlier one.
//!
//! A state contradicts itself if the machine is not the one on which the kernel booted. So most
//! checks find a difference without a record.

use crate::check::{Check, CheckName, CheckResult};
use crate::feature::FEATURES;
use crate::state::{
    CodeState, CpuState, GuestState, Hexadecimal, RegisterChange, StaleCount, VectorLength,
    WatchState,
};

/// Greatest difference of two rates that counts as equal, in millionths. Frequencies of known
/// machines differ by 4 % or more (24 and 25 MHz).
const RATE_TOLERANCE: u64 = 10_000;
/// Mask of DCZID_EL0: block size (BS) and prohibition (DZP).
const DCZID_MASK: u64 = 0x1f;
/// Bit of DCZID_EL0 that prohibits `DC ZVA`.
const DCZID_DZP: u64 = 1 << 4;

/// Judges a state, against an earlier one if there is one.
pub fn judge(now: &GuestState, before: Option<&GuestState>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut same_boot = None;
    if let Some(before) = before {
        let is_same = before.boot_id == now.boot_id;
        checks.push(judge_boot(is_same));
        same_boot = is_same.then_some(before);
    }
    checks.extend([
        judge_frequency(now, same_boot),
        judge_clock_rate(now),
        judge_order(now, same_boot),
        judge_zva(now, same_boot),
        judge_vector_lengths(now, same_boot),
        judge_code(now),
        judge_cache_type(now, same_boot),
        judge_features(now),
        judge_id_registers(now, same_boot),
        judge_identity(now, same_boot),
    ]);
    checks
}

/// Adds the observations during a move to the checks of the state after it.
pub fn judge_watch(checks: &mut Vec<Check>, watch: &WatchState) {
    for change in &watch.changes {
        let reason = describe_change(change);
        set_found(checks, change.check, reason);
    }
    let order = watch.counter_order;
    if order.backward > 0 {
        let reason = format!(
            "{} of {} values of CNTVCT_EL0 during the watch were lower than the value before, by \
             up to {} ticks: time went backwards",
            order.backward, order.compared, order.max_backward_ticks
        );
        set_found(checks, CheckName::CounterOrder, reason);
    }
    let signatures = match watch.changed_signatures {
        None => Check::new(
            CheckName::PointerSignatures,
            CheckResult::Absent,
            "no pointer authentication (HWCAP)",
        ),
        Some(0) => Check::new(
            CheckName::PointerSignatures,
            CheckResult::Unchanged,
            format!("the same in {} samples", watch.samples),
        ),
        Some(count) => Check::new(
            CheckName::PointerSignatures,
            CheckResult::Found,
            format!(
                "other signatures in {count} of {} samples: keys or algorithm changed, and signed \
                 return addresses fail",
                watch.samples
            ),
        ),
    };
    checks.push(signatures);
}

/// Marks a check as a difference that was found.
fn set_found(checks: &mut [Check], name: CheckName, reason: String) {
    if let Some(check) = checks.iter_mut().find(|check| check.name == name) {
        if check.result == CheckResult::Found {
            check.reason = format!("{}; {reason}", check.reason);
        } else {
            check.result = CheckResult::Found;
            check.reason = reason;
        }
    }
}

fn describe_change(change: &RegisterChange) -> String {
    format!(
        "{} on CPU {}: {} -> {} in sample {}",
        change.register, change.cpu, change.before, change.after, change.sample
    )
}

fn judge_boot(is_same: bool) -> Check {
    if is_same {
        Check::new(
            CheckName::Boot,
            CheckResult::Unchanged,
            "the record is of this boot",
        )
    } else {
        Check::new(
            CheckName::Boot,
            CheckResult::Unknown,
            "the record is of another boot: the guest was restarted, so no value of the record is \
             compared",
        )
    }
}

/// Returns the check of an unobserved subject.
fn judge_unobserved(now: &GuestState, name: CheckName) -> Option<Check> {
    let unobserved = now.unobserved.iter().find(|it| it.check == name)?;
    let result = if unobserved.is_absent {
        CheckResult::Absent
    } else {
        CheckResult::Unknown
    };
    Some(Check::new(name, result, &*unobserved.reason))
}

/// Collects the differences that a check finds.
struct Differences {
    name: CheckName,
    found: Vec<String>,
}

impl Differences {
    fn new(name: CheckName) -> Self {
        Self {
            name,
            found: Vec::new(),
        }
    }

    fn add(&mut self, difference: String) {
        self.found.push(difference);
    }

    /// Returns the check as [`Self::into_check`] does. Without a difference, an unobserved subject
    /// is absent or unknown.
    fn into_observed_check(
        self,
        now: &GuestState,
        effect: &str,
        unchanged: impl FnOnce() -> String,
    ) -> Check {
        let unobserved = judge_unobserved(now, self.name).filter(|_| self.found.is_empty());
        unobserved.unwrap_or_else(|| self.into_check(effect, unchanged))
    }

    /// Returns the check; `unchanged` is the reason if there is no difference, `effect` the effect
    /// of a difference.
    fn into_check(self, effect: &str, unchanged: impl FnOnce() -> String) -> Check {
        if self.found.is_empty() {
            Check::new(self.name, CheckResult::Unchanged, unchanged())
        } else {
            let reason = format!("{}: {effect}", self.found.join("; "));
            Check::new(self.name, CheckResult::Found, reason)
        }
    }
}

/// Returns pairs of a CPU's registers after and before the move.
fn pair_cpus<'a>(
    now: &'a GuestState,
    before: Option<&'a GuestState>,
) -> impl Iterator<Item = (&'a CpuState, &'a CpuState)> {
    let before = before.into_iter().flat_map(|before| &before.cpus);
    before.filter_map(|earlier| {
        let cpu = now.cpus.iter().find(|cpu| cpu.cpu == earlier.cpu)?;
        Some((cpu, earlier))
    })
}

/// Adds a difference for each CPU whose register is not the one of the record.
fn compare_register(
    differences: &mut Differences,
    register: &str,
    now: &GuestState,
    before: Option<&GuestState>,
    value: impl Fn(&CpuState) -> u64,
) {
    for (cpu, earlier) in pair_cpus(now, before) {
        let (new, old) = (value(cpu), value(earlier));
        if new != old {
            differences.add(format!(
                "{register} of CPU {} was {old:#x}, is {new:#x}",
                cpu.cpu
            ));
        }
    }
}

fn judge_frequency(now: &GuestState, before: Option<&GuestState>) -> Check {
    let name = CheckName::CounterFrequency;
    let mut differences = Differences::new(name);
    for (cpu, earlier) in pair_cpus(now, before) {
        if cpu.counter_frequency != earlier.counter_frequency {
            differences.add(format!(
                "CNTFRQ_EL0 of CPU {} was {} Hz, is {} Hz",
                cpu.cpu, earlier.counter_frequency, cpu.counter_frequency
            ));
        }
    }
    let mut is_imprecise = false;
    if let Some(kernel) = now.kernel_frequency {
        for cpu in &now.cpus {
            let tolerance = cpu.counter_frequency.saturating_mul(RATE_TOLERANCE) / 1_000_000;
            let difference = cpu.counter_frequency.abs_diff(kernel.hertz);
            if difference > tolerance.saturating_add(kernel.uncertainty) {
                differences.add(format!(
                    "CNTFRQ_EL0 of CPU {} is {} Hz, and the kernel computes time with {} Hz",
                    cpu.cpu, cpu.counter_frequency, kernel.hertz
                ));
            }
            is_imprecise |= kernel.uncertainty > tolerance;
        }
    }
    if differences.found.is_empty() {
        if let Some(check) = judge_unobserved(now, name) {
            return check;
        }
        if is_imprecise {
            let reason = "the guest was too slow for a measurement; repeat it";
            return Check::new(name, CheckResult::Unknown, reason);
        }
    }
    differences.into_check(
        "time runs at the ratio of the frequencies, until the guest is restarted",
        || {
            let frequency = now.cpus.first().map_or(0, |cpu| cpu.counter_frequency);
            format!("{frequency} Hz, as in the kernel's clock")
        },
    )
}

fn judge_clock_rate(now: &GuestState) -> Check {
    let name = CheckName::ClockRate;
    let Some(rate) = now.clock_rate else {
        return judge_unobserved(now, name)
            .unwrap_or_else(|| Check::new(name, CheckResult::Unknown, "not measured"));
    };
    let difference = rate.millionths.abs_diff(1_000_000);
    let text = format!(
        "a second of the real-time clock is {} ± {} ms of the kernel's clock",
        thousandths(rate.millionths),
        thousandths(rate.uncertainty)
    );
    if difference > rate.uncertainty.saturating_add(RATE_TOLERANCE) {
        let reason = format!("{text}: the guest's time runs at a wrong rate");
        Check::new(name, CheckResult::Found, reason)
    } else if rate.uncertainty > RATE_TOLERANCE {
        let reason = format!("{text}: the guest was too slow for a measurement; repeat it");
        Check::new(name, CheckResult::Unknown, reason)
    } else {
        Check::new(name, CheckResult::Unchanged, text)
    }
}

/// Formats a number of thousandths as a decimal fraction.
fn thousandths(value: u64) -> String {
    format!("{}.{:03}", value / 1000, value % 1000)
}

fn judge_order(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::CounterOrder);
    let order = now.counter_order;
    if order.backward > 0 {
        differences.add(format!(
            "{} of {} values of CNTVCT_EL0 were lower than the value that a CPU read before, by up \
             to {} ticks",
            order.backward, order.compared, order.max_backward_ticks
        ));
    }
    if let Some(before) = before
        && now.counter < before.counter
    {
        differences.add(format!(
            "CNTVCT_EL0 was {}, is {}",
            before.counter, now.counter
        ));
    }
    differences.into_check("time went backwards", || {
        format!(
            "no value of {} is lower than the value before",
            order.compared
        )
    })
}

fn judge_zva(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::ZvaBlock);
    compare_register(&mut differences, "DCZID_EL0", now, before, |cpu| {
        cpu.dczid.0 & DCZID_MASK
    });
    if let (Some(old), Some(new)) = (before.and_then(|before| before.zva_bytes), now.zva_bytes)
        && old != new
    {
        differences.add(format!("`DC ZVA` cleared {old} bytes, clears {new}"));
    }
    if let Some(bytes) = now.zva_bytes {
        for cpu in &now.cpus {
            let stated = 4_u32 << (cpu.dczid.0 & 0xf);
            if cpu.dczid.0 & DCZID_DZP == 0 && stated != bytes {
                differences.add(format!(
                    "DCZID_EL0 of CPU {} states {stated} bytes, and `DC ZVA` clears {bytes}",
                    cpu.cpu
                ));
            }
        }
    }
    differences.into_observed_check(
        now,
        "programs and the kernel clear other memory than they mean",
        || match now.zva_bytes {
            Some(bytes) => format!("`DC ZVA` clears {bytes} bytes, as DCZID_EL0 states"),
            None => "prohibited".to_owned(),
        },
    )
}

/// Returns a number of bits; a record can hold any number of bytes.
fn bits(bytes: u32) -> u64 {
    u64::from(bytes) * 8
}

fn judge_vector_lengths(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::VectorLengths);
    for length in &now.vector_lengths {
        if length.rdvl != length.kernel || length.stored != length.kernel {
            differences.add(format!(
                "the kernel's length of {} bits is {} by RDVL and {} by a store",
                bits(length.kernel),
                bits(length.rdvl),
                bits(length.stored)
            ));
        }
        if let Some(signal) = length.signal {
            differences.add(format!(
                "signal {signal} ended a process with {} bits",
                bits(length.kernel)
            ));
        }
    }
    let list = |lengths: &[VectorLength]| {
        let texts = lengths.iter().map(|length| bits(length.kernel).to_string());
        texts.collect::<Vec<_>>().join(", ")
    };
    let kernel = |lengths: &[VectorLength]| {
        let lengths = lengths.iter().map(|length| length.kernel);
        lengths.collect::<Vec<_>>()
    };
    if let Some(before) = before
        && kernel(&before.vector_lengths) != kernel(&now.vector_lengths)
    {
        differences.add(format!(
            "the kernel's lengths were {} bits, are {}",
            list(&before.vector_lengths),
            list(&now.vector_lengths)
        ));
    }
    differences.into_observed_check(
        now,
        "programs with vectors compute wrong results, and Linux ends them",
        || format!("{} bits", list(&now.vector_lengths)),
    )
}

fn judge_code(now: &GuestState) -> Check {
    let name = CheckName::CodeCoherence;
    let Some(code) = now.code else {
        return judge_unobserved(now, name)
            .unwrap_or_else(|| Check::new(name, CheckResult::Unknown, "not observed"));
    };
    let CodeState {
        maintained,
        protected,
        unmaintained,
        signal,
    } = code;
    let mut differences = Differences::new(name);
    let mut add = |count: StaleCount, kind: &str| {
        if count.stale > 0 {
            differences.add(format!(
                "{} of {} {kind} executed old code",
                count.stale, count.rounds
            ));
        }
    };
    add(maintained, "patches with the maintenance of CTR_EL0");
    add(protected, "new executable pages");
    if let Some(signal) = signal {
        differences.add(format!("signal {signal} ended patched code"));
    }
    differences.into_check(
        "the CPU needs cache maintenance that programs and the kernel omit",
        || {
            format!(
                "no old code in {} patches and {} pages ({} of {} without maintenance)",
                maintained.rounds, protected.rounds, unmaintained.stale, unmaintained.rounds
            )
        },
    )
}

fn judge_cache_type(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::CacheType);
    compare_register(&mut differences, "CTR_EL0", now, before, |cpu| cpu.ctr.0);
    let first = now.cpus.first();
    if let Some(first) = first {
        for cpu in now.cpus.iter().filter(|cpu| cpu.ctr != first.ctr) {
            differences.add(format!(
                "CTR_EL0 is {} on CPU {}, {} on CPU {}",
                first.ctr, first.cpu, cpu.ctr, cpu.cpu
            ));
        }
    }
    differences.into_check(
        "the kernel chose its cache maintenance at boot, by the value of that time",
        || {
            let value = first.map_or(Hexadecimal(0), |cpu| cpu.ctr);
            format!("CTR_EL0 is {value}")
        },
    )
}

fn judge_features(now: &GuestState) -> Check {
    let missing: Vec<_> = now.features.iter().filter(|it| !it.is_executed).collect();
    let mut differences = Differences::new(CheckName::Features);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|it| it.name.as_str()).collect();
        differences.add(format!("the CPU does not execute {}", names.join(", ")));
    }
    differences.into_observed_check(now, "programs that use HWCAP end with SIGILL", || {
        format!("the CPU executes {} features of HWCAP", now.features.len())
    })
}

fn judge_id_registers(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::IdRegisters);
    if let Some(before) = before {
        for (word, old, new) in [
            ("HWCAP", before.hwcap, now.hwcap),
            ("HWCAP2", before.hwcap2, now.hwcap2),
        ] {
            if old != new {
                differences.add(format!("{word} was {old}, is {new}"));
            }
        }
        for (register, old) in &before.id_registers {
            if let Some(new) = now.id_registers.get(register)
                && new != old
            {
                differences.add(format!("{register} was {old}, is {new}"));
            }
        }
    }
    for feature in FEATURES {
        let Some(field) = feature.field else {
            continue;
        };
        let Some(register) = now.id_registers.get(field.register) else {
            continue;
        };
        if feature.is_stated(now.hwcap.0, now.hwcap2.0) && !field.has_feature(register.0) {
            differences.add(format!(
                "HWCAP states {}, and {} is {register}",
                feature.name, field.register
            ));
        }
    }
    differences.into_observed_check(
        now,
        "programs choose instructions by contradictory values",
        || format!("{} registers agree with HWCAP", now.id_registers.len()),
    )
}

fn judge_identity(now: &GuestState, before: Option<&GuestState>) -> Check {
    let mut differences = Differences::new(CheckName::CpuIdentity);
    for cpu in &now.cpus {
        if let (Some(read), Some(kernel)) = (cpu.midr, cpu.kernel_midr)
            && read != kernel
        {
            differences.add(format!(
                "MIDR_EL1 of CPU {} was {kernel} at boot, is {read}",
                cpu.cpu
            ));
        }
    }
    for (cpu, earlier) in pair_cpus(now, before) {
        if let (Some(new), Some(old)) = (cpu.midr, earlier.midr)
            && new != old
            && cpu.kernel_midr.is_none()
        {
            differences.add(format!("MIDR_EL1 of CPU {} was {old}, is {new}", cpu.cpu));
        }
        // Linux emulates a program's read of REVIDR_EL1 as 0. So only values of the kernel are
        // compared, which reads the register when a CPU comes online.
        if let (Some(new), Some(old)) = (cpu.kernel_revidr, earlier.kernel_revidr)
            && new != old
        {
            differences.add(format!(
                "REVIDR_EL1 of CPU {} was {old}, is {new} since the CPU came online again",
                cpu.cpu
            ));
        }
    }
    differences.into_observed_check(
        now,
        "the kernel chose its workarounds at boot, for another CPU",
        || {
            let midr = now.cpus.first().and_then(|cpu| cpu.midr);
            midr.map_or_else(String::new, |midr| {
                format!("MIDR_EL1 is {midr}, as at boot")
            })
        },
    )
}

#[cfg(test)]
mod tests;
