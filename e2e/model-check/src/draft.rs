//! A `cpu` section that QEMU itself may be unable to write: the list in any order, duplicate ids, a
//! wrong count.
//!
//! Drafts serve only to test how a loader reacts. cpreg itself writes sections with `cpreg_stream`,
//! which refuses such lists.
//!
//! This module deliberately repeats the layout that the module `cpu` of `cpreg_stream` describes.
//! The check reads each draft with `cpreg_stream`. A writer and a reader with shared code would
//! have the same mistakes.

use std::borrow::Cow;

use cpreg::register::{RegisterId, Value};
use cpreg::vm::{Content, Extension};
use cpreg_stream::{Cpu, Subsection};

/// Number of bytes in front of the count of registers.
const CORE_FIELDS_LEN: usize = 568;
/// Number of bytes between the list and the subsections.
const TRAILING_FIELDS_LEN: usize = 65;
/// Offset of `env.features` in the trailing fields.
const FEATURES_OFFSET: usize = 24;
/// First byte of a subsection.
const SUBSECTION_MARKER: u8 = 5;

/// Section of one vCPU.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CpuDraft {
    core_fields: Vec<u8>,
    /// Count in the section minus the number of registers in the list; not 0 if the count is wrong.
    pub(crate) count_error: i32,
    /// Registers of the list: id and value.
    pub(crate) list: Vec<(u64, u64)>,
    trailing_fields: Vec<u8>,
    /// The subsections.
    pub(crate) subsections: Vec<DraftSubsection>,
}

/// A subsection.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DraftSubsection {
    /// Name of the subsection.
    pub(crate) name: String,
    /// Version of the subsection's format.
    pub(crate) version: u32,
    /// Bytes of the subsection's own fields.
    pub(crate) payload: Vec<u8>,
    /// Nested subsections.
    pub(crate) subsections: Vec<Self>,
}

impl DraftSubsection {
    fn from_subsection(cpu: &Cpu, subsection: &Subsection) -> Self {
        Self {
            name: subsection.name.clone(),
            version: subsection.version,
            payload: cpu.content(subsection).to_vec(),
            subsections: subsection
                .subsections
                .iter()
                .map(|inner| Self::from_subsection(cpu, inner))
                .collect(),
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend([
            SUBSECTION_MARKER,
            u8::try_from(self.name.len()).unwrap_or(u8::MAX),
        ]);
        bytes.extend(self.name.as_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend(&self.payload);
        self.subsections.iter().for_each(|inner| inner.write(bytes));
    }

    /// Appends this subsection and its nested ones.
    fn append_extensions(&self, all: &mut Vec<Extension>) {
        let content = match <[u8; 8]>::try_from(&*self.payload) {
            Ok(number) if self.name == Extension::WFXT_TIMER => {
                Content::Number(u64::from_be_bytes(number))
            }
            _ => Content::Bytes(self.payload.clone()),
        };
        all.push(Extension {
            name: Cow::Owned(self.name.clone()),
            content,
        });
        self.subsections
            .iter()
            .for_each(|inner| inner.append_extensions(all));
    }
}

impl CpuDraft {
    /// Returns a draft of a recorded section.
    pub(crate) fn from_cpu(cpu: &Cpu) -> Self {
        let bytes = cpu.bytes();
        let trailing_offset = CORE_FIELDS_LEN + 4 + 16 * cpu.register_count();
        Self {
            core_fields: bytes[..CORE_FIELDS_LEN].to_vec(),
            count_error: 0,
            list: cpu
                .registers()
                .map(|(id, value)| (id.raw(), value))
                .collect(),
            trailing_fields: bytes[trailing_offset..][..TRAILING_FIELDS_LEN].to_vec(),
            subsections: cpu
                .subsections()
                .iter()
                .map(|subsection| DraftSubsection::from_subsection(cpu, subsection))
                .collect(),
        }
    }

    /// Returns the bytes of the section.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.core_fields.clone();
        let count = i32::try_from(self.list.len()).unwrap_or(i32::MAX);
        bytes.extend(count.saturating_add(self.count_error).to_be_bytes());
        self.list
            .iter()
            .for_each(|(id, _)| bytes.extend(id.to_be_bytes()));
        self.list
            .iter()
            .for_each(|(_, value)| bytes.extend(value.to_be_bytes()));
        bytes.extend(&self.trailing_fields);
        self.subsections
            .iter()
            .for_each(|subsection| subsection.write(&mut bytes));
        bytes
    }

    /// Sets `env.features`.
    pub(crate) fn set_features(&mut self, features: u64) {
        self.trailing_fields[FEATURES_OFFSET..][..8].copy_from_slice(&features.to_be_bytes());
    }

    /// Returns the registers for the loader model.
    pub(crate) fn registers(&self) -> Vec<(RegisterId, Value)> {
        let registers = self.list.iter();
        registers
            .map(|(id, value)| (RegisterId::from_raw(*id), Value::U64(*value)))
            .collect()
    }

    /// Returns the extensions for the loader model.
    pub(crate) fn extensions(&self) -> Vec<Extension> {
        let mut all = Vec::new();
        let features = self.trailing_fields[FEATURES_OFFSET..][..8].iter();
        let features = features.fold(0, |number, byte| number << 8 | u64::from(*byte));
        if features != 0 {
            all.push(Extension {
                name: Cow::Borrowed(Extension::FEATURES),
                content: Content::Number(features),
            });
        }
        self.subsections
            .iter()
            .for_each(|subsection| subsection.append_extensions(&mut all));
        all
    }

    /// Returns `true` if QEMU can have written the list: correct count, ascending, no duplicates.
    pub(crate) fn is_valid_list(&self) -> bool {
        self.count_error == 0 && self.list.windows(2).all(|pair| pair[0].0 < pair[1].0)
    }
}
