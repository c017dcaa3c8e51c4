//! A pair of source and destination, and all that became of it.

use super::convert::{Consent, Conversion};
use super::outcome::GuestOutcome;

/// A pair, and all that became of it.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) cpu: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    /// QEMU's series at both ends.
    pub(crate) series: String,
    /// The destination as it was given to cpreg.
    pub(crate) destination_spec: String,
    pub(crate) as_is: GuestOutcome,
    pub(crate) converted: Vec<(Consent, Conversion, Option<GuestOutcome>)>,
}
