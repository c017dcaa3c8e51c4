//! Descriptors: bytes from one to another, and what ends a wait.
//!
//! | module | what lives there |
//! |---|---|
//! | [`connection`] | [`Connection`](connection::Connection): a half to read, a half to write, and something to end both from elsewhere |
//! | [`cancel`] | [`Cancel`](cancel::Cancel): ends every wait |
//! | [`splice`](mod@splice) | [`carry()`](splice::carry): one direction of a connection whose bytes nobody looks at |
//! | `forward` | [`forward_files`]: a stream from file to file |
//! | `pipe` | from pipe to pipe, of which only a copy is read |
//! | `file` | [`BlockingFd`]: files that are waited for |

pub mod cancel;
pub mod connection;
mod file;
mod forward;
mod pipe;
pub mod splice;

pub use file::{BlockingFd, grow_pipe};
pub use forward::forward_files;
