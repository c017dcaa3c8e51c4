//! [`Packed`]: a stream as text, gzip in base64.

use std::io::{self, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cpreg::register::parse_hexadecimal;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::model::Packed;
use crate::error::Error;

/// Packing of the stream.
const PACKING: &str = "gzip, base64";
/// More than any stream without RAM has; 4 vCPUs take 60 KB.
pub(super) const MOST_BYTES: u64 = 256 << 20;
/// Characters of a line of base64.
const LINE: usize = 96;

impl Packed {
    /// Packs a stream.
    pub(super) fn new(stream: &[u8]) -> Result<Self, Error> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let packed = encoder
            .write_all(stream)
            .and_then(|()| encoder.finish())
            .map_err(Error::packing)?;
        let text = STANDARD.encode(&packed);
        let lines = text.as_bytes().chunks(LINE);
        let lines = lines.map(|line| String::from_utf8_lossy(line).into_owned());
        Ok(Self {
            packing: PACKING.to_owned(),
            length: format!("{:#x}", stream.len()),
            data: lines.collect(),
        })
    }

    /// Unpacks the stream while it is read. Reading fails if it is not as long as it says.
    pub(super) fn stream(&self) -> Result<impl Read + use<>, Error> {
        if self.packing != PACKING {
            let what = format!(
                "holds `{}`, where this cpreg reads `{PACKING}`",
                self.packing
            );
            return Err(Error::member("stream.packing", what));
        }
        let length = parse_hexadecimal(&self.length).ok_or_else(|| {
            let what = format!("holds `{}`, which is no length", self.length);
            Error::member("stream.length", what)
        })?;
        if length > MOST_BYTES {
            let what = format!("holds {length:#x}, and {MOST_BYTES:#x} is the most");
            return Err(Error::member("stream.length", what));
        }
        let packed = STANDARD.decode(self.data.concat()).map_err(|_| {
            Error::member(
                "stream.data",
                "is no base64: it is damaged or not all there",
            )
        })?;
        Ok(Exactly {
            inside: GzDecoder::new(io::Cursor::new(packed)),
            left: length,
        })
    }
}

/// Reads so many bytes, and fails if there are fewer or more.
struct Exactly<R> {
    inside: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inside.read(buffer)?;
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        match self.left.checked_sub(count as u64) {
            None => wrong("the stream in the report is longer than it says"),
            Some(left) if count == 0 && left != 0 => {
                wrong("the stream in the report is shorter than it says")
            }
            Some(left) => {
                self.left = left;
                Ok(count)
            }
        }
    }
}
