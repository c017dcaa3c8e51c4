//! [`StreamSetup`]: information about the VM and the migration that the source sends before RAM's
//! pages.

use cpreg::shape::RamBlock;

use crate::full_scan::ScanState;

/// Data about a VM and its migration that the source sends in front of the first page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSetup {
    /// Machine type (`virt-10.0`), if the stream contains it.
    pub machine: Option<String>,
    /// Blocks of guest RAM.
    pub ram: Vec<RamBlock>,
    /// `true` if the migration has a return path, on which the destination answers.
    ///
    /// The source then learns of a failure, and its guest continues to run.
    pub return_path: bool,
    /// `true` if the guest may start at the destination before all of its RAM has arrived.
    pub postcopy: bool,
}

impl StreamSetup {
    pub(super) fn from_scan(scan: &ScanState) -> Self {
        let configuration = scan.layout.configuration.as_ref();
        let blocks = scan.ram.blocks.iter().map(|block| RamBlock {
            name: block.name.clone(),
            length: block.length,
        });
        Self {
            machine: configuration.map(|it| it.machine.clone()),
            ram: blocks.collect(),
            return_path: scan.announced_capabilities.return_path,
            postcopy: scan.announced_capabilities.postcopy,
        }
    }
}
