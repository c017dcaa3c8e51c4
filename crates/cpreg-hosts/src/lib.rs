//! Recorded hosts for cpreg: the file a destination is recorded in.
//!
//! | module | what lives there |
//! |---|---|
//! | [`profile`] | the format, and its translation to and from [`cpreg::destination::Destination`] |
//!
//! How a destination is asked does not live here, nor what is decided about it.
#![forbid(unsafe_code)]

pub mod profile;

pub use profile::Profile;
