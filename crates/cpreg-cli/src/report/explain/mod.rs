//! The answers of `explain`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`register`] | what is known about one register, and its forms |

pub(crate) mod register;

/// The JSON's schema and version.
pub(crate) const SCHEMA: &str = "cpreg.explain/1";
