//! Next steps and places of the reasons, for the front ends that report a failure.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::explanation::{Explanation, FailureKind, NextStep, cause};
use crate::failure::LoadFailure;
use crate::front_end::reports::{FrontEnd, LIBVIRT};
use crate::message::{Emitter, Symptom};

/// Explains a failure of which only front ends report.
pub(super) fn explain(failure: &LoadFailure) -> Option<Explanation> {
    // libvirt's lines are known, and have an explanation of their own.
    let front_end = front_ends(failure).into_iter().find(|it| *it != LIBVIRT)?;
    Some(Explanation::new(
        FailureKind::FRONT_END,
        format!(
            "{} reports that the VMM failed. This is no line of the VMM about a load or a register \
             that cpreg knows; {}",
            front_end.name, front_end.log
        ),
        vec![cause(front_end.log, front_end.source)],
        Vec::new(),
    ))
}

/// Adds the commands of the front ends that report the failure.
pub(super) fn add_steps(explanation: &mut Explanation, failure: &LoadFailure) {
    let lacks_reason = matches!(
        explanation.kind,
        FailureKind::FRONT_END | FailureKind::NO_REASON | FailureKind::CPU_SECTION
    );
    if !lacks_reason {
        return;
    }
    let steps = front_ends(failure).into_iter().flat_map(|it| it.steps);
    let steps = steps.map(|step| NextStep::command(step.command, step.result));
    if explanation.kind == FailureKind::NO_REASON {
        // The log with the reason comes before cpreg's own check.
        explanation.next_steps = steps.chain(explanation.next_steps.drain(..)).collect();
    } else {
        explanation.next_steps.extend(steps);
    }
}

/// Returns the front ends of a failure, each once.
fn front_ends(failure: &LoadFailure) -> Vec<&'static FrontEnd> {
    let mut front_ends: Vec<&'static FrontEnd> = Vec::new();
    for symptom in failure.symptoms() {
        if let Symptom::FrontEnd { report } = symptom
            && !front_ends.contains(&report.front_end)
        {
            front_ends.push(report.front_end);
        }
    }
    if failure.has_emitter(Emitter::LIBVIRT) && !front_ends.contains(&LIBVIRT) {
        front_ends.push(LIBVIRT);
    }
    front_ends
}
