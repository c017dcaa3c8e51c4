//! [`EndDetector`]: whether what has come so far ends as a stream with a description does.
//!
//! A QEMU that waits for an answer does not close its connection behind the last byte, so its end must be seen in what it sent: EOF,
//! the type of a description, its length, and JSON of that length. A guest can write such bytes into its devices, so this is a sign and
//! no more: whoever sees it opens the stream, and waits for more if that fails.

/// EOF, and the type of a description.
const END_MARK: [u8; 2] = [0, 6];
/// The mark, the length, and the first byte of the text.
const END_MARK_LEN: usize = 2 + 4 + 1;
/// More marks that may still fit are not remembered: each costs a try at most.
const MAX_CANDIDATES: usize = 64;

/// Where a stream may end, by what has come of it.
#[derive(Debug, Default)]
pub(super) struct EndDetector {
    /// So many bytes have been searched.
    searched_len: usize,
    /// The lengths that would make it complete.
    candidate_lengths: Vec<usize>,
}

impl EndDetector {
    /// Searches what is new in all that has been held back.
    pub(super) fn search(&mut self, held: &[u8]) {
        self.candidate_lengths
            .retain(|length| *length >= held.len());
        let Some(last) = held.len().checked_sub(END_MARK_LEN) else {
            return;
        };
        while self.searched_len <= last {
            let Some(found) = held[self.searched_len..=last + 1]
                .windows(2)
                .position(|bytes| bytes == END_MARK)
            else {
                self.searched_len = last + 1;
                return;
            };
            let at = self.searched_len + found;
            self.searched_len = at + 1;
            let [a, b, c, d, first] = [2, 3, 4, 5, 6].map(|offset| held[at + offset]);
            let length = u32::from_be_bytes([a, b, c, d]);
            let end = usize::try_from(length)
                .ok()
                .and_then(|length| length.checked_add(at + END_MARK_LEN - 1));
            if let (b'{', Some(end), true) =
                (first, end, self.candidate_lengths.len() < MAX_CANDIDATES)
                && end >= held.len()
            {
                self.candidate_lengths.push(end);
            }
        }
    }

    /// Whether a stream of which so many bytes were held back may be complete.
    pub(super) fn can_end_at(&self, held: usize) -> bool {
        self.candidate_lengths.contains(&held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description of eight bytes behind EOF.
    const END: &[u8] = b"\0\x06\0\0\0\x08{\"a\":12}";

    #[test]
    fn the_end_is_seen_at_the_end_in_pieces_of_every_size() {
        let stream = [b"\x04devices\0\0\x06", END].concat();
        for size in 1..stream.len() {
            let mut ending = EndDetector::default();
            for end in (size..stream.len()).step_by(size).chain([stream.len()]) {
                ending.search(&stream[..end]);
                assert_eq!(ending.can_end_at(end), end == stream.len(), "{size}");
            }
        }
    }

    #[test]
    fn what_looks_like_an_end_and_goes_on_is_none() {
        let mut ending = EndDetector::default();
        let stream = [END, b"more", END].concat();
        ending.search(&stream[..END.len()]);
        assert!(ending.can_end_at(END.len()));
        ending.search(&stream[..END.len() + 2]);
        assert!(!ending.can_end_at(END.len() + 2));
        ending.search(&stream);
        assert!(ending.can_end_at(stream.len()));
    }

    #[test]
    fn marks_without_end_take_no_memory() {
        let mut ending = EndDetector::default();
        let stream = b"\0\x06\x7f\0\0\0{".repeat(10_000);
        ending.search(&stream);
        assert_eq!(ending.candidate_lengths.len(), MAX_CANDIDATES);
    }
}
