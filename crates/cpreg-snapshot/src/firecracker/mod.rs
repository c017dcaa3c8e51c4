//! Snapshots of Firecracker: the file with the state of a microVM (`vmstate`).
//!
//! | file | contents |
//! |---|---|
//! | `frame.rs` | header, version, checksum |
//! | `vcpu.rs` | [`SavedVcpu`]: registers in the stored order |
//! | `bincode.rs` | vCPUs of snapshot versions 1.0.0 to 8.0.0, found by their structure |
//! | `bitcode/` | state of snapshot version 10.0.0, field by field |
//!
//! An edit changes the vectors of registers and the checksum, and nothing else. The edited file has
//! the same version. Every edit first proves that encoding the parsed file yields its bytes.
//!
//! [`cpreg::destination::saved_state`] knows which release reads which version.

mod bincode;
mod bitcode;
pub(crate) mod frame;
mod vcpu;

use cpreg::destination::Features;
use cpreg::destination::saved_state::SnapshotVersion;
use cpreg::vm::Vm;
use cpreg_stream::ReadAt;

use self::bincode::{Layout, PlacedVcpu};
use self::bitcode::State;
use self::frame::{Encoding, Frame, MAX_FILE_LEN};
use crate::error::{Error, ErrorKind};
use crate::planned::{check_editable, check_written, not_as_planned, read_up_to};

pub use self::vcpu::SavedVcpu;

/// Name of the file in errors.
const FILE: &str = "snapshot";

/// State file of a microVM.
#[derive(Debug)]
pub struct Snapshot {
    bytes: Vec<u8>,
    frame: Frame,
    vcpus: Vec<SavedVcpu>,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bincode(Vec<PlacedVcpu>),
    Bitcode,
}

impl Snapshot {
    /// Reads a snapshot from a file.
    ///
    /// # Errors
    /// Reading errors, and those of [`Self::parse`].
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        Self::parse(read_up_to(source, MAX_FILE_LEN)?)
    }

    /// Parses the bytes of a snapshot.
    ///
    /// # Errors
    /// - [`ErrorKind::Unsupported`] if cpreg does not read this version, or if the file does not
    ///   have its layout.
    /// - [`ErrorKind::Foreign`] for an x86-64 VM.
    /// - [`ErrorKind::Truncated`] or [`ErrorKind::Malformed`] for a damaged file.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Error> {
        let frame = Frame::read(&bytes)?;
        let state = &bytes[..frame.crc_start];
        let version = frame.version;
        let unsupported = || {
            Error::new(
                ErrorKind::Unsupported,
                format!("the snapshot has version {version}, whose layout cpreg does not know"),
            )
            .with_hint("edit the file with snapshot-editor of the Firecracker that wrote it")
        };
        let (vcpus, content) = match frame.encoding {
            Encoding::Bincode => {
                let layout = Layout::from_major(version.major).ok_or_else(unsupported)?;
                let placed = bincode::find_vcpus(state, frame.state_start, layout)?;
                let vcpus = placed.iter().map(|placed| placed.vcpu.clone()).collect();
                (vcpus, Content::Bincode(placed))
            }
            Encoding::Bitcode if version.major == 10 => {
                (bitcode::decode(state)?.vcpus()?, Content::Bitcode)
            }
            Encoding::Bitcode => return Err(unsupported()),
        };
        Ok(Self {
            bytes,
            frame,
            vcpus,
            content,
        })
    }

    /// Returns the snapshot version of the file.
    pub fn version(&self) -> SnapshotVersion {
        self.frame.version
    }

    /// Returns `true` if this version was tested with files of a real Firecracker.
    pub fn is_tested(&self) -> bool {
        matches!(self.version().major, 4 | 8 | 10)
    }

    /// Returns the vCPUs in the order of their creation.
    pub fn vcpus(&self) -> &[SavedVcpu] {
        &self.vcpus
    }

    /// Returns the features that the VM's vCPUs were initialised with.
    pub fn features(&self) -> Features {
        let words = self.vcpus.iter().map(SavedVcpu::features);
        Features::from_init(words.fold(0, |all, word| all | word))
    }

    /// Returns the VM in cpreg's model, with all registers.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`] if a register is stored twice.
    pub fn vm(&self) -> Result<Vm, Error> {
        let vcpus = self.vcpus.iter().map(SavedVcpu::to_model);
        Ok(Vm {
            vcpus: vcpus.collect::<Result<_, _>>()?,
            ..Vm::default()
        })
    }

    /// Returns the bytes of a snapshot that holds the registers of `planned`, in the stored order.
    ///
    /// The method parses the result and compares it with `planned`.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the snapshot cannot hold the planned registers.
    /// - [`ErrorKind::NotAsPlanned`] if the file does not encode to itself, or the result differs
    ///   from the plan.
    pub fn convert(&self, planned: &Vm) -> Result<Vec<u8>, Error> {
        let is_identical = self.encode(&self.vcpus)? == self.bytes;
        check_editable(FILE, is_identical, self.vcpus.len(), planned)?;
        let pairs = self.vcpus.iter().zip(&planned.vcpus);
        let edited = pairs
            .map(|(vcpu, planned)| vcpu.with_registers(&planned.registers))
            .collect::<Result<Vec<_>, _>>()?;
        let written = Self::parse(self.encode(&edited)?)?;
        check_written(FILE, &written.vm()?, planned)?;
        // Order, run state and features are no part of the model.
        if written.vcpus != edited {
            return Err(not_as_planned(FILE));
        }
        Ok(written.bytes)
    }

    /// Returns the bytes of this snapshot with these vCPUs.
    fn encode(&self, vcpus: &[SavedVcpu]) -> Result<Vec<u8>, Error> {
        let state = &self.bytes[..self.frame.crc_start];
        match &self.content {
            Content::Bincode(placed) => {
                let mut bytes = Vec::with_capacity(self.bytes.len());
                let mut copied = 0;
                for (placed, vcpu) in placed.iter().zip(vcpus) {
                    bytes.extend_from_slice(&state[copied..placed.registers.start]);
                    bytes.extend_from_slice(&bincode::encode_registers(vcpu));
                    copied = placed.registers.end;
                }
                bytes.extend_from_slice(&state[copied..]);
                frame::finish(bytes)
            }
            Content::Bitcode => {
                let mut state: State = bitcode::decode(state)?;
                state.set_registers(vcpus.iter());
                frame::finish(state.encode()?)
            }
        }
    }
}
