//! [`EncodedStream`]: a stream as text, gzip in base64.

use std::io::{self, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cpreg::register::parse_hexadecimal;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::model::EncodedStream;
use crate::error::Error;

/// Packing of the stream.
const STREAM_ENCODING: &str = "gzip, base64";
/// More than any stream without RAM has; 4 vCPUs take 60 KB.
pub(super) const MAX_STREAM_LEN: u64 = 256 << 20;
/// Characters of a line of base64.
const BASE64_LINE_LEN: usize = 96;

impl EncodedStream {
    /// Packs a stream.
    pub(super) fn new(stream: &[u8]) -> Result<Self, Error> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder
            .write_all(stream)
            .and_then(|()| encoder.finish())
            .map_err(Error::encoding)?;
        let text = STANDARD.encode(&packed);
        let lines = text.as_bytes().chunks(BASE64_LINE_LEN);
        let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
        Ok(Self {
            encoding: STREAM_ENCODING.to_owned(),
            length: format!("{:#x}", stream.len()),
            data: lines.collect(),
        })
    }

    /// Unpacks the stream while it is read. Reading fails if it is not as long as it says.
    pub(super) fn stream(&self) -> Result<impl Read + use<>, Error> {
        if self.encoding != STREAM_ENCODING {
            let what = format!(
                "holds `{}`, where this cpreg reads `{STREAM_ENCODING}`",
                self.encoding
            );
            return Err(Error::invalid_member("stream.encoding", what));
        }
        let length = parse_hexadecimal(&self.length).ok_or_else(|| {
            let what = format!("holds `{}`, which is no length", self.length);
            Error::invalid_member("stream.length", what)
        })?;
        if length > MAX_STREAM_LEN {
            let what = format!("holds {length:#x}, and {MAX_STREAM_LEN:#x} is the most");
            return Err(Error::invalid_member("stream.length", what));
        }
        let packed = STANDARD.decode(self.data.concat()).map_err(|_| {
            Error::invalid_member(
                "stream.data",
                "is no base64: it is damaged or not all there",
            )
        })?;
        Ok(ExactReader {
            inner: GzDecoder::new(io::Cursor::new(packed)),
            remaining: length,
        })
    }
}

/// Reads so many bytes, and fails if there are fewer or more.
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
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        match self.remaining.checked_sub(count as u64) {
            None => wrong("the stream in the report is longer than it says"),
            Some(left) if count == 0 && left != 0 => {
                wrong("the stream in the report is shorter than it says")
            }
            Some(left) => {
                self.remaining = left;
                Ok(count)
            }
        }
    }
}
