//! QEMU's migration stream: what is in it, and how to change the CPU state in it; as a file, or
//! while it flows.
//!
//! | module | what lives there |
//! |---|---|
//! | `stream`, `layout` | [`Stream`]: a stream that has been read; what stands where in it |
//! | `source` | [`ReadAt`]: bytes at any place |
//! | `cursor` | numbers and names from it, bounded |
//! | `element` | header, configuration, sections, commands |
//! | `ram`, `live` | the sections that are sent while the guest runs |
//! | `cpu` | the arm `cpu` section |
//! | `json`, `vmdescription` | the description at the end, as a map |
//! | `scan` | device sections without a map |
//! | `tail` | opening from the end, without reading RAM |
//! | `front` | opening from the front, reading everything |
//! | `edit`, `description_edit` | changes of the CPU state, and of the description |
//! | `skeleton` | the stream without its RAM |
//! | `scrub` | the same without the guest's secrets; `fields`, `guest_data` say which bytes of devices may be any |
//! | `convert` | [`convert()`]: the edit that makes a stream hold a planned state, read back and compared |
//! | `replacement` | [`Edit`]: byte ranges and what takes their place |
//! | `copy` | bytes from file to file, as fast as the system can |
//! | `os` | files as this system has them |
//! | `new_file` | a file that has no name until it is complete |
//! | `write`, `in_place` | an edit carried out on files, whole or not at all |
//! | `global_state` | what the guest was doing |
//! | `translate` | to the model: [`cpreg::vm::Vm`], [`cpreg::shape::Shape`] |
//! | [`incremental`] | the stream while it flows: RAM passes, the device state is held back |
//! | [`guest_memory`] | device state that points into guest memory |
//! | [`error`] | the error: what, where, what to do |
//!
//! What a difference means and what is done about it does not live here; see [`cpreg::plan`].
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
pub use ram::{MappedBlock, RamBlock, RecordCounts};
pub use redact::{
    GENERAL_REGISTERS, REDACTED, RedactedDevice, RedactedStream, RedactionOptions, Redactions,
};
pub use replacement::{Edit, EditedSource, Replacement, Segment};
pub use source::{CountingSource, ReadAt};
pub use stream::{OpenMethod, Stream};
pub use without_ram::{SectionChange, encode_setup};
pub use write::{WriteOptions, write_new};
