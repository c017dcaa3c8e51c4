//! [`StreamSetup`]: what a stream says of its VM and of the migration before RAM's pages.

use cpreg::shape::RamBlock;

use crate::full_scan::ScanState;

/// What is known of a VM and of how it is sent before the first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSetup {
    /// The machine type (`virt-10.0`), if the stream says it.
    pub machine: Option<String>,
    /// The blocks of guest RAM.
    pub ram: Vec<RamBlock>,
    /// The destination answers: the source hears of a failure, and its guest runs on.
    pub return_path: bool,
    /// The guest may be started at the destination before all of its RAM is there.
    pub postcopy: bool,
}

impl StreamSetup {
    pub(super) fn from_scan(front: &ScanState) -> Self {
        let configuration = front.layout.configuration.as_ref();
        let blocks = front.ram.blocks.iter().map(|block| RamBlock {
            name: block.name.clone(),
            length: block.length,
        });
        Self {
            machine: configuration.map(|it| it.machine.clone()),
            ram: blocks.collect(),
            return_path: front.announced_capabilities.return_path,
            postcopy: front.announced_capabilities.postcopy,
        }
    }
}
