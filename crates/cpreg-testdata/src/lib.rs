//! Inputs for the tests and benchmarks of several crates.
#![forbid(unsafe_code)]

pub mod large_qcow2;
pub mod large_stream;
