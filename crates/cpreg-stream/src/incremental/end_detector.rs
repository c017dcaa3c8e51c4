//! [`EndDetector`]: detects the end of a stream with a description.
//!
//! A QEMU that waits for an answer does not close its connection after the last byte. The bytes
//! alone must therefore show the end: EOF, the type of a description, its length, and JSON of that
//! length. A guest can write such bytes into its devices, so a match is only a hint. The caller
//! opens the stream after a match, and waits for more bytes if the stream does not open.

/// Bytes of EOF and of the type of a description.
const END_MARK: [u8; 2] = [0, 6];
/// Length of the mark, the length field, and the first byte of the text.
const END_MARK_LEN: usize = 2 + 4 + 1;
/// Maximum number of candidates; each candidate costs the caller one attempt at most.
const MAX_CANDIDATES: usize = 64;

/// Detector of the offsets where a stream may end.
#[derive(Debug, Default)]
pub(super) struct EndDetector {
    /// Number of bytes searched so far.
    searched_len: usize,
    /// Lengths at which the stream may be complete.
    candidate_lengths: Vec<usize>,
}

impl EndDetector {
    /// Searches the new bytes of the buffered device state.
    pub(super) fn search(&mut self, device_state: &[u8]) {
        self.candidate_lengths
            .retain(|length| *length >= device_state.len());
        let Some(last) = device_state.len().checked_sub(END_MARK_LEN) else {
            return;
        };
        while self.searched_len <= last {
            let Some(found) = device_state[self.searched_len..=last + 1]
                .windows(2)
                .position(|bytes| bytes == END_MARK)
            else {
                self.searched_len = last + 1;
                return;
            };
            let at = self.searched_len + found;
            self.searched_len = at + 1;
            let [a, b, c, d, first] = [2, 3, 4, 5, 6].map(|offset| device_state[at + offset]);
            let length = u32::from_be_bytes([a, b, c, d]);
            let end = usize::try_from(length)
                .ok()
                .and_then(|length| length.checked_add(at + END_MARK_LEN - 1));
            if let (b'{', Some(end), true) =
                (first, end, self.candidate_lengths.len() < MAX_CANDIDATES)
                && end >= device_state.len()
            {
                self.candidate_lengths.push(end);
            }
        }
    }

    /// Returns `true` if a stream with `length` bytes of device state may be complete.
    pub(super) fn can_end_at(&self, length: usize) -> bool {
        self.candidate_lengths.contains(&length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EOF and a description of eight bytes.
    const END: &[u8] = b"\0\x06\0\0\0\x08{\"a\":12}";

    #[test]
    fn end_is_detected_in_pieces_of_every_size() {
        let stream = [b"\x04devices\0\0\x06", END].concat();
        for size in 1..stream.len() {
            let mut detector = EndDetector::default();
            for end in (size..stream.len()).step_by(size).chain([stream.len()]) {
                detector.search(&stream[..end]);
                assert_eq!(detector.can_end_at(end), end == stream.len(), "{size}");
            }
        }
    }

    #[test]
    fn more_bytes_after_a_possible_end_withdraw_it() {
        let mut detector = EndDetector::default();
        let stream = [END, b"more", END].concat();
        detector.search(&stream[..END.len()]);
        assert!(detector.can_end_at(END.len()));
        detector.search(&stream[..END.len() + 2]);
        assert!(!detector.can_end_at(END.len() + 2));
        detector.search(&stream);
        assert!(detector.can_end_at(stream.len()));
    }

    #[test]
    fn candidates_are_bounded() {
        let mut detector = EndDetector::default();
        let stream = b"\0\x06\x7f\0\0\0{".repeat(10_000);
        detector.search(&stream);
        assert_eq!(detector.candidate_lengths.len(), MAX_CANDIDATES);
    }
}
