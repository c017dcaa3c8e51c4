//! Reports: what a command found out, as text and as JSON.
//!
//! | file | what lives there |
//! |---|---|
//! | [`attempt`] | what came of trying a plan on this machine's KVM |
//! | [`check`] | the answer of `check`, once, for both forms |
//! | [`contents`] | what a stream or profile holds, for `show` and `diff` |
//! | [`diff`] | the answer of `diff`, and its forms |
//! | [`explain`] | the answers of `explain`, and their forms |
//! | `field_value` | a field and what it holds, as JSON has it |
//! | `field_change` | a field that differs, as JSON has it |
//! | [`general`] | the core registers, which a stream keeps apart |
//! | [`host`] | a recorded host, for `show` |
//! | [`host_diff`] | what differs between two of them, for `diff` |
//! | [`hosts`] | the answer of `hosts`, and its forms |
//! | [`issue`] | the text of `report` |
//! | [`json`] | its JSON, schema `cpreg.check/1` |
//! | [`text`] | its text |
//! | [`rehearse`] | the answer of `rehearse`, and its forms |
//! | [`show`] | the answer of `show`, and its forms |
//! | [`value`] | registers and values as they are printed; secrets kept |

pub(crate) mod attempt;
pub(crate) mod check;
pub(crate) mod contents;
pub(crate) mod diff;
pub(crate) mod explain;
mod field_change;
mod field_value;
pub(crate) mod general;
pub(crate) mod host;
pub(crate) mod host_diff;
pub(crate) mod hosts;
pub(crate) mod issue;
pub(crate) mod json;
pub(crate) mod rehearse;
pub(crate) mod show;
pub(crate) mod text;
pub(crate) mod value;
