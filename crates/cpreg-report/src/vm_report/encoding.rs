//! [`EncodedStream`]: a stream as text, compressed with gzip and encoded in base64.

use std::io::{self, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cpreg::register::parse_hexadecimal;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::model::EncodedStream;
use crate::error::Error;

/// Name of the encoding, in member `encoding` of the stream.
const STREAM_ENCODING: &str = "gzip, base64";
/// Maximum length of a stream without RAM, in bytes. A VM with 4 vCPUs needs 60 KB.
pub(super) const MAX_STREAM_LEN: u64 = 256 << 20;
/// Number of base64 characters in a line.
const BASE64_LINE_LEN: usize = 96;

impl EncodedStream {
    /// Compresses a stream.
    pub(super) fn new(stream: &[u8]) -> Result<Self, Error> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let compressed = encoder
            .write_all(stream)
            .and_then(|()| encoder.finish())
            .map_err(Error::encoding)?;
        let text = STANDARD.encode(&compressed);
        let lines = text.as_bytes().chunks(BASE64_LINE_LEN);
        let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
        Ok(Self {
            encoding: STREAM_ENCODING.to_owned(),
            length: format!("{:#x}", stream.len()),
            data: lines.collect(),
        })
    }

    /// Returns a reader that decompresses the stream. Reading fails if the decompressed length
    /// differs from member `length`.
    pub(super) fn stream(&self) -> Result<impl Read + use<>, Error> {
        if self.encoding != STREAM_ENCODING {
            let problem = format!(
                "is `{}`, and this cpreg reads `{STREAM_ENCODING}`",
                self.encoding
            );
            return Err(Error::invalid_member("stream.encoding", problem));
        }
        let length = parse_hexadecimal(&self.length).ok_or_else(|| {
            let problem = format!("is `{}`, which is not a length", self.length);
            Error::invalid_member("stream.length", problem)
        })?;
        if length > MAX_STREAM_LEN {
            let problem = format!("is {length:#x}, and the maximum is {MAX_STREAM_LEN:#x}");
            return Err(Error::invalid_member("stream.length", problem));
        }
        let compressed = STANDARD.decode(self.data.concat()).map_err(|_| {
            Error::invalid_member(
                "stream.data",
                "is not base64: the report is damaged or truncated",
            )
        })?;
        Ok(ExactReader {
            inner: GzDecoder::new(io::Cursor::new(compressed)),
            remaining: length,
        })
    }
}

/// Reader that fails if the inner reader has fewer or more bytes than `remaining`.
struct ExactReader<R> {
    inner: R,
    remaining: u64,
}

impl<R: Read> Read for ExactReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        let fail = |problem| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        match self.remaining.checked_sub(count as u64) {
            None => fail("the stream in the report is longer than its `length`"),
            Some(remaining) if count == 0 && remaining != 0 => {
                fail("the stream in the report is shorter than its `length`")
            }
            Some(remaining) => {
                self.remaining = remaining;
                Ok(count)
            }
        }
    }
}
