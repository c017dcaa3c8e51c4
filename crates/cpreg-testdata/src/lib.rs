//! Inputs that several crates are tested and measured with.
#![forbid(unsafe_code)]

pub mod large_stream;
