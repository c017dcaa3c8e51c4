//! File descriptors: copying from one to another, and cancelling a wait.
//!
//! | module | contents |
//! |---|---|
//! | [`connection`] | [`Connection`](connection::Connection): reader, writer, shutdown handle |
//! | [`cancel`] | [`CancelToken`](cancel::CancelToken): ends every wait |
//! | [`splice`](mod@splice) | [`splice_all()`](splice::splice_all): copies one direction unparsed |
//! | `forward` | [`forward_files`]: a parsed stream from file to file |
//! | `pipe` | from pipe to pipe, parsed from a copy |
//! | `file` | [`BlockingFd`]: files with blocking reads and writes |

pub mod cancel;
pub mod connection;
pub(crate) mod duplex;
mod file;
mod forward;
mod pipe;
pub mod splice;

pub use file::{BlockingFd, grow_pipe};
pub use forward::forward_files;
