//! Reports of cpreg: what a command found out, as models (serde), as text, and as Markdown.
//!
//! An answer is what a command found out. From it come a model, which is its JSON, and a text. A
//! program that reads cpreg's JSON reads models:
//!
//! ```
//! use cpreg_report::hosts::model::Report;
//!
//! # fn main() -> Result<(), serde_json::Error> {
//! let json = r#"{"schema": "cpreg.hosts/1", "hosts": []}"#;
//! let report: Report = serde_json::from_str(json)?;
//! assert!(report.hosts.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! | module | what lives there |
//! |---|---|
//! | [`check`] | the answer of `check`, schema `cpreg.check/2` |
//! | [`dry_run`] | what came of trying a plan on this machine's KVM |
//! | [`rehearse`] | the answer of `rehearse`, schema `cpreg.rehearsal/2` |
//! | [`show`] | the answer of `show`, schema `cpreg.show/2` |
//! | [`diff`] | the answer of `diff`, schema `cpreg.diff/2` |
//! | [`host`] | a recorded host, for `show`, schema `cpreg.show-host/2` |
//! | [`host_diff`] | what differs between two of them, schema `cpreg.diff-hosts/2` |
//! | [`hosts`] | the answer of `hosts`, schema `cpreg.hosts/2` |
//! | [`explain`] | the answers of `explain` |
//! | [`tolerance`] | the table of tolerances, schema `cpreg.tolerances/2` |
//! | [`export`] | the same for other programs |
//! | [`vm_report`] | a VM without RAM and secrets, which is sent to somebody; schema `cpreg.report/2` |
//! | [`markdown`] | the same for an issue tracker |
//! | [`contents`] | what a file holds, for `show` and `diff` |
//! | [`mod@field`], `group`, `rows`, [`value`] | registers, fields and values as they are printed; secrets kept |
//! | [`remedy`] | remedies in words: commands and options that can be typed |
//! | [`scalar`], [`names`] | numbers, ids, sets of vCPUs and names in JSON |
//! | [`json`] | a model as a document |
//! | [`printer`], `text` | lines, styles, escapes |
//! | [`error`] | why there is no report |
#![forbid(unsafe_code)]

pub mod check;
pub mod contents;
pub mod diff;
pub mod dry_run;
pub mod error;
pub mod explain;
pub mod export;
pub mod field;
mod group;
pub mod host;
pub mod host_diff;
pub mod hosts;
pub mod json;
pub mod markdown;
pub mod names;
pub mod printer;
pub mod rehearse;
pub mod remedy;
pub mod rows;
pub mod scalar;
pub mod schemas;
pub mod show;
pub mod text;
pub mod tolerance;
pub mod value;
pub mod vm_report;

pub use error::{Error, ErrorKind};
pub use printer::Printer;
