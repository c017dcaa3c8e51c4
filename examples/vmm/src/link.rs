//! [`Link`]: messages, whole and undamaged, over a line of bytes that may lose, damage or delay them.
//!
//! A message is sent in packets. What is damaged is not sent again: it ends the migration, which costs nothing but the time so far. Both
//! ends speak in turn, except that a receiver of packets acknowledges each eighth, and the sender waits for that: a serial line
//! without flow control loses what the far end has no room for.
//!
//! | bytes | of a packet; integers are little-endian |
//! |---|---|
//! | 4 | `cpvm` |
//! | 4 | the session, chosen by the end that opens it: what is left on a serial line from an earlier one is told by it |
//! | 4 | the packet's number in its direction, from 0; acknowledgements are not counted |
//! | 1 | its kind: open, opened, part of a message, the last part, acknowledgement |
//! | 1 | 0 |
//! | 2 | how many bytes follow, at most 4096 |
//! | … | these bytes |
//! | 4 | CRC-32 (IEEE) of all of it |
//!
//! What a message says lives in [`crate::protocol`]; lines, in [`crate::transport`].

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

/// A line of bytes, both ways.
pub trait Transport {
    /// Reads at least one byte; none only at the end of the line.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] if none came in time, and whatever else may go wrong.
    fn read(&mut self, bytes: &mut [u8], deadline: Instant) -> io::Result<usize>;

    /// Writes all of them.
    ///
    /// # Errors
    /// As for [`Self::read`].
    fn write(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<()>;
}

/// The other end could not be understood or reached.
#[derive(Debug)]
pub enum LinkError {
    /// Nothing came, or nothing could be sent, for so long.
    TimedOut(Duration),
    /// The line was closed.
    Closed,
    /// What came is damaged, or not of this protocol.
    Corrupt(&'static str),
    /// A message is longer than the most that is taken.
    TooLong(usize),
    /// The other end has something to say instead: receive it.
    Interrupted,
    /// The line failed.
    Io(io::Error),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(timeout) => write!(
                f,
                "the other end was silent for {} seconds",
                timeout.as_secs()
            ),
            Self::Closed => f.write_str("the other end closed the connection"),
            Self::Corrupt(what) => write!(f, "what came over the connection is damaged: {what}"),
            Self::TooLong(length) => write!(
                f,
                "a message has more than {length} bytes, the most that is taken"
            ),
            Self::Interrupted => f.write_str("the other end did not wait for the end of a message"),
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
/// The most bytes of a message in one packet.
const MAX_PAYLOAD: usize = 4096;
/// Packets until an acknowledgement is waited for: together they fit in what Linux keeps for a serial line that nobody reads, 64 KiB.
const WINDOW: u32 = 8;
/// How often an end that waits for the other one calls.
const OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// The most bytes that a message may have: the registers of 512 vCPUs with the longest vectors.
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

/// One end of it.
#[derive(Debug)]
pub struct Link<L> {
    transport: L,
    session: u32,
    timeout: Duration,
    /// Bytes in a second, if it is not to be faster.
    bandwidth: Option<NonZeroU32>,
    packets_sent: u32,
    packets_received: u32,
    /// What was read and not taken apart yet.
    read_buffer: Vec<u8>,
}

impl<L: Transport> Link<L> {
    /// Opens a session, calling until the other end answers.
    ///
    /// # Errors
    /// If it does not within `timeout`, which is also what is waited for each packet from then on.
    pub fn open(line: L, session: u32, timeout: Duration) -> Result<Self, LinkError> {
        let mut link = Self::new(line, session, timeout);
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

    /// Waits for the other end to open a session; passes over whatever else comes.
    ///
    /// # Errors
    /// If none is opened within `patience`.
    pub fn accept(line: L, patience: Duration, timeout: Duration) -> Result<Self, LinkError> {
        let mut link = Self::new(line, 0, patience);
        let mut session = None;
        let is_open = |packet: &Packet| {
            session = Some(packet.session);
            packet.kind == PacketKind::OPEN
        };
        if !link.wait_for_packet(Instant::now() + patience, is_open)? {
            return Err(LinkError::TimedOut(patience));
        }
        link.session = session.unwrap_or_default();
        link.timeout = timeout;
        link.write(PacketKind::OPENED, 0, &[])?;
        Ok(link)
    }

    fn new(line: L, session: u32, timeout: Duration) -> Self {
        Self {
            transport: line,
            session,
            timeout,
            bandwidth: None,
            packets_sent: 0,
            packets_received: 0,
            read_buffer: Vec::new(),
        }
    }

    /// How long it waits for each packet.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// From now on it sends at most so many bytes in a second, and leaves the rest of the line to others.
    pub const fn set_bandwidth(&mut self, bandwidth: NonZeroU32) {
        self.bandwidth = Some(bandwidth);
    }

    /// Sends a message.
    ///
    /// # Errors
    /// If it did not get through, as far as that is known.
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
            _ => Err(LinkError::Corrupt("an acknowledgement of something else")),
        }
    }

    /// Receives a message.
    ///
    /// # Errors
    /// If none came in time, or what came is not whole.
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
                _ => return Err(LinkError::Corrupt("an acknowledgement of nothing")),
            }
        }
    }

    fn write(&mut self, kind: PacketKind, number: u32, payload: &[u8]) -> Result<(), LinkError> {
        let bytes = encode(self.session, number, kind, payload);
        if let Some(bandwidth) = self.bandwidth {
            // A packet is a few KiB.
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            thread::sleep(Duration::from_secs(1) * length / bandwidth.get());
        }
        let deadline = Instant::now() + self.timeout;
        self.transport
            .write(&bytes, deadline)
            .map_err(|error| self.link_error(error))
    }

    /// Reads what comes, whatever it is, until a packet is the right one; false if none was in time.
    fn wait_for_packet(
        &mut self,
        deadline: Instant,
        mut is_right: impl FnMut(&Packet) -> bool,
    ) -> Result<bool, LinkError> {
        loop {
            match decode(&self.read_buffer) {
                Ok(Some((packet, length))) => {
                    self.read_buffer.drain(..length);
                    if is_right(&packet) {
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

    /// The next packet of this session that is no echo of its opening.
    fn next(&mut self, deadline: Instant) -> Result<Packet, LinkError> {
        loop {
            match decode(&self.read_buffer).map_err(LinkError::Corrupt)? {
                Some((packet, length)) => {
                    self.read_buffer.drain(..length);
                    if packet.session != self.session {
                        return Err(LinkError::Corrupt("it is of another session"));
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

    /// Reads more; false if nothing came in time.
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
    let check = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

/// Takes the packet at the beginning and how long it is; `None` if there is more to come.
fn decode(bytes: &[u8]) -> Result<Option<(Packet, usize)>, &'static str> {
    let magic = bytes.get(..MAGIC.len().min(bytes.len()));
    if magic != MAGIC.get(..MAGIC.len().min(bytes.len())) {
        return Err("it is no packet of this protocol");
    }
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let word = |at: usize| {
        let bytes = header.get(at..at + 4).and_then(|word| word.first_chunk());
        bytes.map_or(0, |word| u32::from_le_bytes(*word))
    };
    let length = usize::from(u16::from_le_bytes([header[14], header[15]]));
    if length > MAX_PAYLOAD {
        return Err("a packet is too long");
    }
    let end = HEADER_LEN + length;
    let (Some(checked), Some(check)) = (bytes.get(..end), bytes.get(end..end + CHECKSUM_LEN))
    else {
        return Ok(None);
    };
    if check != crc32fast::hash(checked).to_le_bytes() {
        return Err("its check sum is wrong");
    }
    let packet = Packet {
        session: word(4),
        number: word(8),
        kind: PacketKind(header[12]),
        payload: checked.get(HEADER_LEN..).unwrap_or_default().to_vec(),
    };
    Ok(Some((packet, end + CHECKSUM_LEN)))
}
