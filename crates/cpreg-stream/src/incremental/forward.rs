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
const BUFFER_LEN: usize = 256 << 10;

/// Received bytes that are neither forwarded nor buffered.
pub(super) struct PendingBytes {
    buffer: Vec<u8>,
    /// Number of received bytes in the buffer.
    filled: usize,
}

impl PendingBytes {
    /// Returns the buffer with these received bytes.
    pub(super) fn new(received: Vec<u8>) -> Self {
        let filled = received.len();
        let mut buffer = received;
        buffer.resize(filled.max(BUFFER_LEN), 0);
        Self { buffer, filled }
    }

    /// Returns the received bytes.
    pub(super) fn into_received(mut self) -> Vec<u8> {
        self.buffer.truncate(self.filled);
        self.buffer
    }

    /// Reads once, and passes the bytes that the parser forwards to `forward`. Returns `true` at
    /// the end of the input.
    ///
    /// # Errors
    /// Those of [`IncrementalParser::feed`], of reading, and of `forward`.
    pub(super) fn read_once(
        &mut self,
        input: &mut dyn Read,
        parser: &mut IncrementalParser,
        forward: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if self.filled == self.buffer.len() {
            // A long element precedes the pages; the parser limits its length.
            self.buffer.resize(2 * self.filled, 0);
        }
        let count = match input.read(&mut self.buffer[self.filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => {
                let offset = parser.offset() + self.filled as u64;
                return Err(Error::from_read_error(offset, error));
            }
        };
        self.filled += count;
        let consumed = parser.feed(&self.buffer[..self.filled], count == 0)?;
        forward(&self.buffer[..consumed.forward])?;
        let consumed_len = consumed.forward + consumed.buffered;
        self.buffer.copy_within(consumed_len..self.filled, 0);
        self.filled -= consumed_len;
        Ok(count == 0)
    }
}

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
    let mut pending = PendingBytes::new(pending);
    loop {
        let is_end = pending.read_once(input, &mut parser, &mut |bytes| {
            output.write_all(bytes).map_err(Error::from_write_error)
        })?;
        progress(parser.phase(), parser.offset());
        if is_end {
            output.flush().map_err(Error::from_write_error)?;
            return parser.finish();
        }
    }
}
