//! [`ReturnPathParser`]: message boundaries and the SHUT value of the return path.
//!
//! | type | payload | meaning |
//! |---|---|---|
//! | 1 SHUT | u32: 0 or an error | last message: the destination has loaded the VM or failed |
//! | 2 PONG | u32 | reply to a PING |
//! | 3 to 7 | pages, bitmaps, acknowledgements | forwarded only |
//!
//! A message is a type and a length, both big-endian u16, followed by the payload of that length
//! (QEMU `migration/migration.c`, 5.2 to 11.1). The relay changes no message. To reject a VM, it
//! inserts one of its own between two messages.

const MIG_RP_MSG_SHUT: u16 = 1;
/// Maximum length in bytes of a payload that QEMU accepts.
const MAX_MESSAGE_LEN: u16 = 512;

/// SHUT message with the value 1, which reports a failed load.
pub(super) const SHUT_ERROR: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// Incremental parser of the return path.
#[derive(Debug, Default)]
pub(super) struct ReturnPathParser {
    /// Bytes received so far of a message's header and of a SHUT's payload.
    partial_message: Vec<u8>,
    /// Number of bytes of the current payload not yet received.
    payload_remaining: usize,
    shut: Option<u32>,
    /// `true` after an invalid message, when message boundaries are no longer known.
    is_desynchronized: bool,
}

impl ReturnPathParser {
    /// Parses the next bytes of the return path.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let (Some((first, rest)), false) = (bytes.split_first(), self.is_desynchronized) {
            if self.partial_message.len() < 4 {
                self.partial_message.push(*first);
                bytes = rest;
                if let [_, _, high, low] = self.partial_message[..] {
                    let length = u16::from_be_bytes([high, low]);
                    self.is_desynchronized = length > MAX_MESSAGE_LEN;
                    self.payload_remaining = length.into();
                }
            } else {
                let count = self.payload_remaining.min(bytes.len());
                let (payload, rest) = bytes.split_at(count);
                self.partial_message.extend_from_slice(payload);
                self.payload_remaining -= count;
                bytes = rest;
            }
            if self.partial_message.len() >= 4 && self.payload_remaining == 0 {
                self.end_message();
            }
        }
    }

    fn end_message(&mut self) {
        if let [high, low, 0, 4, a, b, c, d] = self.partial_message[..]
            && u16::from_be_bytes([high, low]) == MIG_RP_MSG_SHUT
        {
            self.shut = Some(u32::from_be_bytes([a, b, c, d]));
        }
        self.partial_message.clear();
    }

    /// Returns the value of the destination's SHUT; `None` if it has not arrived.
    pub(super) fn shut(&self) -> Option<u32> {
        self.shut
    }

    /// Returns `true` if the relay can insert a message after the bytes parsed so far.
    pub(super) fn is_at_message_boundary(&self) -> bool {
        self.partial_message.is_empty() && !self.is_desynchronized
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PONG 1, a request for a page, SHUT 0.
    const SAMPLE_STREAM: &[u8] =
        b"\0\x02\0\x04\0\0\0\x01\0\x04\0\x0c\0\0\0\0\0\0\x10\0\0\0\x10\0\0\x01\0\x04\0\0\0\0";

    #[test]
    fn messages_in_pieces_of_every_size() {
        for size in 1..=SAMPLE_STREAM.len() {
            let mut parser = ReturnPathParser::default();
            for piece in SAMPLE_STREAM.chunks(size) {
                assert_eq!(parser.shut(), None);
                parser.feed(piece);
            }
            assert_eq!(parser.shut(), Some(0), "{size}");
            assert!(parser.is_at_message_boundary());
        }
        let mut parser = ReturnPathParser::default();
        parser.feed(&SAMPLE_STREAM[..10]);
        assert!(!parser.is_at_message_boundary());
    }

    #[test]
    fn shut_error_reports_a_failure() {
        let mut parser = ReturnPathParser::default();
        parser.feed(&SHUT_ERROR);
        assert_eq!(parser.shut(), Some(1));
    }

    #[test]
    fn parser_stops_at_an_invalid_message() {
        let mut parser = ReturnPathParser::default();
        parser.feed(&[0xff; 100]);
        parser.feed(SAMPLE_STREAM);
        assert!(parser.shut().is_none() && !parser.is_at_message_boundary());
    }
}
