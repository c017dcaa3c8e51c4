//! Conditions on the findings of a guest.

use super::cases::Case;
use e2e_framework::Result;
use e2e_framework::machine::TimersExpired;
use e2e_framework::serial::{Difference, Findings};

/// Maximum number of differences in a failure. vCPUs usually differ in the same registers.
const MAX_DIFFERENCES: usize = 30;

/// Checks that both timers of every vCPU fired after the move.
pub(crate) fn check_timers(case: &Case, findings: &Findings) -> Result<()> {
    if !findings.expired_timers.is_empty() {
        return Err(TimersExpired.into());
    }
    for vcpu in 0..case.machine.vcpus {
        for timer in ['V', 'P'] {
            if !findings.timers.contains(&(vcpu, timer)) {
                return Err(format!("timer {timer} of vCPU {vcpu} does not fire").into());
            }
        }
    }
    Ok(())
}

/// Fails if there are differences.
pub(crate) fn assert_no_differences<'a>(
    differences: impl Iterator<Item = &'a Difference>,
) -> Result<()> {
    let lines: Vec<_> = differences.map(ToString::to_string).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let shown = &lines[..lines.len().min(MAX_DIFFERENCES)];
    let rest = lines.len() - shown.len();
    let more = if rest > 0 {
        format!("\n  and {rest} more")
    } else {
        String::new()
    };
    Err(format!(
        "the guest finds differences that are not announced:\n  {}{more}",
        shown.join("\n  ")
    )
    .into())
}
