//! The answers of `explain`.
//!
//! | file | what lives there |
//! |---|---|
//! | [`lines`] | of error lines |

pub(crate) mod lines;
