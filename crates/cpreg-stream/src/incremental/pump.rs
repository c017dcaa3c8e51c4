//! [`pump`]: from a reader to a writer; what may pass passes, the rest is held back.
//!
//! One buffer is read into and written from; nothing is moved in it but the begin of a record whose end has not come.
//! What may pass is decided in [`super::engine`].

use std::io::{self, Read, Write};

use super::engine::Flow;
use super::held::Held;
use super::phase::Phase;
use crate::error::Error;

/// What is read at once: it stays in the processor's cache until it has been written.
const BUFFER: usize = 256 << 10;

/// Carries a stream from `input` to `output` up to its device state, which is held back until all of it has come.
///
/// `tell` hears the phase and the number of bytes that have passed, after each piece.
///
/// # Errors
/// Those of [`Flow::go_over`] and [`Flow::finish`], and if something cannot be read or written. What has been written
/// then is no complete stream.
pub fn pump(
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    pump_on(Flow::new(), Vec::new(), input, output, tell)
}

/// Carries on with a stream of which a part has come: `flow` has gone over it, and `begun` has
/// neither passed nor been held back.
///
/// # Errors
/// Those of [`pump`].
pub fn pump_on(
    mut flow: Flow,
    begun: Vec<u8>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<Held, Error> {
    // So many bytes of the buffer have come and not gone.
    let mut filled = begun.len();
    let mut buffer = begun;
    buffer.resize(filled.max(BUFFER), 0);
    loop {
        if filled == buffer.len() {
            // Something long before the pages; how long it may be is the engine's to say.
            buffer.resize(2 * filled, 0);
        }
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::cannot_read(flow.offset() + filled as u64, error)),
        };
        filled += count;
        let taken = flow.go_over(&buffer[..filled], count == 0)?;
        output
            .write_all(&buffer[..taken.pass])
            .map_err(Error::cannot_write)?;
        let gone = taken.pass + taken.held;
        buffer.copy_within(gone..filled, 0);
        filled -= gone;
        tell(flow.phase(), flow.offset());
        if count == 0 {
            output.flush().map_err(Error::cannot_write)?;
            return flow.finish();
        }
    }
}
