//! Snapshots of Cloud Hypervisor: a folder with `state.json`, `config.json` and the guest's memory.
//!
//! | file | contents |
//! |---|---|
//! | `document.rs` | places of the parts of `state.json` |
//! | `vcpu.rs` | [`SavedVcpu`]: registers in the stored order, and edits of the text |
//! | `core_registers.rs` | the core registers in `struct kvm_regs` |
//! | `warning.rs` | [`Warning`]: limits of Cloud Hypervisor that a snapshot meets |
//!
//! An edit replaces registers in the JSON text of a vCPU. All other bytes of `state.json` stay,
//! with unknown members and the order of members. Every edit first proves that encoding the parsed
//! texts yields the bytes of the file.

mod core_registers;
mod document;
mod vcpu;
mod warning;

use std::ops::Range;

use cpreg::destination::Features;
use cpreg::hardware::HardwareFacts;
use cpreg::vm::Vm;
use cpreg_stream::ReadAt;
use serde::Deserialize;

use self::document::{ComponentState, Node, malformed};
use crate::error::{Error, ErrorKind};
use crate::planned::{check_editable, check_written, read_up_to};

pub use self::vcpu::SavedVcpu;
pub use self::warning::{MAX_LISTED_REGISTERS, Warning};

/// Name of the file with the state, in the folder of a snapshot.
pub const STATE_FILE_NAME: &str = "state.json";
/// Size of the largest `state.json` that cpreg reads. A vCPU needs about 60 KB.
const MAX_FILE_LEN: usize = 256 << 20;
const CPU_MANAGER: &str = "cpu-manager";

/// State of a VM: the content of `state.json`.
#[derive(Debug)]
pub struct Snapshot {
    vcpus: Vec<SavedVcpu>,
    states: Vec<ComponentState>,
    counter_frequency: Option<u32>,
    warnings: Vec<Warning>,
    document: String,
}

#[derive(Deserialize)]
struct VmState {
    clock: Clock,
}

#[derive(Deserialize)]
struct Clock {
    cntfrq: u64,
}

impl Snapshot {
    /// Reads a snapshot from a file.
    ///
    /// # Errors
    /// Reading errors, and those of [`Self::parse`].
    pub fn open(source: &dyn ReadAt) -> Result<Self, Error> {
        Self::parse(read_up_to(source, MAX_FILE_LEN)?)
    }

    /// Parses the content of `state.json`.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] if the text is not a snapshot of an arm64 VM under KVM.
    /// - [`ErrorKind::Unsupported`] if the text is too large.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Error> {
        if bytes.len() > MAX_FILE_LEN {
            let message = format!("state.json is larger than {MAX_FILE_LEN} bytes");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let document = String::from_utf8(bytes)
            .map_err(|error| malformed(STATE_FILE_NAME).with_source(error))?;
        let root = Node::parse(&document)?;
        let states = vcpu_states(&root, &document)?;
        let vcpus = states
            .iter()
            .map(|state| SavedVcpu::parse(state.text.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        let counter_frequency = root.state(&document)?.and_then(|state| {
            let state: VmState = serde_json::from_str(&state.text).ok()?;
            u32::try_from(state.clock.cntfrq).ok()
        });
        let mut warnings = Vec::new();
        if !vcpus.iter().all(SavedVcpu::has_sve_members) {
            warnings.extend([Warning::UntestedForm, Warning::WithoutSve]);
        }
        if warning::has_equal_redistributors(&root, &document, vcpus.len())? {
            warnings.push(Warning::EqualRedistributors);
        }
        warnings.extend(warning::find_unused_queues(&root, &document)?);
        Ok(Self {
            vcpus,
            states,
            counter_frequency,
            warnings,
            document,
        })
    }

    /// Returns `true` if this form was tested with files of a real Cloud Hypervisor.
    pub fn is_tested(&self) -> bool {
        !self.warnings.contains(&Warning::UntestedForm)
    }

    /// Returns the limits of Cloud Hypervisor that concern this snapshot.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Returns the vCPUs in the order of their creation.
    pub fn vcpus(&self) -> &[SavedVcpu] {
        &self.vcpus
    }

    /// Returns the features of the vCPUs: a PMU, and SVE if the CPU has it.
    ///
    /// The state does not hold them. Cloud Hypervisor offers no choice.
    pub fn features(&self) -> Features {
        if self.vcpus.iter().any(SavedVcpu::has_sve) {
            Features::PMU | Features::SVE
        } else {
            Features::PMU
        }
    }

    /// Returns the VM in cpreg's model.
    ///
    /// # Errors
    /// - [`ErrorKind::Malformed`] if a register is stored twice.
    /// - [`ErrorKind::Unsupported`] for the form of core registers of versions before v39.
    pub fn vm(&self) -> Result<Vm, Error> {
        if !self.vcpus.iter().all(SavedVcpu::has_core_registers) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the core registers are in the form of Cloud Hypervisor before v39, which cpreg \
                 does not read",
            ));
        }
        let vcpus = self.vcpus.iter().map(SavedVcpu::to_model);
        Ok(Vm {
            vcpus: vcpus.collect::<Result<_, _>>()?,
            source_hardware: HardwareFacts {
                counter_frequency: self.counter_frequency,
                ..HardwareFacts::UNKNOWN
            },
        })
    }

    /// Returns the content of a `state.json` that holds the registers of `planned`.
    ///
    /// The method parses the result and compares it with `planned`.
    ///
    /// # Errors
    /// - [`ErrorKind::BadEdit`] if the snapshot cannot hold the planned registers.
    /// - [`ErrorKind::NotAsPlanned`] if the file does not encode to itself, or the result differs
    ///   from the plan.
    pub fn convert(&self, planned: &Vm) -> Result<Vec<u8>, Error> {
        let is_identical = self.encode(&self.vm()?)? == self.document;
        check_editable(STATE_FILE_NAME, is_identical, self.vcpus.len(), planned)?;
        let written = Self::parse(self.encode(planned)?.into_bytes())?;
        check_written(STATE_FILE_NAME, &written.vm()?, planned)?;
        Ok(written.document.into_bytes())
    }

    /// Returns the document with the registers of these vCPUs.
    fn encode(&self, planned: &Vm) -> Result<String, Error> {
        let mut replacements: Vec<(Range<usize>, String)> = Vec::new();
        let vcpus = self.states.iter().zip(&self.vcpus).zip(&planned.vcpus);
        for ((state, vcpu), planned) in vcpus {
            let text = vcpu.edit(&planned.registers)?;
            replacements.push((state.range.clone(), state.encode(&text)?));
        }
        // The members of an object can have any order.
        replacements.sort_by_key(|(range, _)| range.start);
        let mut document = String::with_capacity(self.document.len());
        let mut copied = 0;
        for (range, new) in replacements {
            document.push_str(&self.document[copied..range.start]);
            document.push_str(&new);
            copied = range.end;
        }
        document.push_str(&self.document[copied..]);
        Ok(document)
    }
}

/// Returns the states of the vCPUs in the order of their creation.
fn vcpu_states(root: &Node<'_>, document: &str) -> Result<Vec<ComponentState>, Error> {
    let manager = root
        .child(CPU_MANAGER)?
        .ok_or_else(|| malformed("state.json without a cpu-manager"))?;
    let mut numbered = Vec::new();
    for name in manager.snapshots.keys() {
        let number: u32 = name.parse().map_err(|_| malformed("the name of a vCPU"))?;
        let state = manager.child(name)?.map(|node| node.state(document));
        let state = state
            .transpose()?
            .flatten()
            .ok_or_else(|| malformed("a vCPU without state"))?;
        numbered.push((number, state));
    }
    if numbered.is_empty() {
        return Err(Error::new(ErrorKind::NoVm, "the snapshot has no vCPU"));
    }
    numbered.sort_by_key(|(number, _)| *number);
    Ok(numbered.into_iter().map(|(_, state)| state).collect())
}
