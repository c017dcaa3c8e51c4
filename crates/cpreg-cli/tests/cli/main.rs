//! The command as its users meet it: whole runs on recorded streams, with what they print and how they end.
//!
//! | module | what it asks |
//! |---|---|
//! | [`run`] | nothing: starts the command and puts down what it did |
//! | [`made`], [`large_stream`] | nothing: inputs that are made for a test |
//! | [`export`] | the table of tolerances for other programs, taken by them |
//! | [`explain`] | error lines of VMMs, and what is said of them |
//! | [`explain_register`] | what is said of registers |
//! | [`check`], [`consents`], [`convert`], [`hosts`], [`tolerances`], [`show`], [`diff`], [`report`] | each command's text and exit status |
//! | [`host_records`] | recorded hosts as files, and this machine's KVM |
//! | [`json`] | every kind of document |
//! | [`models`], [`schema`] | every document, against its model and its JSON Schema |
//! | [`documents`] | README and docs, against what they say the command does |
//! | [`picture`] | nothing: draws a report for the README |
//! | [`errors`] | what happens with files that are none, or not ours |
//! | [`filter`] | streams from pipe to pipe, and every way in which that can end |
//! | [`relayed`] | nothing: plays the QEMUs on both sides of a relay |
//! | [`relay`], [`relay_faults`] | live migrations, and every way in which they can end |
//! | [`faults`] | full disks, signals, killed processes while files are written |
//! | [`fake_qemu`] | nothing: plays QEMU |
//! | [`probe_faults`] | programs that are no QEMU, and Ctrl-C while one is asked |
//! | `relay_guard` | that the guard of a relay outlives it |
//! | [`rehearse`] | what a QEMU does with a VM, and what is said of it |
//! | [`rehearse_faults`] | QEMUs that fail on the way, and what is no VM |
//! | [`running`] | VMs that run, asked through their monitors |
//! | [`bounded`] | how much is read of 8 GiB |
//! | [`output`] | colour, secrets, closed pipes |
//!
//! The text of a run stands in `snapshots/`; `cargo xtask bless` writes it anew.

mod bounded;
mod check;
mod consents;
mod convert;
mod diff;
mod documents;
mod errors;
mod explain;
mod explain_register;
mod export;
mod fake_qemu;
mod faults;
mod filter;
mod fixtures;
mod host_records;
mod hosts;
mod json;
mod models;
mod output;
mod picture;
mod probe_faults;
mod rehearse;
mod rehearse_faults;
#[cfg(target_os = "linux")]
mod relay;
#[cfg(target_os = "linux")]
mod relay_faults;
#[cfg(target_os = "linux")]
mod relay_guard;
#[cfg(target_os = "linux")]
mod relay_process;
mod report;
mod run;
mod running;
mod schema;
mod show;
mod tolerances;
