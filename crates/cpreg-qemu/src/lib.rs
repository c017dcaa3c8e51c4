//! QEMU: its migration stream, read and edited as a file.
//!
//! | module | what lives there |
//! |---|---|
//! | [`stream`] | the stream: elements, RAM, devices, the arm `cpu` sections, edits |
//! | [`error`] | the crate's error: what, where, what to do |
#![forbid(unsafe_code)]

pub mod error;
pub mod stream;
pub mod words;

pub use error::{Error, ErrorKind};
pub use stream::Stream;
