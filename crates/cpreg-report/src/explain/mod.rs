//! Reports of `explain`.
//!
//! | file | contents |
//! |---|---|
//! | [`register`] | explanation of one register |
//! | [`lines`] | explanation of error lines |

pub mod lines;
pub mod register;
