//! A live migration between two QEMUs that know nothing of it: `cpreg relay`. Linux only.
//!
//! | module | what lives there |
//! |---|---|
//! | [`address`] | [`Address`]: `tcp:HOST:PORT`, `unix:PATH`, `vsock:CID:PORT`, `fd:N`, `stdio:` |
//! | [`listen`] | [`Listener`]: connections that others make |
//! | [`mod@connect`] | [`connect()`](connect::connect): connections that we make |
//! | `inherited` | descriptors that whoever started this process gave it: `fd:N`, `stdio:` |
//! | [`io`] | [`Connection`], [`Cancel`], and bytes from one descriptor to another |
//! | `server` | [`Relay`]: waits for a migration, and connects it |
//! | `channel` | [`Channel`]: what a connection is, by its first bytes |
//! | `session` | one migration: its channels, and how it ends ([`Ended`]) |
//! | `main_channel` | the main channel to the destination, whose device state waits for a decision |
//! | `early_vcpus` | the vCPUs, which go on before the devices behind them have come |
//! | `return_path`, `return_path_parser` | the main channel to the source, and what the destination says there |
//! | `policy` | [`MigrationPolicy`]: who decides |
//! | [`check_policy`] | a [`MigrationPolicy`] that decides by cpreg's plan |
//! | `progress` | how far the device state came, and what both sides are told at the end |
//! | `vm_location` | [`Whereabouts`]: where the VM is when it has ended |
//! | `event` | [`Event`], [`Observer`]: what is told while it works |
//! | [`error`] | [`Error`]: why not, and what to do |
//! | [`guard`] | who runs a VM that is migrated through a relay |
//!
//! ```text
//! source ──main──> parsed: RAM passes, device state waits ──> destination
//! source <───────────── answers, as they come ──────────────── destination
//! source <──multifd, postcopy-preempt, … as they come, unseen──> destination
//! ```
//!
//! Linux only: `splice`, `eventfd`, `pidfd_getfd`. Every descriptor here is one that does not wait
//! and that no child inherits; waiting is `poll`, and nothing asks again and again. What the bytes
//! mean lives in [`cpreg_stream::incremental`], what is done about a difference in [`cpreg::plan`],
//! and who knows the monitors of both QEMUs is the guard.

#![forbid(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!("cpreg-relay needs Linux: splice, eventfd, pidfd_getfd");

pub mod address;
mod channel;
pub mod check_policy;
pub mod connect;
mod early_vcpus;
pub mod error;
mod event;
#[doc(hidden)]
pub mod fuzzing;
pub mod guard;
mod inherited;
pub mod io;
pub mod listen;
mod main_channel;
mod policy;
mod progress;
mod return_path;
mod return_path_parser;
mod server;
mod session;
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
pub use vm_location::VmLocation;
