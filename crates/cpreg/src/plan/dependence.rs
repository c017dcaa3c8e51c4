//! [`Dependence`]: the open facts on which the result of several possible checks depends.

use super::PossibleCheck;
use crate::vm::Vm;

/// Assumption under which one of several possible checks was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Premise<'p> {
    /// `true` if the guest is assumed to have the open feature; `None` if none is open.
    pub has_feature: Option<bool>,
    /// Recorded host next to the destination's kernel; `None` if the kernel was recorded.
    pub recorded_host: Option<&'p str>,
}

/// Open facts on which the result of several possible checks depends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependence {
    /// `true` if the result depends on the open feature of the guest.
    pub on_feature: bool,
    /// `true` if the result depends on the kernel that was not recorded.
    pub on_kernel: bool,
}

impl PossibleCheck<'_> {
    /// Returns the open facts on which the result of these checks of `vm` depends.
    ///
    /// `is_kernel_enclosed` says if the recorded hosts enclose the destination's kernel; it is
    /// `None` if that kernel was recorded. A kernel that is not enclosed always decides.
    pub fn dependence(
        checks: &[(Premise<'_>, Self)],
        vm: &Vm,
        is_kernel_enclosed: Option<bool>,
    ) -> Dependence {
        type Row<'c> = (Premise<'c>, PossibleCheck<'c>);
        let has_unequal_pair =
            |is_pair: fn(&Row<'_>, &Row<'_>) -> bool,
             is_equal: &dyn Fn(&Row<'_>, &Row<'_>) -> bool| {
                checks.iter().enumerate().any(|(index, one)| {
                    let others = checks.iter().skip(index + 1);
                    let mut pairs = others.filter(|other| is_pair(one, other));
                    pairs.any(|other| !is_equal(one, other))
                })
            };
        Dependence {
            on_feature: has_unequal_pair(
                |one, other| one.0.recorded_host == other.0.recorded_host,
                &|one, other| one.1.has_same_result(other.1, vm),
            ),
            on_kernel: is_kernel_enclosed.is_some_and(|is_enclosed| {
                !is_enclosed
                    || has_unequal_pair(
                        |one, other| one.0.has_feature == other.0.has_feature,
                        &|one, other| one.1.encloses_result(other.1, vm),
                    )
            }),
        }
    }
}
