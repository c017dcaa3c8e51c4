//! [`forward`]: from a reader to a writer; what may pass passes, the rest is held back.
//!
//! One buffer is read into and written from; nothing is moved in it but the begin of a record whose end has not come.
//! What may pass is decided in [`super::parser`].

use std::io::{self, Read, Write};

use super::device_state_buffer::DeviceStateBuffer;
use super::parser::IncrementalParser;
use super::phase::Phase;
use crate::error::Error;

/// What is read at once: it stays in the processor's cache until it has been written.
const BUFFER_LEN: usize = 256 << 10;

/// Carries a stream from `input` to `output` up to its device state, which is held back until all of it has come.
///
/// `tell` hears the phase and the number of bytes that have passed, after each piece.
///
/// # Errors
/// Those of [`IncrementalParser::go_over`] and [`IncrementalParser::finish`], and if something cannot be read or written. What has been written
/// then is no complete stream.
pub fn forward(
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    resume_forward(IncrementalParser::new(), Vec::new(), input, output, tell)
}

/// Carries on with a stream of which a part has come: `flow` has gone over it, and `begun` has
/// neither passed nor been held back.
///
/// # Errors
/// Those of [`forward`].
pub fn resume_forward(
    mut flow: IncrementalParser,
    begun: Vec<u8>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    tell: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    // So many bytes of the buffer have come and not gone.
    let mut filled = begun.len();
    let mut buffer = begun;
    buffer.resize(filled.max(BUFFER_LEN), 0);
    loop {
        if filled == buffer.len() {
            // Something long before the pages; how long it may be is the engine's to say.
            buffer.resize(2 * filled, 0);
        }
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::from_read_error(flow.offset() + filled as u64, error)),
        };
        filled += count;
        let taken = flow.feed(&buffer[..filled], count == 0)?;
        output
            .write_all(&buffer[..taken.forward])
            .map_err(Error::from_write_error)?;
        let gone = taken.forward + taken.buffered;
        buffer.copy_within(gone..filled, 0);
        filled -= gone;
        tell(flow.phase(), flow.offset());
        if count == 0 {
            output.flush().map_err(Error::from_write_error)?;
            return flow.finish();
        }
    }
}
