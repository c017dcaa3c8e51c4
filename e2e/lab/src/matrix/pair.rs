//! A pair of source and destination in the matrix.

use super::convert::{Consent, Conversion};
use super::outcome::GuestOutcome;

/// A pair of source and destination, with all its outcomes.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cpu: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// Series of QEMU at the source and at the destination.
    pub(crate) series: String,
    /// Destination as an argument of cpreg.
    pub(crate) destination_spec: String,
    /// Outcome of the load without cpreg.
    pub(crate) as_is: GuestOutcome,
    /// Conversions by consent, with the outcome of the load if cpreg wrote a stream.
    pub(crate) converted: Vec<(Consent, Conversion, Option<GuestOutcome>)>,
}
