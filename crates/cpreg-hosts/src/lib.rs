//! Recorded hosts for cpreg: the file a destination is recorded in, and what recorded kernels list.
//!
//! | module | what lives there |
//! |---|---|
//! | [`record`] | what a host with KVM is, the file that is kept in, and the host as a destination |
//! | [`profile`] | the format, and its translation to and from [`cpreg::destination::Destination`] |
//! | [`schema`] | what a document says it is |
//! | `error` | [`Error`]: why a document could not be read, or a name leads to no host |
//! | [`host`] | recorded hosts as destinations, by name |
//! | [`history`] | which recorded kernels list a register, for which guests, and with what value |
//!
//! How a destination is asked does not live here, nor what is decided about it.
#![forbid(unsafe_code)]

mod error;
pub mod host;
pub mod host_index;
pub mod profile;
pub mod record;
pub mod schema;

pub use error::{Error, ErrorKind};
pub use host::IndexedHost;
pub use host_index::HostIndex;
pub use profile::Profile;
pub use record::HostRecord;
