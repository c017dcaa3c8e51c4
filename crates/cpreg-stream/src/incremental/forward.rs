//! [`forward`]: forwards a stream from a reader to a writer and buffers its device state.
//!
//! The same buffer serves reads and writes. Only the beginning of an incomplete record moves inside
//! it. [`super::parser`] decides which bytes to forward.

use std::io::{self, Read, Write};

use super::device_state_buffer::DeviceStateBuffer;
use super::parser::IncrementalParser;
use super::phase::Phase;
use crate::error::Error;

/// Length of the buffer; its content stays in the processor's cache until it is written.
pub(super) const BUFFER_LEN: usize = 256 << 10;

/// Forwards a stream from `input` to `output` up to its device state, which this function buffers.
///
/// Calls `progress` after each read, with the phase and the number of bytes consumed.
///
/// # Errors
/// Those of [`IncrementalParser::feed`] and [`IncrementalParser::finish`], and of reading and
/// writing. The output is not a complete stream after an error.
pub fn forward(
    input: &mut dyn Read,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    resume_forward(
        IncrementalParser::new(),
        Vec::new(),
        input,
        output,
        progress,
    )
}

/// Forwards the rest of a stream after `parser` has read a part of it.
///
/// `pending` holds received bytes that are neither forwarded nor buffered.
///
/// # Errors
/// Those of [`forward`].
pub fn resume_forward(
    mut parser: IncrementalParser,
    pending: Vec<u8>,
    input: &mut dyn Read,
    output: &mut dyn Write,
    progress: &mut dyn FnMut(Phase, u64),
) -> Result<DeviceStateBuffer, Error> {
    // Number of received bytes in the buffer.
    let mut filled = pending.len();
    let mut buffer = pending;
    buffer.resize(filled.max(BUFFER_LEN), 0);
    loop {
        if filled == buffer.len() {
            // A long element precedes the pages; the parser limits its length.
            buffer.resize(2 * filled, 0);
        }
        let count = match input.read(&mut buffer[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(Error::from_read_error(
                    parser.offset() + filled as u64,
                    error,
                ));
            }
        };
        filled += count;
        let consumed = parser.feed(&buffer[..filled], count == 0)?;
        output
            .write_all(&buffer[..consumed.forward])
            .map_err(Error::from_write_error)?;
        let consumed_len = consumed.forward + consumed.buffered;
        buffer.copy_within(consumed_len..filled, 0);
        filled -= consumed_len;
        progress(parser.phase(), parser.offset());
        if count == 0 {
            output.flush().map_err(Error::from_write_error)?;
            return parser.finish();
        }
    }
}
