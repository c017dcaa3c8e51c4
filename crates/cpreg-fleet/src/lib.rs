#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`baseline`] | the settings with which a new VM moves among hosts |
//! | [`host`] | a host of the fleet, as a destination for a guest and as the host of a new VM |
//! | [`host_set`] | the destinations of a matrix, with those that decide alike |
//! | [`subject`] | a VM to plan, from a file or as a new VM of a host |
//! | [`cell`] | the result of planning one VM at one host, with its symbol in tables |
//! | `cache` | results by key, which threads share |
//! | [`cell_planner`] | the cells of many VMs, of which those that load alike are planned once |
//! | [`inputs`] | inputs that all plans share |
//! | [`pairs`] | plans of all pairs of a VM and a destination, on all cores |
//! | [`key`] | a short name for everything about a host that decides |
//! | [`classes`] | hosts with equal keys, and the classes that take their VMs |
//! | [`inventory`] | nodes and VMs of a fleet, with their faults |
//! | [`ways`] | nodes that take a VM |
//! | [`labels`] | what each node takes, as names for schedulers |
//! | [`upgrade`] | order of a rolling upgrade |
//!
//! The crate reads no files: its caller opens sources and destinations. `cpreg` makes the
//! decisions, and `cpreg-hosts` has the recorded hosts.
#![forbid(unsafe_code)]

pub mod baseline;
mod cache;
pub mod cell;
pub mod cell_planner;
pub mod classes;
pub mod host;
pub mod host_set;
pub mod inputs;
pub mod inventory;
pub mod key;
pub mod labels;
pub mod pairs;
pub mod subject;
pub mod upgrade;
pub mod ways;

pub use cell::{Cell, PlannedCell, plan_cell};
pub use cell_planner::CellPlanner;
pub use classes::HostClasses;
pub use host::Host;
pub use host_set::HostSet;
pub use inputs::PlanInputs;
pub use inventory::{Inventory, Node};
pub use key::{HostKey, KeyContent};
pub use pairs::{Row, plan_pairs, plan_row, plan_rows};
pub use subject::Subject;
