//! [`Warning`]: limits of Cloud Hypervisor itself that a snapshot meets.

use std::fmt;

use serde::Deserialize;

use super::document::Node;
use crate::error::Error;

/// Largest number of registers of a vCPU that Cloud Hypervisor lists (`RegList::new(500)`).
pub const MAX_LISTED_REGISTERS: usize = 500;

/// Limit or bug of Cloud Hypervisor that concerns a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// Form of `state.json` that was not tested with files of a real Cloud Hypervisor.
    UntestedForm,
    /// Form without members for the registers of SVE. A guest on a CPU with SVE loses its vectors.
    WithoutSve,
    /// Equal redistributor state of all vCPUs. Versions before the fix in 2026 (pull request 8638)
    /// save the first vCPU's state for all.
    EqualRedistributors,
    /// Queue of a virtio device that the guest never set up. A restore reads its used ring at
    /// address 0 and panics.
    QueueNotSetUp {
        /// Name of the device.
        device: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UntestedForm => f.write_str(
                "this form of state.json was not tested with files of a real Cloud Hypervisor",
            ),
            Self::WithoutSve => f.write_str(
                "the snapshot holds no SVE registers, which Cloud Hypervisor saves since v53; on a \
                 CPU with SVE the guest loses its vector registers",
            ),
            Self::EqualRedistributors => f.write_str(
                "all vCPUs have the same GIC redistributor state; Cloud Hypervisor before pull \
                 request 8638 (2026-07) saves the first vCPU's state for all, and the other vCPUs \
                 can lose interrupts after a restore",
            ),
            Self::QueueNotSetUp { device } => write!(
                f,
                "the guest never set up a queue of the device {device}; Cloud Hypervisor panics \
                 when it restores such a device"
            ),
        }
    }
}

/// Number of words of a vCPU in the first frame of the redistributor: CTLR, STATUSR, WAKER,
/// PROPBASER and PENDBASER.
const FIRST_FRAME_LEN: usize = 7;

#[derive(Deserialize)]
struct Transport {
    #[serde(default)]
    queues: Vec<Queue>,
}

#[derive(Deserialize)]
struct Queue {
    used_ring: u64,
}

/// Returns the devices with a queue that the guest never set up.
pub(super) fn find_unused_queues(root: &Node<'_>, document: &str) -> Result<Vec<Warning>, Error> {
    let Some(devices) = root.child("device-manager")? else {
        return Ok(Vec::new());
    };
    let mut warnings = Vec::new();
    for name in devices.snapshots.keys() {
        let Some(node) = devices.child(name)? else {
            continue;
        };
        let Some(state) = node.state(document)? else {
            continue;
        };
        // Other devices have no queues, or another form.
        let Ok(transport) = serde_json::from_str::<Transport>(&state.text) else {
            continue;
        };
        if transport.queues.iter().any(|queue| queue.used_ring == 0) {
            warnings.push(Warning::QueueNotSetUp {
                device: name.to_string(),
            });
        }
    }
    Ok(warnings)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GicState {
    kvm: Gic,
}

#[derive(Deserialize)]
struct Gic {
    rdist: Vec<u32>,
}

/// Returns `true` if all of several vCPUs have the same redistributor state.
pub(super) fn has_equal_redistributors(
    root: &Node<'_>,
    document: &str,
    vcpus: usize,
) -> Result<bool, Error> {
    let Some(devices) = root.child("device-manager")? else {
        return Ok(false);
    };
    let Some(gic) = devices.child("gic-v3-its")? else {
        return Ok(false);
    };
    let Some(state) = gic.state(document)? else {
        return Ok(false);
    };
    let Ok(gic) = serde_json::from_str::<GicState>(&state.text) else {
        return Ok(false);
    };
    Ok(vcpus > 1 && are_equal(&gic.kvm.rdist, vcpus))
}

/// Returns `true` if the redistributor registers of all vCPUs are equal.
///
/// The list holds the registers of the first frame for all vCPUs, and then those of the frame for
/// private interrupts.
fn are_equal(registers: &[u32], vcpus: usize) -> bool {
    let Some((first, second)) = registers.split_at_checked(FIRST_FRAME_LEN * vcpus) else {
        return false;
    };
    second.len() % vcpus == 0
        && [first, second].into_iter().all(|frame| {
            let length = frame.len() / vcpus;
            length > 0 && frame[length..] == frame[..frame.len() - length]
        })
}
