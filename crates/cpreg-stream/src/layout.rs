//! [`Layout`]: the offsets of a stream's parts, as both methods of opening find them.

use std::ops::Range;

use crate::element::{Configuration, Section};
use crate::ram::{RamBlock, RecordCounts};

/// Live section that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSection {
    /// Number that the source assigned.
    pub id: u32,
    /// QEMU's id string (`ram`).
    pub name: String,
    /// Instance number among sections of the same name.
    pub instance: u32,
    /// Version of its format.
    pub version: u32,
}

/// Device state that a postcopy migration sends in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Offset of its length, a u32.
    pub length_field: u64,
    /// Range of its bytes.
    pub range: Range<u64>,
}

/// Result of both methods of opening.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) configuration: Option<Configuration>,
    pub(crate) blocks: Vec<RamBlock>,
    /// Known only if RAM was read.
    pub(crate) record_counts: Option<RecordCounts>,
    /// Opened by description, only those that begin where RAM begins.
    pub(crate) live_sections: Vec<LiveSection>,
    /// FULL sections in wire order.
    pub(crate) sections: Vec<Section>,
    pub(crate) package: Option<Package>,
    /// Offset after EOF.
    pub(crate) end: u64,
    /// Range of the description's text.
    pub(crate) description: Option<Range<u64>>,
    /// `true` if the description gives every section its right length.
    pub(crate) described_exactly: bool,
}
