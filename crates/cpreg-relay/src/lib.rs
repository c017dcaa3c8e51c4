#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`address`] | [`Address`]: `tcp:HOST:PORT`, `unix:PATH`, `vsock:CID:PORT`, `fd:N`, `stdio:` |
//! | [`listen`] | [`Listener`]: incoming connections |
//! | [`mod@connect`] | [`connect()`](connect::connect): outgoing connections |
//! | `inherited` | descriptors inherited from the parent process: `fd:N`, `stdio:` |
//! | [`io`] | [`Connection`], [`CancelToken`], copying from one descriptor to another |
//! | `host_name` | addresses of host names |
//! | [`serve`] | [`serve::Server`]: many migrations at once, redirected by a firewall |
//! | `tls` | [`TlsCredentials`]: TLS of QEMU's channels, ended and begun again |
//! | `server` | [`Relay`]: waits for a migration and connects it to the destination |
//! | `channel` | [`Channel`]: the kind of a connection, from its first bytes |
//! | `session` | one migration: its channels and its [`MigrationResult`] |
//! | `main_channel` | the main channel to the destination; its device state waits for a decision |
//! | `byte_counts` | numbers of bytes of all channels, and progress events |
//! | `early_vcpus` | vCPUs sent before the devices after them have been received |
//! | `return_path`, `return_path_parser` | the return path from the destination to the source |
//! | `policy` | [`MigrationPolicy`]: accepts or rejects a VM, and edits its device state |
//! | [`check_policy`] | a [`MigrationPolicy`] that decides by cpreg's plan |
//! | `progress` | progress of the device state, and the end of both connections |
//! | `vm_location` | [`VmLocation`]: the side that has the VM after the migration |
//! | `event` | [`Event`], [`Observer`]: events during a migration |
//! | [`error`] | [`Error`]: reason of a failure and its hint |
//! | [`guard`] | switchover guard: lets the VM run on exactly one side |
//!
//! ```text
//! source ──main──> parsed: RAM is forwarded, device state waits ──> destination
//! source <──────── return path, forwarded as received ───────────── destination
//! source <──multifd, postcopy-preempt, … forwarded unparsed───────> destination
//! ```
//!
//! Linux only, because the relay uses `splice`, `eventfd` and `pidfd_getfd`. Every descriptor of
//! this crate is non-blocking and close-on-exec. Every wait is a `poll`, and no thread polls in a
//! busy loop.
//!
//! [`cpreg_stream::incremental`] parses the stream. [`cpreg::plan`] decides about differences. Only
//! the guard talks to the monitors of the two QEMUs.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cpreg-relay needs Linux: splice, eventfd, pidfd_getfd");

pub mod address;
mod byte_counts;
mod channel;
pub mod check_policy;
pub mod connect;
mod connection_source;
mod early_vcpus;
pub mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod host_name;
mod inherited;
pub mod io;
pub mod listen;
mod main_channel;
mod policy;
mod progress;
mod return_path;
mod return_path_parser;
pub mod serve;
mod server;
mod session;
mod tls;
mod vm_location;

pub use address::Address;
pub use channel::Channel;
pub use error::{Error, ErrorKind};
pub use event::{Event, Observer};
pub use io::cancel::{CancelOnDrop, CancelToken};
pub use io::connection::{Connection, Reader, ShutdownHandle, Writer};
pub use listen::Listener;
pub use policy::{Decision, MigrationPolicy};
pub use server::Relay;
pub use session::{MigrationOutcome, MigrationResult};
pub use tls::TlsCredentials;
pub use vm_location::VmLocation;
