//! Many hosts and VMs at once, for decisions about a fleet.
//!
//! | module | content |
//! |---|---|
//! | [`host`] | a host of the fleet, as a destination for a guest and as the host of a new VM |
//! | [`pairs`] | plans of all pairs of a VM and a destination, on all cores |
//!
//! The crate reads no files: its caller opens sources and destinations. `cpreg` makes the
//! decisions, and `cpreg-hosts` has the recorded hosts.
#![forbid(unsafe_code)]

pub mod host;
pub mod pairs;

pub use host::Host;
pub use pairs::{PlanInputs, plan_pairs};
