//! A pair of source and destination, and all that became of it.

use super::convert::{Consent, Converted};
use super::outcome::Outcome;

/// A pair, and all that became of it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cpu: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// QEMU's series at both ends.
    pub(crate) series: String,
    /// The destination as it was given to cpreg.
    pub(crate) known_as: String,
    pub(crate) as_is: Outcome,
    pub(crate) converted: Vec<(Consent, Converted, Option<Outcome>)>,
}
