//! Finds device sections of unknown length by their footers.
//!
//! A section ends with `7e` and its own number. An occurrence of these five bytes is the section's
//! end if a chain of valid elements follows. The chain must reach the end of the run of sections.
//! The search takes the first such occurrence, and tries a later one if the chain breaks. `cpu`
//! sections are measured by their fields, not searched.
//!
//! Guest memory can hold anything, so only sections after RAM are searched. Exceptions are early
//! sections, whose neighbours are known, and the sections of a background snapshot, whose RAM has
//! no end. Device state can also hold guest data: a guest that knows its section's number could
//! make one section look like two. Opening by the description is not affected, and comparing both
//! methods detects it.

use std::collections::HashSet;

use crate::cpu;
use crate::cursor::{Cursor, LARGE_WINDOW_LEN, SMALL_WINDOW_LEN, read_bytes};
use crate::element::{
    COMMAND, CPU, CommandCode, END, EOF, FOOTER, FOOTER_LEN, FULL, PART, START, Section,
    SectionHeader, SectionKind, VMDESCRIPTION, read_section_header,
};
use crate::error::{Error, ErrorKind};
use crate::source::ReadAt;

/// Maximum version of a section's format.
pub(crate) const MAX_SECTION_VERSION: u32 = 0xffff;

/// Elements that may follow the run of sections.
pub(crate) struct SearchContext<'a> {
    /// Numbers of the live sections that have begun.
    pub(crate) live_ids: &'a [u32],
    /// `true` before the first part of a live section, while START may follow.
    pub(crate) allows_start: bool,
    /// `true` if only EOF may follow.
    pub(crate) only_eof: bool,
    /// `true` if the run is in a package: the end of the package may follow, EOF may not.
    pub(crate) in_package: bool,
}

/// Maximum number of sections; a machine with 256 vCPUs has 600.
pub(crate) const MAX_SECTIONS: usize = 16384;

struct Frame {
    start: u64,
    header: SectionHeader,
    payload: u64,
    /// Offset of the next search for the section's end; `None` if there is no other end.
    next: Option<u64>,
    /// End of the payload in the current attempt, the offset of the footer.
    end: u64,
}

/// Reads the FULL sections from `start` to the first other element; returns the sections and the
/// offset of that element.
pub(crate) fn find_full_sections(
    source: &dyn ReadAt,
    start: u64,
    end: u64,
    context: &SearchContext<'_>,
) -> Result<(Vec<Section>, u64), Error> {
    SectionSearch::new(source, start, end, context).run(start)
}

/// Reads like [`find_full_sections`], from a source that may grow.
///
/// Returns `None` if bytes after `end` could change the result.
pub(crate) fn find_full_sections_incomplete(
    source: &dyn ReadAt,
    start: u64,
    end: u64,
    context: &SearchContext<'_>,
) -> Option<(Vec<Section>, u64)> {
    let mut search = SectionSearch::new(source, start, end, context);
    let found = search.run(start).ok();
    found.filter(|_| !search.reached_end)
}

enum NextElement {
    /// FULL section with this header, and the offset of its payload.
    Section(SectionHeader, u64),
    /// Other element that may follow the run.
    RunEnd,
    /// Bytes that cannot follow a section of the run.
    Invalid,
}

struct SectionSearch<'a> {
    source: &'a dyn ReadAt,
    end: u64,
    context: &'a SearchContext<'a>,
    budget: u64,
    /// Offsets from which the chain is known to break.
    dead_ends: HashSet<u64>,
    /// Error at the greatest offset so far.
    error: Option<Error>,
    /// `true` if a search reached the end of the source.
    reached_end: bool,
}

impl<'a> SectionSearch<'a> {
    fn new(source: &'a dyn ReadAt, start: u64, end: u64, context: &'a SearchContext<'a>) -> Self {
        Self {
            source,
            end,
            context,
            // Four passes, and a reserve for short runs.
            budget: (end - start).saturating_mul(4).saturating_add(1 << 20),
            dead_ends: HashSet::new(),
            error: None,
            reached_end: false,
        }
    }

    fn run(&mut self, start: u64) -> Result<(Vec<Section>, u64), Error> {
        let mut frames: Vec<Frame> = Vec::new();
        let mut at = start;
        loop {
            let advanced = match self.classify(at, &frames)? {
                NextElement::Section(header, payload) => {
                    let is_cpu = header.name == CPU;
                    let mut frame = Frame {
                        start: at,
                        header,
                        payload,
                        next: Some(payload),
                        end: payload,
                    };
                    if is_cpu {
                        self.measure_cpu(&mut frame)?;
                    }
                    frames.push(frame);
                    true
                }
                NextElement::RunEnd if !frames.is_empty() => {
                    return Ok((frames.into_iter().map(section).collect(), at));
                }
                NextElement::RunEnd | NextElement::Invalid => false,
            };
            if !advanced {
                self.dead_ends.insert(at);
            }
            // Continue after the next possible end of the innermost section that has one.
            at = loop {
                let Some(frame) = frames.last_mut() else {
                    let fallback = Error::malformed(start, "not a device section");
                    return Err(self.error.take().unwrap_or(fallback));
                };
                match self.next_end(frame)? {
                    Some(next) if !self.dead_ends.contains(&next) => break next,
                    Some(_) => {}
                    None => {
                        self.record_unterminated(frame);
                        self.dead_ends.insert(frame.start);
                        frames.pop();
                    }
                }
            };
        }
    }

    fn classify(&mut self, at: u64, frames: &[Frame]) -> Result<NextElement, Error> {
        let mut cursor = Cursor::new(self.source, at, self.end, SMALL_WINDOW_LEN);
        if cursor.is_at_end() {
            self.reached_end = true;
            return Ok(if self.context.in_package {
                NextElement::RunEnd
            } else {
                NextElement::Invalid
            });
        }
        match self.read_element(&mut cursor, frames) {
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NotArm) => Err(error),
            // Another end of the previous section may still be the true one.
            Err(error) => {
                if error.kind() == ErrorKind::Truncated {
                    self.reached_end = true;
                    self.record_error(error);
                }
                Ok(NextElement::Invalid)
            }
            Ok(next) => Ok(next),
        }
    }

    fn read_element(
        &mut self,
        cursor: &mut Cursor<'_>,
        frames: &[Frame],
    ) -> Result<NextElement, Error> {
        let start = cursor.position();
        let only_eof = self.context.only_eof;
        let can_follow = match cursor.read_u8()? {
            FULL => {
                let header = read_section_header(cursor)?;
                let known = frames.iter().any(|frame| {
                    let other = &frame.header;
                    other.id == header.id
                        || (&other.name, other.instance) == (&header.name, header.instance)
                });
                if known
                    || frames.len() == MAX_SECTIONS
                    || header.version > MAX_SECTION_VERSION
                    || self.context.live_ids.contains(&header.id)
                {
                    return Ok(NextElement::Invalid);
                }
                cpu::require_arm(&header, start)?;
                return Ok(NextElement::Section(header, cursor.position()));
            }
            START => {
                self.context.allows_start
                    && read_section_header(cursor)?.version <= MAX_SECTION_VERSION
            }
            PART | END if !only_eof => {
                let id = cursor.read_be32()?;
                self.context.live_ids.contains(&id)
            }
            COMMAND if !only_eof => {
                let code = CommandCode(cursor.read_be16()?);
                let length = cursor.read_be16()?;
                code.accepts_length(length)
            }
            EOF => {
                let rest = cursor.end() - cursor.position();
                self.reached_end |= rest < 64;
                !self.context.in_package
                    && (rest == 0 || {
                        let next = usize::try_from(rest).unwrap_or(SMALL_WINDOW_LEN).min(64);
                        let next = cursor.peek(next)?;
                        next[0] == VMDESCRIPTION || next.iter().all(|byte| *byte == 0)
                    })
            }
            _ => false,
        };
        Ok(if can_follow {
            NextElement::RunEnd
        } else {
            NextElement::Invalid
        })
    }

    /// Finds the end of a `cpu` section by its fields.
    fn measure_cpu(&mut self, frame: &mut Frame) -> Result<(), Error> {
        let left = self.end - frame.payload;
        let mut length = left.min(32 << 10);
        loop {
            let count = usize::try_from(length).unwrap_or(usize::MAX);
            let bytes = read_bytes(self.source, frame.payload, count)?;
            match cpu::Cpu::measure(&bytes, frame.payload, frame.header.id) {
                Ok(count) => {
                    // The search would find this one end, so it is the only candidate.
                    frame.next = Some(frame.payload + count as u64);
                    frame.end = frame.payload + count as u64;
                    return Ok(());
                }
                Err(error)
                    if error.kind() == ErrorKind::Truncated
                        && length < left.min(cpu::MAX_SECTION_LEN) =>
                {
                    length = left.min(cpu::MAX_SECTION_LEN).min(length * 4);
                }
                Err(error) => {
                    frame.next = None;
                    self.reached_end |= error.kind() == ErrorKind::Truncated;
                    let path = format!("cpu[{}]", frame.header.instance);
                    self.record_error(error.prepend_path(&path));
                    return Ok(());
                }
            }
        }
    }

    /// Returns the offset after the next possible end of a section.
    fn next_end(&mut self, frame: &mut Frame) -> Result<Option<u64>, Error> {
        let Some(from) = frame.next else {
            return Ok(None);
        };
        if frame.header.name == CPU {
            frame.next = None;
            return Ok(Some(frame.end + FOOTER_LEN));
        }
        match self.find_footer(from, frame.header.id)? {
            Some(end) => {
                frame.end = end;
                frame.next = Some(end + 1);
                Ok(Some(end + FOOTER_LEN))
            }
            None => Ok(None),
        }
    }

    fn find_footer(&mut self, from: u64, id: u32) -> Result<Option<u64>, Error> {
        let mut wanted = [FOOTER, 0, 0, 0, 0];
        wanted[1..].copy_from_slice(&id.to_be_bytes());
        let mut at = from;
        while self.end.saturating_sub(at) >= FOOTER_LEN {
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            // Begin with a small window, because most sections are small.
            let window_len = if at == from {
                SMALL_WINDOW_LEN
            } else {
                LARGE_WINDOW_LEN
            };
            let bytes = read_bytes(self.source, at, left.min(window_len))?;
            self.budget = self.budget.checked_sub(bytes.len() as u64).ok_or_else(|| {
                Error::malformed(
                    from,
                    "the device state is too ambiguous to find its sections",
                )
            })?;
            if let Some(index) = position(&bytes, &wanted) {
                return Ok(Some(at + index as u64));
            }
            at += bytes.len() as u64 - (FOOTER_LEN - 1);
        }
        self.reached_end = true;
        Ok(None)
    }

    /// Records that no possible end of this section leads to a valid chain.
    fn record_unterminated(&mut self, frame: &Frame) {
        let error = Error::new(
            ErrorKind::Truncated,
            "the end of this section is not found: the stream is cut or damaged after \
             its beginning",
        )
        .at_offset(frame.start)
        .with_hint("get a complete copy of the file, or save the VM again");
        self.record_error(error.prepend_path(&frame.header.name));
    }

    fn record_error(&mut self, error: Error) {
        if self
            .error
            .as_ref()
            .is_none_or(|other| other.offset() < error.offset())
        {
            self.error = Some(error);
        }
    }
}

/// Returns the first index of `wanted` in `bytes`. The first byte of `wanted` is rare, so the
/// search is fast.
pub(crate) fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|byte| *byte == wanted[0])?;
        if bytes[at..].starts_with(wanted) {
            return Some(at);
        }
        at += 1;
    }
}

/// Rejects device state that seems to contain a `cpu` section.
///
/// A damaged section number, or a guest that knows the number, can make a search run past the end
/// of a section and over a vCPU. Without a description, no other check detects that.
pub(crate) fn reject_hidden_cpu(source: &dyn ReadAt, sections: &[Section]) -> Result<(), Error> {
    // Length and name; type and number precede them, instance and version follow.
    const NAME: &[u8] = b"\x03cpu";
    for section in sections.iter().filter(|it| it.name != CPU) {
        let end = section.payload.end;
        let mut start = section.payload.start;
        while start < end {
            let count = usize::try_from(end - start)
                .unwrap_or(LARGE_WINDOW_LEN)
                .min(LARGE_WINDOW_LEN);
            let bytes = read_bytes(source, start, count)?;
            let mut at = 0;
            while let Some(next) = position(&bytes[at..], NAME) {
                at += next;
                let version = bytes.get(at + 8..at + 12);
                if at >= 5 && bytes[at - 5] == FULL && version == Some(&cpu::VERSION.to_be_bytes())
                {
                    return Err(Error::malformed(
                        start + at as u64 - 5,
                        "this section seems to contain a cpu section",
                    )
                    .with_hint("the stream is damaged, or its guest tries to mislead cpreg")
                    .prepend_path(&section.name));
                }
                at += 1;
            }
            // Windows overlap so that every header is complete in one of them.
            start = if start + count as u64 == end {
                end
            } else {
                start + count as u64 - 17
            };
        }
    }
    Ok(())
}

fn section(frame: Frame) -> Section {
    Section {
        kind: SectionKind::Full,
        id: frame.header.id,
        name: frame.header.name,
        instance: frame.header.instance,
        version: frame.header.version,
        range: frame.start..frame.end + FOOTER_LEN,
        payload: frame.payload..frame.end,
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;

    fn push_full_section(bytes: &mut Vec<u8>, id: u32, name: &str, payload: &[u8]) {
        bytes.push(FULL);
        bytes.extend(id.to_be_bytes());
        bytes.push(name.len() as u8);
        bytes.extend(name.as_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes.push(FOOTER);
        bytes.extend(id.to_be_bytes());
    }

    fn names(bytes: &[u8]) -> Result<Vec<(String, u64)>, Error> {
        let bytes = bytes.to_vec();
        let context = SearchContext {
            live_ids: &[2],
            allows_start: false,
            only_eof: false,
            in_package: false,
        };
        let (sections, at) = find_full_sections(&bytes, 0, bytes.len() as u64, &context)?;
        assert_eq!(bytes[usize::try_from(at).unwrap()], EOF);
        Ok(sections
            .into_iter()
            .map(|section| (section.name, section.payload.end - section.payload.start))
            .collect())
    }

    #[test]
    fn finds_sections_of_any_content() {
        let mut bytes = Vec::new();
        push_full_section(&mut bytes, 3, "a", b"");
        // A footer of this section in the middle, after which nothing can follow.
        push_full_section(&mut bytes, 4, "b", b"xx\x7e\0\0\0\x04\x04\0\0\0\x09");
        // A footer and a whole section header in the middle, after which the chain breaks.
        let mut trap = b"\x7e\0\0\0\x05".to_vec();
        push_full_section(&mut trap, 9, "c2", b"");
        let length = trap.len() - 5;
        push_full_section(&mut bytes, 5, "c", &trap[..length]);
        push_full_section(&mut bytes, 6, "d", &[0; 9000]);
        bytes.push(EOF);
        let expected = [("a", 0), ("b", 12), ("c", length as u64), ("d", 9000)]
            .map(|(name, length)| (name.to_owned(), length));
        assert_eq!(names(&bytes).unwrap(), expected);
        for cut in 0..bytes.len() {
            assert!(names(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn ambiguous_state_is_given_up() {
        let mut bytes = Vec::new();
        let trap = b"\x7e\0\0\0\x03\x04\0\0\0\x09\x01z\0\0\0\0\0\0\0\x01".repeat(20000);
        push_full_section(&mut bytes, 3, "a", &trap);
        let error = names(&bytes).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Truncated),
            "{error}"
        );
    }

    #[test]
    fn error_names_the_section_without_end() {
        let mut bytes = Vec::new();
        push_full_section(&mut bytes, 3, "a", b"");
        push_full_section(&mut bytes, 4, "gone", b"abc");
        bytes.truncate(bytes.len() - 1);
        let error = names(&bytes).unwrap_err();
        assert_eq!((error.path(), error.offset()), ("gone", Some(20)));
    }
}
