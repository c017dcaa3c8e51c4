//! A stream while it flows: RAM passes as it comes, the device state is held back until somebody has decided about it.
//!
//! | module | what lives there |
//! |---|---|
//! | `phase` | [`Phase`]: how far a stream has come |
//! | `outline` | [`Outline`]: what is known before RAM's pages |
//! | `engine` | [`Flow`]: goes over the bytes as they come and says which may pass |
//! | `ending` | whether what came ends as a stream does, where nobody closes behind it |
//! | `vcpus` | [`Vcpus`]: the vCPUs in what is held back, while the rest still comes; [`Changed`]: as they go on |
//! | `held` | [`Held`]: what was held back, which opens as a [`Stream`](crate::Stream) and is edited like one |
//! | `pump` | from a reader to a writer |
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

mod ending;
mod engine;
mod held;
mod outline;
mod phase;
mod pump;
mod vcpus;

pub use engine::{Flow, MOST_HELD, Taken};
pub use held::Held;
pub use outline::Outline;
pub use phase::Phase;
pub use pump::{pump, pump_on};
pub use vcpus::{Changed, Vcpus};
