//! Lines for people and scripts, and what is seen of a guest for a while.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use cpreg_vmm::report::{Progress, ReportDevice};

/// Says a line on standard output.
pub(crate) fn print_line(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    // Nobody may be listening any more; the guest's fate must not hang on that.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Whether the guest uses the physical timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhysicalTimer {
    /// It does, so that it must get interrupts of it.
    Used,
    /// It was told to leave it alone.
    Unused,
    /// It came from elsewhere: it does if it ever got an interrupt of it.
    Unknown,
}

/// How often it is looked whether the guest goes on, and how it is is said.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// For how long beyond its time a guest of so many vCPUs is waited for that does not go on. On a busy or emulated machine vCPUs take turns of which each
/// may take seconds; one that is stuck is stuck for ever.
fn stall_timeout(time: Duration, vcpus: usize) -> Duration {
    let turns = u32::try_from(vcpus).unwrap_or(u32::MAX);
    time.saturating_mul(5)
        .saturating_add(Duration::from_secs(10).saturating_mul(turns))
}

/// Watches the guest for so long, and for longer while it has not shown yet that it goes on, and says each second how it is: the vCPU that is behind all
/// others. Whether it is well: nothing lost, and each vCPU made rounds and took interrupts of its timers.
pub(crate) fn watch(report: &ReportDevice, time: Duration, timer: PhysicalTimer) -> bool {
    // A guest that came has not said anything here yet: what it says first is what it goes on from.
    let mut before = report.progress();
    let mut is_well = true;
    let began = Instant::now();
    let most = time.saturating_add(stall_timeout(time, before.len()));
    loop {
        let left = time.saturating_sub(began.elapsed());
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
        let least = |of: fn(&Progress) -> u64| vcpus.iter().map(of).min().unwrap_or_default();
        print_line(format_args!(
            "guest: {} rounds, timers v {} p {}, registers {}",
            least(|it| it.rounds),
            least(|it| it.virtual_ticks),
            least(|it| it.physical_ticks),
            if is_well { "intact" } else { "lost" }
        ));
        let elapsed = began.elapsed();
        let pairs = before.iter().zip(&vcpus);
        let stuck = pairs.enumerate().flat_map(|(number, (before, now))| {
            let stuck = stall_reasons(*before, *now, timer);
            stuck.map(move |what| format!("guest: vCPU {number} {what}"))
        });
        let stuck: Vec<_> = stuck.collect();
        if elapsed >= time && (!is_well || stuck.is_empty() || elapsed >= most) {
            for line in &stuck {
                print_line(line);
            }
            return is_well && stuck.is_empty();
        }
        for (before, now) in before.iter_mut().zip(&vcpus) {
            if before.rounds == 0 {
                *before = *now;
            }
        }
    }
}

/// What a vCPU did not do since.
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
    let stands = [
        // Its first word alone does not show that it goes on.
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
    let stands = stands.into_iter().filter(|(stands, _)| *stands);
    stands.map(|(_, what)| what)
}
