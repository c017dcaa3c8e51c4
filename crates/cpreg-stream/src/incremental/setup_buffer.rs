//! [`SetupBuffer`]: the beginning of a stream, read before anything is forwarded.
//!
//! The caller can thus refuse a VM by its machine and RAM while the output is still empty.

use std::io::{Read, Write};

use super::forward::PendingBytes;
use super::parser::IncrementalParser;
use super::phase::Phase;
use super::setup::StreamSetup;
use crate::error::Error;

/// Received beginning of a stream, up to the list of RAM blocks or further.
#[derive(Debug)]
pub struct SetupBuffer {
    setup: Option<StreamSetup>,
    parser: IncrementalParser,
    /// Bytes that the parser would have forwarded.
    prefix: Vec<u8>,
    /// Received bytes that are neither in the prefix nor buffered.
    pending: Vec<u8>,
}

impl SetupBuffer {
    /// Reads until the stream's setup is known, or until data of a live section arrives.
    ///
    /// # Errors
    /// Those of [`IncrementalParser::feed`] and of reading.
    pub fn read(input: &mut dyn Read) -> Result<Self, Error> {
        let mut parser = IncrementalParser::new();
        let mut prefix = Vec::new();
        let mut pending = PendingBytes::new(Vec::new());
        loop {
            pending.read_once(input, &mut parser, &mut |bytes| {
                prefix.extend_from_slice(bytes);
                Ok(())
            })?;
            let setup = parser.setup();
            // The parser limits the length of the setup, but not that of live sections.
            if setup.is_some() || parser.phase() >= Phase::Ram {
                return Ok(Self {
                    setup,
                    parser,
                    prefix,
                    pending: pending.into_received(),
                });
            }
        }
    }

    /// Returns the data about the VM in front of RAM's pages. `None` if the list of RAM blocks is
    /// empty, or follows data of a live section. QEMU sends no such stream.
    pub fn setup(&self) -> Option<&StreamSetup> {
        self.setup.as_ref()
    }

    /// Writes the bytes that precede the pending ones. Returns the parser, and the pending bytes
    /// for [`resume_forward`](super::resume_forward).
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(self, output: &mut dyn Write) -> Result<(IncrementalParser, Vec<u8>), Error> {
        output
            .write_all(&self.prefix)
            .map_err(Error::from_write_error)?;
        Ok((self.parser, self.pending))
    }
}
