//! A pair of source and destination in the matrix.

use super::convert::{Consent, Conversion};
use super::outcome::GuestOutcome;

/// A pair of source and destination, with all its outcomes.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cpu: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// Series of QEMU at both ends.
    pub(crate) series: String,
    /// Destination as an argument of cpreg.
    pub(crate) destination_spec: String,
    pub(crate) as_is: GuestOutcome,
    pub(crate) converted: Vec<(Consent, Conversion, Option<GuestOutcome>)>,
}
