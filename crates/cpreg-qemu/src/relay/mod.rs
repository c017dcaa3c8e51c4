//! A live migration between two QEMUs that know nothing of it: `cpreg relay`.
//!
//! | module | what lives there |
//! |---|---|
//! | [`address`] | [`Address`]: `tcp:HOST:PORT`, `unix:PATH`, `vsock:CID:PORT`, `fd:N`, `stdio:` |
//! | [`listen`] | [`Listener`]: connections that others make |
//! | [`mod@connect`] | [`connect()`](connect::connect): connections that we make |
//! | `inherited` | descriptors that whoever started this process gave it: `fd:N`, `stdio:` |
//! | [`connection`] | [`Connection`]: a half to read, a half to write, and something to end both from elsewhere |
//! | [`cancel`] | [`Cancel`]: ends every wait; [`Fault`]: why no more can be read or written |
//! | [`carry`](mod@carry) | [`carry()`](carry::carry): one direction of a connection whose bytes nobody looks at |
//! | `relay` | [`Relay`]: waits for a migration, and connects it |
//! | `channel` | [`Channel`]: what a connection is, by its first bytes |
//! | `session` | one migration: its channels, and how it ends ([`Ended`]) |
//! | `forward` | the main channel to the destination, whose device state waits for a decision |
//! | `ahead` | the vCPUs, which go on before the devices behind them have come |
//! | `back`, `answers` | the main channel to the source, and what the destination says there |
//! | `judge` | [`Judge`]: who decides |
//! | `way_back` | [`Whereabouts`]: where the VM is when it has ended |
//! | `event` | [`Event`], [`Observer`]: what is told while it works |
//!
//! ```text
//! source ──main──> parsed: RAM passes, device state waits ──> destination
//! source <───────────── answers, as they come ──────────────── destination
//! source <──multifd, postcopy-preempt, … as they come, unseen──> destination
//! ```
//!
//! Linux only: `splice`, `eventfd`, `pidfd_getfd`. Every descriptor here is one that does not wait and that no child
//! inherits; waiting is `poll`, and nothing asks again and again. What the bytes mean lives in [`crate::flow`], what is done
//! about a difference in [`cpreg::plan`], and who knows the monitors of both QEMUs is the guard.

pub mod address;
mod ahead;
mod answers;
mod back;
pub mod cancel;
pub mod carry;
mod channel;
pub mod connect;
pub mod connection;
mod event;
mod forward;
mod inherited;
mod judge;
pub mod listen;
#[expect(
    clippy::module_inception,
    reason = "it is the relay, and there is more"
)]
mod relay;
mod session;
mod way_back;

pub use address::Address;
pub use cancel::{Cancel, Fault};
pub use channel::Channel;
pub use connection::{Connection, Cutter, Reader, Writer};
pub use event::{Event, Observer};
pub use judge::{Judge, Judgement};
pub use listen::Listener;
pub use relay::Relay;
pub use session::{Ended, Outcome};
pub use way_back::Whereabouts;
