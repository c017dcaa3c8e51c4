//! Tolerances for QEMU under Hypervisor.framework (HVF): a register under a wrong id.

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    Category, Condition, Handling, HistoryEntry, RegisterDifference, RegisterSelector, Tolerance,
};
use crate::destination::Accelerator;
use crate::register::RegisterId;
use crate::remedy::Remedy;

/// Returns the built-in entries.
pub(super) fn built_in_entries() -> Vec<Tolerance> {
    let history = |release, commit, description| HistoryEntry {
        release,
        commit,
        description,
    };
    vec![Tolerance {
        registers: RegisterSelector::Ids(Cow::Borrowed(&[RegisterId::ID_AA64PFR2_EL1])),
        accelerator: Some(Accelerator::Hvf),
        difference: RegisterDifference::OtherId,
        condition: Condition::Always,
        handling: Handling::Rename(RegisterId::ID_AA64PFR1_EL1),
        visible_effect: None,
        category: Category::OtherId,
        reason: Cow::Borrowed(
            "QEMU up to 9.0 under HVF recorded ID_AA64PFR1_EL1 under the encoding of ID_AA64PFR2_EL1",
        ),
        remedy: Some(Remedy::text(
            "name a destination of which the accelerator is known: `cpreg probe qemu -o PROFILE -- \
             QEMU COMMAND` on the Mac",
        )),
        history: vec![history(
            "QEMU 9.1",
            "19ed42e8adc8",
            "recorded under its own encoding; in the stable releases 7.2.12 and 8.2.5 too",
        )],
        is_operator_entry: false,
        origin: None,
    }]
}
