//! [`Layout`]: the offsets of a stream's parts, as both methods of opening determine them.

use std::ops::Range;

use crate::element::{Configuration, Section};
use crate::ram::{RamBlock, RecordCounts};

/// Live section that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveSection {
    /// Number that the source assigned to the section, unique in the stream.
    pub id: u32,
    /// QEMU's id string (`ram`).
    pub name: String,
    /// Instance number of the section among sections of the same name.
    pub instance: u32,
    /// Version of the section's format.
    pub version: u32,
}

/// Device state that a postcopy migration sends in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// File offset of the package's length, a u32.
    pub length_field: u64,
    /// File range of the package's bytes, without the length.
    pub range: Range<u64>,
}

/// Result of both methods of opening.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) configuration: Option<Configuration>,
    pub(crate) blocks: Vec<RamBlock>,
    /// Number of RAM records of each kind; `None` if RAM was not read.
    pub(crate) record_counts: Option<RecordCounts>,
    /// Live sections; of a stream opened by its description, only those that begin where RAM
    /// begins.
    pub(crate) live_sections: Vec<LiveSection>,
    /// FULL sections in wire order.
    pub(crate) sections: Vec<Section>,
    pub(crate) package: Option<Package>,
    /// File offset after EOF, or after the package of a source that ends with it.
    pub(crate) end: u64,
    /// File range of the description's text.
    pub(crate) description: Option<Range<u64>>,
    /// `true` if the description gives every section its right length.
    pub(crate) described_exactly: bool,
}

impl Layout {
    /// Returns the ids of the live sections.
    pub(crate) fn live_ids(&self) -> Vec<u32> {
        self.live_sections.iter().map(|live| live.id).collect()
    }
}
