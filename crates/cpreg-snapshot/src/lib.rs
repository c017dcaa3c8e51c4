//! Saved VMs in the files and folders of other programs.
//!
//! | module | contents |
//! |---|---|
//! | [`format`](mod@format) | [`Format`]: the kind of a file, recognised by its content |
//! | [`error`] | the error: kind, place, hint |
//!
//! [`cpreg::plan`] decides about a difference; this crate decides nothing.
#![forbid(unsafe_code)]

pub mod error;
pub mod format;

pub use error::{Error, ErrorKind};
pub use format::Format;
