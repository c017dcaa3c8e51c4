//! An edit applied in the file itself, all or nothing, even if the process is killed or the power
//! fails.
//!
//! | step | on the disk | if killed here, the file is |
//! |---|---|---|
//! | 1 | a journal with the old bytes next to the file; synced, then named | the old one |
//! | 2 | space for the new bytes, reserved after the end | the old one, perhaps zero-padded |
//! | 3 | a mark at the start (`cpRG` instead of `QEVM`); synced | rejected by QEMU and cpreg |
//! | 4 | the new bytes, the new length; synced | the same |
//! | 5 | no mark; synced | the new one |
//! | 6 | the journal is removed | the new one |
//!
//! A half-edited file therefore never looks complete. [`recover()`] restores the old file
//! after step 3 or 4, and removes the journal after the others. The file keeps its inode, owner,
//! labels and links.
//!
//! | file | contents |
//! |---|---|
//! | `edit` | [`edit_in_place`]: the steps |
//! | `journal` | the journal: its path and its bytes |
//! | `recover` | [`recover()`]: recovery from an interrupted edit |
//! | `mark` | the bytes at the file's start that are changed in step 3 |
//! | `lock` | [`Lock`]: one edit at a time |

mod edit;
mod journal;
mod lock;
mod mark;
mod recover;
#[cfg(test)]
mod tests;

pub use edit::edit_in_place;
pub use journal::{journal_path, pending_journal};
pub use lock::Lock;
pub use recover::{Recovery, recover};
