//! Inputs for the tests and benchmarks of several crates.
#![forbid(unsafe_code)]

pub mod large_stream;
