//! QMP, QEMU's control protocol: one connection, its greeting, commands, replies and events.
//!
//! What lives here is the protocol over a Unix socket. Starting a QEMU and holding on to it is
//! [`crate::process`]; which commands to send, and why, is for the callers ([`crate::probe`]).
//!
//! | piece | form (QEMU `docs/interop/qmp-spec.rst`, versions 5.2 to 11.1) |
//! |---|---|
//! | framing | one JSON object a line, each way; QEMU ends its lines with CR LF |
//! | greeting | `{"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package"}, "capabilities": […]}}` |
//! | negotiation | `qmp_capabilities` before any other command |
//! | command | `{"execute": NAME, "arguments": {…}, "id": ANY}` |
//! | reply | `{"return": …, "id": ANY}` or `{"error": {"class", "desc"}, "id": ANY}` |
//! | event | `{"event": NAME, "data": {…}, "timestamp": {"seconds", "microseconds"}}`, between any two other lines |
//!
//! Not understood, and refused: out-of-band execution.
//!
//! | file | what lives there |
//! |---|---|
//! | `client` | [`Qmp`]: a connection |
//! | `version` | [`Version`]: what QEMU says of its own |
//! | `patience` | [`WaitOptions`]: how long to wait |

mod client;
mod version;
mod wait_options;

pub use client::{Event, Qmp};
pub use version::Version;
pub use wait_options::WaitOptions;
