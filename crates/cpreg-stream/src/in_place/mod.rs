//! An edit carried out in the file itself: all of it or nothing, even if the process is killed or
//! the power fails.
//!
//! | step | what is on the disk | killed here, the file is |
//! |---|---|---|
//! | 1 | a journal beside the file with the old bytes; synced, then named | the old one |
//! | 2 | room for the new bytes is reserved behind the end | the old one, perhaps with zeros behind it |
//! | 3 | the file begins with `cpRG` instead of `QEVM`; synced | refused by QEMU and cpreg: recover it |
//! | 4 | the new bytes, the new length; synced | the same |
//! | 5 | `QEVM` again; synced | the new one |
//! | 6 | the journal is removed | the new one |
//!
//! So no program ever takes a half-edited file for a stream. [`recover`] brings back the old file
//! from step 3 or 4, and removes the journal in the others. The file stays the same file: owner,
//! labels, links and all.
//!
//! | file | what lives there |
//! |---|---|
//! | `edit` | [`edit_in_place`]: the steps |
//! | `journal` | the journal: where it stands, and its bytes |
//! | `recover` | [`recover`]: what becomes of an edit that was interrupted |
//! | `lock` | [`Lock`]: one edit at a time |

mod edit;
mod journal;
mod lock;
mod recover;
#[cfg(test)]
mod tests;

pub use edit::edit_in_place;
pub use journal::{journal_path, pending_journal};
pub use lock::Lock;
pub use recover::{Recovery, recover};
