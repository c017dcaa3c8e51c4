//! [`Link`]: whole and undamaged messages over a byte stream that may lose, damage or delay bytes.
//!
//! A message is sent in packets. A damaged packet is not sent again: it ends the migration, which
//! costs only the time so far. Both ends send in turn, except for acknowledgements. The receiver
//! acknowledges every eighth packet and the sender waits for it, because a serial line without flow
//! control drops bytes for which the far end has no room.
//!
//! | bytes | field of a packet; integers are little-endian |
//! |---|---|
//! | 4 | `cpvm` |
//! | 4 | session, chosen by the opening end, which identifies leftovers on a serial line |
//! | 4 | number of the packet in its direction, from 0, not counting acknowledgements |
//! | 1 | kind: open, opened, part of a message, last part, acknowledgement |
//! | 1 | 0 |
//! | 2 | number of payload bytes, at most 4096 |
//! | … | payload |
//! | 4 | CRC-32 (IEEE) of all fields above |
//!
//! The content of messages lives in [`crate::protocol`]; byte streams live in [`crate::transport`].

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

/// A byte stream in both directions.
pub trait Transport {
    /// Reads at least one byte. Returns 0 only at the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if no byte arrived before the deadline, and any other I/O error.
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> io::Result<usize>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// As for [`Self::read`].
    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()>;
}

/// Failure to reach or understand the other end.
#[derive(Debug)]
pub enum LinkError {
    /// Nothing was received, or nothing could be sent, for this time.
    TimedOut(Duration),
    /// The other end closed the stream.
    Closed,
    /// Received bytes are damaged, or do not belong to this protocol.
    Corrupt(&'static str),
    /// A message exceeds this limit.
    TooLong(usize),
    /// The other end sent a message instead of receiving this one. It can be received now.
    Interrupted,
    /// The stream failed.
    Io(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(timeout) => write!(
                f,
                "the other end did not answer for {} seconds",
                timeout.as_secs()
            ),
            Self::Closed => f.write_str("the other end closed the connection"),
            Self::Corrupt(cause) => write!(f, "received damaged data: {cause}"),
            Self::TooLong(length) => write!(f, "a message exceeds the limit of {length} bytes"),
            Self::Interrupted => f.write_str("the other end sent a message out of turn"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for LinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

const MAGIC: [u8; 4] = *b"cpvm";
const HEADER_LEN: usize = 16;
const CHECKSUM_LEN: usize = 4;
/// Maximum number of payload bytes in one packet.
const MAX_PAYLOAD: usize = 4096;
/// Number of packets per acknowledgement. Together they fit into the 64 KiB that Linux buffers for
/// an unread serial line.
const WINDOW: u32 = 8;
/// Interval at which an opening end repeats its request.
const OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Maximum length of a message: the registers of 512 vCPUs with the longest vectors.
pub const MAX_MESSAGE: usize = 16 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
struct PacketKind(u8);

impl PacketKind {
    const OPEN: Self = Self(0);
    const OPENED: Self = Self(1);
    const PART: Self = Self(2);
    const LAST: Self = Self(3);
    const ACK: Self = Self(4);
}

struct Packet {
    session: u32,
    number: u32,
    kind: PacketKind,
    payload: Vec<u8>,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Link<L> {
    transport: L,
    session: u32,
    timeout: Duration,
    /// Limit in bytes per second.
    bandwidth: Option<NonZeroU32>,
    packets_sent: u32,
    packets_received: u32,
    /// Received bytes that are not parsed yet.
    read_buffer: Vec<u8>,
}

impl<L: Transport> Link<L> {
    /// Opens a session. Repeats the request until the other end answers.
    ///
    /// # Errors
    /// Returns an error if the other end does not answer within `timeout`, which is also the
    /// timeout for each later packet.
    pub fn open(transport: L, session: u32, timeout: Duration) -> Result<Self, LinkError> {
        let mut link = Self::new(transport, session, timeout);
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            link.write(PacketKind::OPEN, 0, &[])?;
            let until = deadline.min(Instant::now() + OPEN_RETRY_INTERVAL);
            if link.wait_for_packet(until, |packet| {
                packet.kind == PacketKind::OPENED && packet.session == session
            })? {
                return Ok(link);
            }
        }
        Err(LinkError::TimedOut(timeout))
    }

    /// Waits for the other end to open a session. Skips all other bytes.
    ///
    /// # Errors
    /// Returns an error if no session is opened within `open_timeout`.
    pub fn accept(
        transport: L,
        open_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, LinkError> {
        let mut link = Self::new(transport, 0, open_timeout);
        let mut session = None;
        let is_open = |packet: &Packet| {
            session = Some(packet.session);
            packet.kind == PacketKind::OPEN
        };
        if !link.wait_for_packet(Instant::now() + open_timeout, is_open)? {
            return Err(LinkError::TimedOut(open_timeout));
        }
        link.session = session.unwrap_or_default();
        link.timeout = timeout;
        link.write(PacketKind::OPENED, 0, &[])?;
        Ok(link)
    }

    fn new(transport: L, session: u32, timeout: Duration) -> Self {
        Self {
            transport,
            session,
            timeout,
            bandwidth: None,
            packets_sent: 0,
            packets_received: 0,
            read_buffer: Vec::new(),
        }
    }

    /// Returns the timeout for each packet.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Limits the bytes sent per second from now on.
    pub const fn set_bandwidth(&mut self, bandwidth: NonZeroU32) {
        self.bandwidth = Some(bandwidth);
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Returns an error if a failure to send it is detected.
    pub fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if message.len() > MAX_MESSAGE {
            return Err(LinkError::TooLong(MAX_MESSAGE));
        }
        let mut rest = message;
        loop {
            let (part, after) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            rest = after;
            let kind = if rest.is_empty() {
                PacketKind::LAST
            } else {
                PacketKind::PART
            };
            self.write(kind, self.packets_sent, part)?;
            self.packets_sent = self.packets_sent.wrapping_add(1);
            if self.packets_sent.is_multiple_of(WINDOW) {
                self.await_acknowledgement()?;
            }
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn await_acknowledgement(&mut self) -> Result<(), LinkError> {
        let packet = self.next(Instant::now() + self.timeout)?;
        match packet.kind {
            PacketKind::ACK if packet.number == self.packets_sent => Ok(()),
            PacketKind::PART | PacketKind::LAST => {
                let bytes = encode(packet.session, packet.number, packet.kind, &packet.payload);
                self.read_buffer.splice(0..0, bytes);
                Err(LinkError::Interrupted)
            }
            _ => Err(LinkError::Corrupt("an unexpected acknowledgement")),
        }
    }

    /// Receives a message.
    ///
    /// # Errors
    /// Returns an error if no packet arrived in time, or the message is not whole.
    pub fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut message = Vec::new();
        loop {
            let packet = self.next(Instant::now() + self.timeout)?;
            if packet.number != self.packets_received {
                return Err(LinkError::Corrupt("a packet is missing"));
            }
            if message.len() + packet.payload.len() > MAX_MESSAGE {
                return Err(LinkError::TooLong(MAX_MESSAGE));
            }
            message.extend_from_slice(&packet.payload);
            self.packets_received = self.packets_received.wrapping_add(1);
            if self.packets_received.is_multiple_of(WINDOW) {
                self.write(PacketKind::ACK, self.packets_received, &[])?;
            }
            match packet.kind {
                PacketKind::LAST => return Ok(message),
                PacketKind::PART => {}
                _ => return Err(LinkError::Corrupt("an unexpected acknowledgement")),
            }
        }
    }

    fn write(&mut self, kind: PacketKind, number: u32, payload: &[u8]) -> Result<(), LinkError> {
        let bytes = encode(self.session, number, kind, payload);
        if let Some(bandwidth) = self.bandwidth {
            // A packet has a few KiB.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            thread::sleep(Duration::from_secs(1) * length / bandwidth.get());
        }
        let deadline = Instant::now() + self.timeout;
        self.transport
            .write(&bytes, deadline)
            .map_err(|error| self.link_error(error))
    }

    /// Reads packets until one matches, skipping all else. Returns `false` at the deadline.
    fn wait_for_packet(
        &mut self,
        deadline: Instant,
        mut is_match: impl FnMut(&Packet) -> bool,
    ) -> Result<bool, LinkError> {
        loop {
            match decode(&self.read_buffer) {
                Ok(Some((packet, length))) => {
                    self.read_buffer.drain(..length);
                    if is_match(&packet) {
                        return Ok(true);
                    }
                }
                Ok(None) => {
                    if !self.fill(deadline)? {
                        return Ok(false);
                    }
                }
                Err(_) => {
                    self.read_buffer.remove(0);
                }
            }
        }
    }

    /// Returns the next packet of this session, except repeats of its opening.
    fn next(&mut self, deadline: Instant) -> Result<Packet, LinkError> {
        loop {
            match decode(&self.read_buffer).map_err(LinkError::Corrupt)? {
                Some((packet, length)) => {
                    self.read_buffer.drain(..length);
                    if packet.session != self.session {
                        return Err(LinkError::Corrupt("a packet of another session"));
                    }
                    if packet.kind != PacketKind::OPEN && packet.kind != PacketKind::OPENED {
                        return Ok(packet);
                    }
                }
                None => {
                    if !self.fill(deadline)? {
                        return Err(LinkError::TimedOut(self.timeout));
                    }
                }
            }
        }
    }

    /// Reads more bytes. Returns `false` at the deadline.
    fn fill(&mut self, deadline: Instant) -> Result<bool, LinkError> {
        let mut bytes = [0; HEADER_LEN + MAX_PAYLOAD + CHECKSUM_LEN];
        match self.transport.read(&mut bytes, deadline) {
            Ok(0) => Err(LinkError::Closed),
            Ok(length) => {
                self.read_buffer
                    .extend_from_slice(bytes.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(self.link_error(error)),
        }
    }

    fn link_error(&self, error: io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::TimedOut => LinkError::TimedOut(self.timeout),
            io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted => LinkError::Closed,
            _ => LinkError::Io(error),
        }
    }
}

fn encode(session: u32, number: u32, kind: PacketKind, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len() + CHECKSUM_LEN);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&session.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&[kind.0, 0]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Parses the packet at the beginning and returns its length. Returns `None` if it is incomplete.
fn decode(bytes: &[u8]) -> Result<Option<(Packet, usize)>, &'static str> {
    let magic = bytes.get(..MAGIC.len().min(bytes.len()));
    if magic != MAGIC.get(..MAGIC.len().min(bytes.len())) {
        return Err("not a packet of this protocol");
    }
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let word = |offset: usize| {
        let bytes = header
            .get(offset..offset + 4)
            .and_then(|word| word.first_chunk());
        bytes.map_or(0, |word| u32::from_le_bytes(*word))
    };
    let length = usize::from(u16::from_le_bytes([header[14], header[15]]));
    if length > MAX_PAYLOAD {
        return Err("a packet is too long");
    }
    let end = HEADER_LEN + length;
    let (Some(checked), Some(checksum)) = (bytes.get(..end), bytes.get(end..end + CHECKSUM_LEN))
    else {
        return Ok(None);
    };
    if checksum != crc32fast::hash(checked).to_le_bytes() {
        return Err("wrong checksum");
    }
    let packet = Packet {
        session: word(4),
        number: word(8),
        kind: PacketKind(header[12]),
        payload: checked.get(HEADER_LEN..).unwrap_or_default().to_vec(),
    };
    Ok(Some((packet, end + CHECKSUM_LEN)))
}
