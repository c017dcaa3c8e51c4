#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | `stream`, `layout` | [`Stream`]: a parsed stream; the offsets of its parts |
//! | `source` | [`ReadAt`]: random-access bytes |
//! | `cursor` | bounded reads of numbers and names from a `ReadAt` |
//! | `element` | header, configuration, sections, commands |
//! | `ram`, `live_sections` | the sections that QEMU sends while the guest runs |
//! | `cpu` | the Arm `cpu` section |
//! | `json`, `vmdescription` | the description at the end, as a map |
//! | `section_search` | device sections without a map |
//! | `described_layout` | opening by the description, without reading RAM |
//! | `full_scan` | opening by a full scan, reading everything |
//! | `edit`, `description_edit` | changes of the CPU state and of the description |
//! | `without_ram` | the stream without its RAM |
//! | `redact` | the stream without RAM and without the guest's secrets |
//! | `fields`, `guest_data` | the bytes of devices that may be guest data |
//! | `convert` | [`convert()`]: the edit that yields a planned state, read back and compared |
//! | `replacement` | [`Edit`]: byte ranges and their replacements |
//! | `copy` | copies between files, with the system's fastest method |
//! | `os` | file operations of this operating system |
//! | `new_file` | a file that has no name until it is complete |
//! | `prefix_copy` | [`PrefixCopy`]: a new file whose RAM is copied before the edit is known |
//! | `write`, `in_place` | application of an edit to files, all or nothing |
//! | `global_state`, `gic` | the run state of the guest; the limits of its GICv3 |
//! | `translate` | conversion to the model: [`cpreg::vm::Vm`], [`cpreg::shape::MachineShape`] |
//! | [`incremental`] | the stream in transit: RAM is forwarded, the device state is buffered |
//! | [`guest_memory`] | device state that points into guest memory |
//! | [`error`] | the error: kind, place, hint |
//!
//! [`cpreg::plan`] decides about a difference; this crate decides nothing.
#![forbid(unsafe_code)]

mod convert;
mod copy;
mod cpu;
mod cursor;
mod described_layout;
mod description_edit;
mod edit;
mod element;
pub mod error;
mod fields;
mod full_scan;
mod gic;
mod global_state;
mod guest_data;
pub mod guest_memory;
mod in_place;
pub mod incremental;
mod json;
mod layout;
mod live_sections;
mod new_file;
mod os;
mod prefix_copy;
mod ram;
mod redact;
mod replacement;
mod section_search;
mod source;
mod stream;
mod translate;
mod vmdescription;
mod without_ram;
mod write;

pub use convert::convert;
pub use cpu::{CoreFields, Cpu, Subsection, TrailingFields};
pub use edit::{CpuEdit, ExtensionChange};
pub use element::{Configuration, Section, SectionKind, VMDESCRIPTION};
pub use error::{Error, ErrorKind};
pub use global_state::GLOBAL_STATE;
pub use in_place::{Lock, Recovery, edit_in_place, journal_path, pending_journal, recover};
pub use layout::{LiveSection, Package};
pub use prefix_copy::PrefixCopy;
pub use ram::{MappedBlock, RamBlock, RecordCounts};
pub use redact::{
    GENERAL_REGISTERS, REDACTED, RedactedDevice, RedactedStream, RedactionOptions, Redactions,
};
pub use replacement::{Edit, EditedSource, Replacement, Segment};
pub use source::{CountingSource, ReadAt};
pub use stream::{OpenMethod, Stream};
pub use without_ram::{SectionChange, encode_setup};
pub use write::{ExistingFile, WriteOptions, write_file_with, write_new, write_to};
