#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`saved_vm`] | [`Container`]: a file that holds VMs; [`SavedVm`]: one of them |
//! | [`description`] | [`Description`]: what a file holds beside the VM's state |
//! | [`libvirt`] | save images of libvirt |
//! | [`folder`] | [`Folder`]: the saved VMs in a folder |
//! | [`foreign`] | [`Foreign`]: saved VMs that are recognised and not read |
//! | [`format`](mod@format) | [`Format`]: the kind of a file, recognised by its content |
//! | [`qcow2`] | internal snapshots of qcow2 disk images |
//! | [`cloud_hypervisor`] | snapshots of Cloud Hypervisor |
//! | [`firecracker`] | snapshots of Firecracker |
//! | [`register_file`] | a file of one of these two |
//! | `planned` | registers in cpreg's model, and the checks of an edit to a planned VM |
//! | [`error`] | the error: kind, place, hint |
//!
//! [`cpreg::plan`] decides about a difference; this crate decides nothing.
#![forbid(unsafe_code)]

pub mod cloud_hypervisor;
pub mod description;
pub mod error;
pub mod firecracker;
pub mod folder;
pub mod foreign;
pub mod format;
pub mod libvirt;
mod planned;
pub mod qcow2;
pub mod register_file;
pub mod saved_vm;

pub use description::{Description, ListedVm, Note, Progress};
pub use error::{Error, ErrorKind};
pub use folder::{Folder, SavedFile};
pub use foreign::Foreign;
pub use format::Format;
pub use register_file::RegisterState;
pub use saved_vm::{Change, Container, SavedVm, State};
