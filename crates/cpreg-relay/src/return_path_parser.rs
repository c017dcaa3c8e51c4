//! [`Answers`]: what the destination says on the return path, and where one message ends and the next begins.
//!
//! | type | what | |
//! |---|---|---|
//! | 1 SHUT | u32: 0, or what went wrong | the last: the destination has loaded everything, or failed |
//! | 2 PONG | u32 | the answer to a PING |
//! | 3 to 7 | pages, bitmaps, acknowledgements | passed on |
//!
//! A message is a type and a length, both u16, big-endian, and so many bytes (QEMU `migration/migration.c`, 5.2 to 11.1). None is changed; the relay
//! puts one of its own between two of them to refuse a VM.

const MIG_RP_MSG_SHUT: u16 = 1;
/// QEMU takes no longer one.
const MAX_MESSAGE_LEN: u16 = 512;

/// A SHUT that says that loading failed.
pub(super) const SHUT_ERROR: [u8; 8] = [0, 1, 0, 4, 0, 0, 0, 1];

/// How far the answers have come.
#[derive(Debug, Default)]
pub(super) struct ReturnPathParser {
    /// What has come of the message's header and of a SHUT's payload.
    partial_message: Vec<u8>,
    /// So many bytes of the payload are missing.
    payload_remaining: usize,
    shut: Option<u32>,
    /// What comes is none of these messages.
    is_desynchronized: bool,
}

impl ReturnPathParser {
    /// Goes over what comes next.
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
                let (some, rest) = bytes.split_at(count);
                self.partial_message.extend_from_slice(some);
                self.payload_remaining -= count;
                bytes = rest;
            }
            if self.partial_message.len() >= 4 && self.payload_remaining == 0 {
                self.message();
            }
        }
    }

    fn message(&mut self) {
        if let [high, low, 0, 4, a, b, c, d] = self.partial_message[..]
            && u16::from_be_bytes([high, low]) == MIG_RP_MSG_SHUT
        {
            self.shut = Some(u32::from_be_bytes([a, b, c, d]));
        }
        self.partial_message.clear();
    }

    /// What the destination's SHUT said, if it came.
    pub(super) fn shut(&self) -> Option<u32> {
        self.shut
    }

    /// Whether a message of our own can stand here.
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
            let mut answers = ReturnPathParser::default();
            for piece in SAMPLE_STREAM.chunks(size) {
                assert_eq!(answers.shut(), None);
                answers.feed(piece);
            }
            assert_eq!(answers.shut(), Some(0), "{size}");
            assert!(answers.is_at_message_boundary());
        }
        let mut answers = ReturnPathParser::default();
        answers.feed(&SAMPLE_STREAM[..10]);
        assert!(!answers.is_at_message_boundary());
    }

    #[test]
    fn our_own_says_that_it_failed() {
        let mut answers = ReturnPathParser::default();
        answers.feed(&SHUT_ERROR);
        assert_eq!(answers.shut(), Some(1));
    }

    #[test]
    fn what_is_no_message_is_not_gone_over() {
        let mut answers = ReturnPathParser::default();
        answers.feed(&[0xff; 100]);
        answers.feed(SAMPLE_STREAM);
        assert!(answers.shut().is_none() && !answers.is_at_message_boundary());
    }
}
