//! [`ParserState`]: the kind of bytes that the parser reads next.

use crate::live_sections;

/// Kind of the bytes at the parser's position.
#[derive(Debug)]
pub(super) enum ParserState {
    Header,
    Element,
    /// Payload of a live section.
    Payload(SectionPart),
    Footer(SectionPart),
    /// Device state, which is buffered and not parsed before all of it has arrived.
    DeviceState,
    /// Bytes after the package of a bidirectional postcopy migration, which the parser ignores.
    AfterPackage,
}

/// Live section whose payload or footer is next.
#[derive(Debug)]
pub(super) struct SectionPart {
    pub(super) kind: u8,
    pub(super) id: u32,
    pub(super) name: String,
    pub(super) progress: live_sections::Progress,
}
