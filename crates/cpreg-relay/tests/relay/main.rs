//! Tests of the crate as its users see it: connections, and migrations between two fake QEMUs.
//!
//! They are one program, because each program of tests costs a build of its own.

#[path = "../../../cpreg-stream/tests/stream/common/mod.rs"]
mod common;
mod connections;
mod pipes;
mod relay_early;
mod relayed;
mod served;
