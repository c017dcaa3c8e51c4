#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | [`record`] | a recorded host with KVM, its file, and its use as a destination |
//! | [`profile`] | the file format of a destination, to and from [`Destination`] |
//! | [`schema`] | the schema name of a JSON document |
//! | [`hardware`] | the member of both with the properties that no register list holds |
//! | [`fact_program`] | the guest that reads these properties |
//! | `accepted_field_json` | accepted values of fields in JSON documents |
//! | `error` | [`Error`]: an unreadable document, or a name that matches no host |
//! | [`host`] | recorded hosts as destinations, by name |
//! | [`kernel_name`] | the kernel in the name of a host: a version, a release or a distribution |
//! | [`kernel_selection`] | a recorded kernel by a name without a CPU |
//! | [`unrecorded_host`] | a host with an unrecorded kernel, and the recorded hosts next to it |
//! | [`host_index`] | all recordings, by register |
//!
//! `cpreg-kvm` and `cpreg-qemu` query hosts. `cpreg` makes the decisions.
//!
//! [`Destination`]: cpreg::destination::Destination
#![forbid(unsafe_code)]

mod accepted_field_json;
mod error;
pub mod fact_program;
pub mod hardware;
pub mod host;
pub mod host_index;
pub mod kernel_name;
pub mod kernel_selection;
pub mod profile;
pub mod record;
pub mod schema;
pub mod unrecorded_host;

pub use error::{Error, ErrorKind};
pub use host::IndexedHost;
pub use host_index::HostIndex;
pub use profile::Profile;
pub use record::HostRecord;
