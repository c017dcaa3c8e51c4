#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`command`] | the typed command, and next commands with the user's own names |
//! | [`check`] | report of `check`, schema `cpreg.check/2` |
//! | [`dry_run`] | result of a plan that was tried on this machine's KVM |
//! | [`rehearse`] | report of `rehearse`, schema `cpreg.rehearsal/2` |
//! | [`relay`] | result of `relay`, schema `cpreg.relay/2`, and its log |
//! | [`failure`] | error of a command, schema `cpreg.error/2` |
//! | [`show`] | report of `show`, schema `cpreg.show/2` |
//! | [`diff`] | report of `diff`, schema `cpreg.diff/2` |
//! | [`host`] | report of `show` for a recorded host, schema `cpreg.show-host/2` |
//! | [`host_diff`] | report of `diff` for two recorded hosts, schema `cpreg.diff-hosts/2` |
//! | [`kernel_diff`] | report of `diff` for two kernels, schema `cpreg.kernel-diff/2` |
//! | [`matrix`] | report of `matrix`, lines of schema `cpreg.matrix/1` |
//! | [`classes`] | report of `classes`, schema `cpreg.classes/1` |
//! | [`fleet`] | reports of `fleet`: `cpreg.fleet-check/1` and others |
//! | [`host_key`] | report of `key`, schema `cpreg.key/1` |
//! | [`baseline`] | report of `baseline`, schema `cpreg.baseline-report/1` |
//! | [`hosts`] | report of `hosts`, schema `cpreg.hosts/2` |
//! | [`unrecorded`] | the kernel of a named host, if it was not recorded |
//! | [`explain`] | reports of `explain` |
//! | [`tolerance`] | the table of tolerances, schema `cpreg.tolerances/2` |
//! | [`export`] | the table of tolerances in the formats of other programs |
//! | [`vm_report`] | a VM without RAM and secrets, to be sent, schema `cpreg.report/2` |
//! | [`markdown`] | a VM report as Markdown for an issue tracker |
//! | [`contents`] | contents of a file, for `show` and `diff` |
//! | [`firecracker_template`] | custom CPU templates of Firecracker |
//! | [`mod@field`], `group` | fields of registers, groups of registers |
//! | `name_macro` | declaration of the names in [`names`] |
//! | [`rows`], [`value`] | values per vCPU, values as text with secrets hidden |
//! | [`remedy`] | remedies as commands and options that can be typed |
//! | `similar` | names of present registers that are similar to an absent one |
//! | [`scalar`], [`names`] | numbers, ids, sets of vCPUs and names in JSON |
//! | [`json`], [`schemas`] | a model as a document, the JSON Schemas of all documents |
//! | [`printer`], [`text`] | output, styles and escapes, words and wrapped lines |
//! | [`error`] | errors of making or reading a report |
#![forbid(unsafe_code)]

pub mod baseline;
pub mod check;
pub mod classes;
pub mod command;
pub mod contents;
pub mod diff;
pub mod dry_run;
pub mod error;
pub mod explain;
pub mod export;
pub mod failure;
pub mod field;
pub mod firecracker_template;
pub mod fleet;
mod group;
pub mod host;
pub mod host_diff;
pub mod host_key;
pub mod hosts;
pub mod json;
pub mod kernel_diff;
pub mod markdown;
pub mod matrix;
mod name_macro;
pub mod names;
pub mod printer;
pub mod rehearse;
pub mod relay;
pub mod remedy;
pub mod rows;
pub mod scalar;
pub mod schemas;
pub mod show;
mod similar;
pub mod text;
pub mod tolerance;
pub mod unrecorded;
pub mod value;
pub mod vm_report;

pub use error::{Error, ErrorKind};
pub use printer::Printer;
