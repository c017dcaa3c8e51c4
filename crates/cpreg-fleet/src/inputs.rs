//! [`PlanInputs`]: tolerances and consents.

use cpreg::plan::Consents;
use cpreg::tolerance::Tolerances;

/// Inputs that all plans of a fleet share.
#[derive(Clone, Copy, Debug)]
pub struct PlanInputs<'a> {
    /// Tolerances: the built-in table and the operator's entries.
    pub tolerances: &'a Tolerances,
    /// Consents of the user.
    pub consents: &'a Consents,
}
