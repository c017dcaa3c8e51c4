//! Output lines for people and scripts, and observation of a guest.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_vmm::report::{Progress, ReportDevice};

/// Prints a line on standard output.
pub(crate) fn print_line(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    // The reader may have closed the pipe. The guest must not depend on it.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Use of the physical timer by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhysicalTimer {
    /// The guest uses it, so it must take the timer's interrupts.
    Used,
    /// The guest does not touch it.
    Unused,
    /// The guest arrived from another host. It uses the timer if it ever took one of its
    /// interrupts.
    Unknown,
}

/// Time between two status lines of a guest.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the time beyond `time` that a guest of `vcpus` vCPUs gets to make progress.
///
/// On a busy or emulated machine vCPUs take turns, of which each may take seconds. A vCPU that is
/// stuck stays stuck.
fn stall_timeout(time: Duration, vcpus: usize) -> Duration {
    let turns = u32::try_from(vcpus).unwrap_or(u32::MAX);
    time.saturating_mul(5)
        .saturating_add(Duration::from_secs(10).saturating_mul(turns))
}

/// Observes the guest for `time`, and longer until it has made progress. Prints a status line each
/// second, with the figures of the slowest vCPU.
///
/// Returns `true` if the guest lost nothing, and each vCPU made rounds and took interrupts of its
/// timers.
pub(crate) fn watch(report: &ReportDevice, time: Duration, timer: PhysicalTimer) -> bool {
    // A guest that arrived has not reported here yet. Its first report is the baseline.
    let mut before = report.progress();
    let mut is_well = true;
    let start = Instant::now();
    let deadline = time.saturating_add(stall_timeout(time, before.len()));
    loop {
        let left = time.saturating_sub(start.elapsed());
        thread::sleep(if left.is_zero() {
            REPORT_INTERVAL
        } else {
            left.min(REPORT_INTERVAL)
        });
        for finding in report.take_findings() {
            print_line(format_args!("guest: {finding}"));
            is_well &= !finding.is_broken;
        }
        let vcpus = report.progress();
        let min = |of: fn(&Progress) -> u64| vcpus.iter().map(of).min().unwrap_or_default();
        print_line(format_args!(
            "guest: {} rounds, timers v {} p {}, registers {}",
            min(|progress| progress.rounds),
            min(|progress| progress.virtual_ticks),
            min(|progress| progress.physical_ticks),
            if is_well { "intact" } else { "lost" }
        ));
        let elapsed = start.elapsed();
        let pairs = before.iter().zip(&vcpus);
        let stalls = pairs.enumerate().flat_map(|(number, (before, now))| {
            let reasons = stall_reasons(*before, *now, timer);
            reasons.map(move |reason| format!("guest: vCPU {number} {reason}"))
        });
        let stalls: Vec<_> = stalls.collect();
        if elapsed >= time && (!is_well || stalls.is_empty() || elapsed >= deadline) {
            for line in &stalls {
                print_line(line);
            }
            return is_well && stalls.is_empty();
        }
        for (before, now) in before.iter_mut().zip(&vcpus) {
            if before.rounds == 0 {
                *before = *now;
            }
        }
    }
}

/// Returns the kinds of progress that a vCPU did not make since `before`.
fn stall_reasons(
    before: Progress,
    now: Progress,
    timer: PhysicalTimer,
) -> impl Iterator<Item = &'static str> {
    let uses_physical = match timer {
        PhysicalTimer::Used => true,
        PhysicalTimer::Unused => false,
        PhysicalTimer::Unknown => now.physical_ticks != 0,
    };
    let checks = [
        // The first report alone does not show progress.
        (
            before.rounds == 0 || before.rounds == now.rounds,
            "makes no rounds",
        ),
        (
            before.virtual_ticks == now.virtual_ticks,
            "takes no interrupts of CNTV",
        ),
        (
            uses_physical && before.physical_ticks == now.physical_ticks,
            "takes no interrupts of CNTP",
        ),
    ];
    let stalls = checks.into_iter().filter(|(is_stalled, _)| *is_stalled);
    stalls.map(|(_, reason)| reason)
}
