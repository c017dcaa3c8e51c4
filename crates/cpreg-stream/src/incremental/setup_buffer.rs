//! [`SetupBuffer`]: the beginning of a stream, read before anything is forwarded.
//!
//! The caller can thus refuse a VM by its machine and RAM while the output is still empty.

use std::io::{self, Read, Write};

use super::forward::BUFFER_LEN;
use super::parser::IncrementalParser;
use super::setup::StreamSetup;
use crate::error::Error;

/// Received beginning of a stream, up to the list of RAM blocks or further.
#[derive(Debug)]
pub struct SetupBuffer {
    setup: StreamSetup,
    parser: IncrementalParser,
    /// Bytes that the parser forwards.
    forwarded: Vec<u8>,
    /// Received bytes that are neither forwarded nor buffered.
    pending: Vec<u8>,
}

impl SetupBuffer {
    /// Reads until the stream's setup is known.
    ///
    /// # Errors
    /// Those of [`IncrementalParser::feed`] and of reading.
    pub fn read(input: &mut dyn Read) -> Result<Self, Error> {
        let mut parser = IncrementalParser::new();
        let mut forwarded = Vec::new();
        let mut pending = Vec::new();
        let mut filled = 0;
        loop {
            if filled == pending.len() {
                pending.resize((2 * filled).max(BUFFER_LEN), 0);
            }
            let count = match input.read(&mut pending[filled..]) {
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
            let consumed = parser.feed(&pending[..filled], count == 0)?;
            forwarded.extend_from_slice(&pending[..consumed.forward]);
            let consumed_len = consumed.forward + consumed.buffered;
            pending.copy_within(consumed_len..filled, 0);
            filled -= consumed_len;
            if let Some(setup) = parser.setup() {
                pending.truncate(filled);
                return Ok(Self {
                    setup,
                    parser,
                    forwarded,
                    pending,
                });
            }
        }
    }

    /// Returns the data about the VM in front of RAM's pages.
    pub fn setup(&self) -> &StreamSetup {
        &self.setup
    }

    /// Writes the bytes that precede the pending ones. Returns the parser, and the pending bytes
    /// for [`resume_forward`](super::resume_forward).
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(self, output: &mut dyn Write) -> Result<(IncrementalParser, Vec<u8>), Error> {
        output
            .write_all(&self.forwarded)
            .map_err(Error::from_write_error)?;
        Ok((self.parser, self.pending))
    }
}
