//! Reports: what a command found out, as text and as JSON.
//!
//! | file | what lives there |
//! |---|---|
//! | [`check`] | the answer of `check`, once, for both forms |
//! | [`json`] | its JSON, schema `cpreg.check/1` |
//! | [`text`] | its text |
//! | [`value`] | registers and values as they are printed; secrets kept |

pub(crate) mod check;
pub(crate) mod json;
pub(crate) mod text;
pub(crate) mod value;
