//! Tests of the crate as its users see it, on recorded, synthetic and damaged streams.
//!
//! They are one program, because each program of tests costs a build of its own.

mod bidirectional;
mod common;
mod edit;
mod gic;
mod golden;
mod hvf;
mod incremental;
mod open;
mod redact;
mod robustness;
mod without_ram;
#[cfg(unix)]
mod write;
