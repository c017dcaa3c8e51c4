//! Migrations through a relay, between two QEMUs that are played: what arrives, and every way in which it can end.
//!
//! | module | what it asks |
//! |---|---|
//! | [`play`] | nothing: a relay, and who connects to it |
//! | [`identity`] | what comes out is what `convert` makes of it, both ways, whatever the pieces |
//! | [`channels`] | further connections, and those that have no place in a migration |
//! | [`closed`] | a side that dies, at every phase and at random places |
//! | [`stalled`] | a side that stands still; Ctrl-C |
//! | [`garbage`] | damaged streams, and what was never one |
//! | [`imitation`] | guests that write perfect imitations of a stream into RAM and devices |

mod channels;
mod closed;
#[path = "../../../cpreg-stream/tests/common/mod.rs"]
mod common;
mod garbage;
mod harness;
mod identity;
mod imitation;
mod stalled;
