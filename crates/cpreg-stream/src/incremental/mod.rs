//! A stream in transit: RAM is forwarded as it arrives, the device state is buffered until the
//! caller has decided about it.
//!
//! | module | contents |
//! |---|---|
//! | `phase` | [`Phase`]: progress of a stream |
//! | `setup` | [`StreamSetup`]: data that the source sends in front of RAM's pages |
//! | `setup_buffer` | [`SetupBuffer`]: the beginning of a stream, not yet forwarded |
//! | `parser` | [`IncrementalParser`]: parses arriving bytes and decides which to forward |
//! | `state` | the kind of bytes that the parser reads next |
//! | `window` | the bytes that the caller shows to the parser, at their offsets |
//! | `end_detector` | detection of a stream's end on a connection that stays open |
//! | `vcpu_scanner` | [`VcpuScanner`]: the vCPUs in a growing buffer |
//! | `vcpu_scanner` | [`EarlyOutput`]: the edited bytes up to the last vCPU |
//! | `device_state_buffer` | [`DeviceStateBuffer`]: buffered state, readable as a stream |
//! | `forward` | the loop from a reader to a writer |
//!
//! ```text
//! header, configuration, commands, block lists, early sections     forwarded; a copy is kept
//! RAM's pages and other live sections, up to their END             forwarded
//! device sections, EOF, description                                buffered
//! or: PACKAGED and everything after it                             buffered
//! ```
//!
//! Forwarded bytes are parsed record by record, with the parsers of a full scan, and never
//! searched, because guest memory can hold anything. The first byte of device state is sent after
//! all vCPUs have arrived and been decided about. The end of device state is sent after all of it
//! has arrived. A destination that lacks the end cannot take the rest for a complete stream.
//!
//! [`cpreg::plan`] decides about differences.

mod device_state_buffer;
mod end_detector;
mod forward;
mod parser;
mod phase;
mod setup;
mod setup_buffer;
mod state;
mod vcpu_scanner;
mod window;

pub use device_state_buffer::DeviceStateBuffer;
pub use forward::{forward, resume_forward};
pub use parser::{Consumed, IncrementalParser, MAX_DEVICE_STATE_LEN};
pub use phase::Phase;
pub use setup::StreamSetup;
pub use setup_buffer::SetupBuffer;
pub use vcpu_scanner::{EarlyOutput, VcpuScanner};
