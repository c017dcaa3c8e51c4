//! A stream while it flows: RAM passes as it comes, the device state is held back until somebody has decided about it.
//!
//! | module | what lives there |
//! |---|---|
//! | `phase` | [`Phase`]: how far a stream has come |
//! | `outline` | [`StreamSetup`]: what is known before RAM's pages |
//! | `parser` | [`IncrementalParser`]: goes over the bytes as they come and says which may pass |
//! | `ending` | whether what came ends as a stream does, where nobody closes behind it |
//! | `vcpus` | [`VcpuScanner`]: the vCPUs in what is held back, while the rest still comes; [`EarlyOutput`]: as they go on |
//! | `held` | [`DeviceStateBuffer`]: what was held back, which opens as a [`Stream`](crate::Stream) and is edited like one |
//! | `forward` | from a reader to a writer |
//!
//! ```text
//! header, configuration, commands, block lists, early sections     pass; a copy is kept
//! RAM's pages and other live sections, up to their END             pass
//! device sections, EOF, description                                held back
//! or: PACKAGED and everything behind it                            held back
//! ```
//!
//! What passes is parsed, record after record, by the parsers that read files from the front
//! ([`crate`]), and never searched: guest memory can hold anything. The first byte of device state
//! goes on after all vCPUs have come and been decided about, and its end after all of it has: a
//! destination that does not get that cannot take what it got for a complete stream.
//!
//! What is done about a difference does not live here; see [`cpreg::plan`].

mod device_state_buffer;
mod end_detector;
mod forward;
mod parser;
mod phase;
mod setup;
mod vcpu_scanner;

pub use device_state_buffer::DeviceStateBuffer;
pub use forward::{forward, resume_forward};
pub use parser::{Consumed, IncrementalParser, MAX_DEVICE_STATE_LEN};
pub use phase::Phase;
pub use setup::StreamSetup;
pub use vcpu_scanner::{EarlyOutput, VcpuScanner};
