//! Migrations through a relay between two fake QEMUs: the data that arrives, and all kinds of end.
//!
//! | module | contents |
//! |---|---|
//! | [`harness`] | a relay and both QEMUs |
//! | [`identity`] | the output equals that of `convert`, for chunks of every size |
//! | [`channels`] | further channels, and connections that do not belong to a migration |
//! | [`closed`] | a side that dies, in every phase and at random offsets |
//! | [`stalled`] | a side that stalls; Ctrl-C |
//! | [`garbage`] | damaged streams, and bytes that are not a stream |
//! | [`imitation`] | guests that write imitations of a stream into RAM and devices |

mod channels;
mod closed;
mod garbage;
pub(crate) mod harness;
pub(crate) mod identity;
mod imitation;
mod stalled;
