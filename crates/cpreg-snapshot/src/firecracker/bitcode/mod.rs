//! Layout of snapshot version 10.0.0, which Firecracker 1.16 writes in the format of [`bitcode`].
//!
//! The format describes nothing. All values of one field lie together in a column, and the columns
//! follow each other in the order in which the serialiser first reaches them. So the types here
//! mirror every field of Firecracker's state, in order. Names do not matter to the format.
//!
//! A state is proven to have this layout if encoding the decoded state yields the same bytes.
//! [`decode`] checks that.
//!
//! Source: Firecracker v1.16.1, `src/vmm/src/persist.rs` and the types that `MicrovmState`
//! contains; vm-allocator 0.1.3; kvm-bindings 0.14.0.

mod devices;
mod memory;

use serde::{Deserialize, Serialize};

use self::devices::Devices;
use self::memory::{Allocators, Memory};
use super::vcpu::SavedVcpu;
use crate::error::{Error, ErrorKind};

/// Snapshot with its header, without its checksum.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct State {
    header: Header,
    vm: VmInfo,
    kvm: Kvm,
    memory_and_gic: VmState,
    vcpus: Vec<VcpuState>,
    devices: Devices,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    magic: u64,
    version: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct VmInfo {
    memory_size: u64,
    has_smt: bool,
    template: CpuTemplate,
    boot: BootSource,
    huge_pages: HugePages,
}

#[derive(Debug, Deserialize, Serialize)]
enum CpuTemplate {
    V1N1,
    None,
}

#[derive(Debug, Deserialize, Serialize)]
struct BootSource {
    kernel: String,
    initrd: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
enum HugePages {
    None,
    TwoMegabytes,
}

#[derive(Debug, Deserialize, Serialize)]
struct Kvm {
    /// Capabilities, each a number that may begin with `!`.
    capabilities: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct VmState {
    memory: Memory,
    gic: GicState,
    allocators: Allocators,
}

#[derive(Debug, Deserialize, Serialize)]
struct GicState {
    distributor: Vec<Chunks<u32>>,
    vcpus: Vec<GicVcpu>,
    its: Option<Its>,
}

#[derive(Debug, Deserialize, Serialize)]
struct GicVcpu {
    redistributor: Vec<Chunks<u32>>,
    interface: GicInterface,
}

#[derive(Debug, Deserialize, Serialize)]
struct GicInterface {
    main: Vec<Chunks<u64>>,
    active_priorities: Vec<Option<Chunks<u64>>>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Chunks<Register> {
    chunks: Vec<Register>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Its {
    iidr: u64,
    cbaser: u64,
    creadr: u64,
    cwriter: u64,
    baser: [u64; 8],
    ctlr: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct VcpuState {
    mp_state: Vec<u8>,
    registers: (Vec<u64>, Vec<u8>),
    mpidr: u64,
    init: Vec<u8>,
    pvtime: Option<u64>,
}

/// Decodes a state, and encodes the result again to prove the layout.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the bytes do not have this layout.
pub(super) fn decode(bytes: &[u8]) -> Result<State, Error> {
    let state: State = bitcode::deserialize(bytes).map_err(|error| {
        unknown_layout("the state does not have the layout of snapshot version 10.0.0")
            .with_source(error)
    })?;
    if state.encode()? == bytes {
        Ok(state)
    } else {
        Err(unknown_layout(
            "encoding the decoded state does not yield the same bytes",
        ))
    }
}

fn unknown_layout(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
        .with_hint("edit the file with snapshot-editor of the Firecracker that wrote it")
}

impl State {
    /// Encodes the state.
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        bitcode::serialize(self).map_err(|error| {
            Error::new(ErrorKind::Unsupported, "cannot encode the state").with_source(error)
        })
    }

    /// Returns the vCPUs.
    pub(super) fn vcpus(&self) -> Result<Vec<SavedVcpu>, Error> {
        let vcpus = self.vcpus.iter();
        vcpus
            .map(|vcpu| {
                SavedVcpu::from_parts(
                    &vcpu.mp_state,
                    vcpu.registers.0.clone(),
                    vcpu.registers.1.clone(),
                    &vcpu.init,
                )
            })
            .collect()
    }

    /// Replaces the registers of the vCPUs.
    pub(super) fn set_registers<'v>(&mut self, vcpus: impl Iterator<Item = &'v SavedVcpu>) {
        for (state, vcpu) in self.vcpus.iter_mut().zip(vcpus) {
            state.registers = (vcpu.ids().to_vec(), vcpu.data().to_vec());
        }
    }
}
