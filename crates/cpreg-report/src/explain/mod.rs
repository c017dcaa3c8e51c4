//! The answers of `explain`, and their forms.
//!
//! | file | what lives there |
//! |---|---|
//! | [`register`] | what is known about one register |
//! | [`lines`] | what error lines mean |

pub mod lines;
pub mod register;
