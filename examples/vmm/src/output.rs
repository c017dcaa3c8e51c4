//! Lines for people and scripts, and what is seen of a guest for a while.

use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use cpreg_vmm::report::{Progress, Report};

/// Says a line on standard output.
pub(crate) fn say(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    // Nobody may be listening any more; the guest's fate must not hang on that.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Watches the guest for so long, and says each second how it is: the vCPU that is behind all others. Whether it is well: nothing lost, and each
/// vCPU made rounds and took interrupts of both timers; of the physical one only if it ever did: a guest may be told to leave that alone.
pub(crate) fn watch(report: &Report, time: Duration) -> bool {
    // A guest that came has not said anything here yet: what it says first is what it goes on from.
    let mut before = report.progress();
    let mut is_well = true;
    let mut left = time;
    while !left.is_zero() {
        let slice = left.min(Duration::from_secs(1));
        thread::sleep(slice);
        left -= slice;
        for finding in report.take_findings() {
            say(format_args!("guest: {finding}"));
            is_well &= !finding.is_broken;
        }
        let vcpus = report.progress();
        for (before, now) in before.iter_mut().zip(&vcpus) {
            if before.rounds == 0 && left >= Duration::from_secs(1) {
                *before = *now;
            }
        }
        let least = |of: fn(&Progress) -> u64| vcpus.iter().map(of).min().unwrap_or_default();
        say(format_args!(
            "guest: {} rounds, timers v {} p {}, registers {}",
            least(|it| it.rounds),
            least(|it| it.virtual_ticks),
            least(|it| it.physical_ticks),
            if is_well { "intact" } else { "lost" }
        ));
    }
    for (number, (before, after)) in before.iter().zip(report.progress()).enumerate() {
        let stands = [
            (before.rounds == after.rounds, "makes no rounds"),
            (
                before.virtual_ticks == after.virtual_ticks,
                "takes no interrupts of CNTV",
            ),
            (
                before.physical_ticks == after.physical_ticks && after.physical_ticks != 0,
                "takes no interrupts of CNTP",
            ),
        ];
        for (_, what) in stands.iter().filter(|(stands, _)| *stands) {
            say(format_args!("guest: vCPU {number} {what}"));
            is_well = false;
        }
    }
    is_well
}
