//! [`Layout`]: what stands where in a stream, as both ways of opening it find it.

use std::ops::Range;

use crate::element::{Configuration, Section};
use crate::ram::{RamBlock, RecordCounts};

/// A live section that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSection {
    /// The number the source gave it.
    pub id: u32,
    /// QEMU's id string (`ram`).
    pub name: String,
    /// Which of several with that name.
    pub instance: u32,
    /// The version of its format.
    pub version: u32,
}

/// Device state sent in one piece: a postcopy migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Where its length stands, a u32.
    pub length_field: u64,
    /// Its bytes.
    pub range: Range<u64>,
}

/// What both ways of opening find.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    pub(crate) configuration: Option<Configuration>,
    pub(crate) blocks: Vec<RamBlock>,
    /// Only known if RAM was read.
    pub(crate) record_counts: Option<RecordCounts>,
    /// From the end, only those that begin where RAM begins.
    pub(crate) live_sections: Vec<LiveSection>,
    /// The FULL sections in wire order.
    pub(crate) sections: Vec<Section>,
    pub(crate) package: Option<Package>,
    /// The offset behind EOF.
    pub(crate) end: u64,
    /// The description's text.
    pub(crate) description: Option<Range<u64>>,
    /// The description has the right length for every section.
    pub(crate) described_exactly: bool,
}
