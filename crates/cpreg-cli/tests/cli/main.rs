//! The command as its users meet it: whole runs on recorded streams, with what they print and how they end.
//!
//! | module | what it asks |
//! |---|---|
//! | [`run`] | nothing: starts the command and puts down what it did |
//! | [`made`] | nothing: inputs that are made for a test |
//! | [`check`], [`consents`], [`convert`], [`tolerances`], [`show`], [`diff`] | each command's text and exit status |
//! | [`json`] | every document, against what docs/json.md says of it |
//! | [`documents`] | README and docs, against what they say the command does |
//! | [`errors`] | what happens with files that are none, or not ours |
//! | [`output`] | colour, secrets, closed pipes |
//!
//! The text of a run stands in `snapshots/`; `cargo xtask bless` writes it anew.

mod check;
mod consents;
mod convert;
mod diff;
mod documents;
mod errors;
mod json;
mod made;
mod output;
mod run;
mod show;
mod tolerances;
