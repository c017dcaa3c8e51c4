//! Commands, one module each.

pub(crate) mod baseline;
pub(crate) mod check;
pub(crate) mod classes;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod filter;
pub(crate) mod hosts;
pub(crate) mod key;
pub(crate) mod man_pages;
pub(crate) mod matrix;
pub(crate) mod probe;
pub(crate) mod rehearse;
#[cfg(target_os = "linux")]
pub(crate) mod relay;
#[cfg(target_os = "linux")]
pub(crate) mod relay_guard;
pub(crate) mod report;
#[cfg(target_os = "linux")]
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod tolerances;
