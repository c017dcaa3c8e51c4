//! QMP, QEMU's control protocol: one connection, its greeting, commands, replies and events.
//!
//! This module implements the protocol over a Unix socket. [`crate::process`] starts a QEMU;
//! callers such as [`crate::probe`] choose the commands.
//!
//! Form of the messages (QEMU `docs/interop/qmp-spec.rst`, versions 5.2 to 11.1):
//! - framing: one JSON object per line in both directions; QEMU ends its lines with CR LF
//! - greeting: `{"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package"},
//!   "capabilities": […]}}`
//! - negotiation: `qmp_capabilities` before any other command
//! - command: `{"execute": NAME, "arguments": {…}, "id": ANY}`
//! - reply: `{"return": …, "id": ANY}` or `{"error": {"class", "desc"}, "id": ANY}`
//! - event: `{"event": NAME, "data": {…}, "timestamp": {"seconds", "microseconds"}}`, between any
//!   two other lines
//!
//! This module supports no out-of-band execution and refuses it.
//!
//! | file | content |
//! |---|---|
//! | `client` | [`Qmp`]: a connection |
//! | `message` | commands and replies, as lines of JSON |
//! | `monitor` | [`Monitor`]: a way to a monitor, of which a connection is one |
//! | `version` | [`Version`]: the version of a QEMU |
//! | `wait_options` | [`WaitOptions`]: timeout and interrupt flag |

mod client;
pub(crate) mod message;
mod monitor;
mod version;
mod wait_options;

pub use client::{Event, Qmp};
pub use monitor::Monitor;
pub use version::Version;
pub use wait_options::WaitOptions;
