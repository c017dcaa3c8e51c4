//! Between two QEMUs: where they are, the connections to them, and bytes that go from one to the other.
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
//!
//! Linux only: `splice`, `eventfd`, `pidfd_getfd`. Every descriptor here is one that does not wait and that no child
//! inherits; waiting is `poll`, and nothing asks again and again. What the bytes mean does not live here: see [`crate::flow`].

pub mod address;
pub mod cancel;
pub mod carry;
pub mod connect;
pub mod connection;
mod inherited;
pub mod listen;

pub use address::Address;
pub use cancel::{Cancel, Fault};
pub use connection::{Connection, Cutter, Reader, Writer};
pub use listen::Listener;
