//! Part that needs KVM on arm64 Linux: a running VM, and its two ends of a migration.
//!
//! | file | content |
//! |---|---|
//! | [`machine`] | VM: memory, vCPUs, GICv3, PMU, in the order that KVM requires |
//! | [`run`] | threads that run vCPUs, and their stop |
//! | [`memory`] | memory of the guest, with dirty page tracking |
//! | [`gic`] | saving and loading of the GIC's state |
//! | [`vcpu_state`] | state of a vCPU that is not a register |
//! | [`source`] | the VM as a migration source |
//! | [`target`] | the VM as a migration target: cpreg decides, tries and loads |
//! | `failure` | failures of ioctls, by step |
//! | [`mod@bench`] | benchmark of a load |

pub mod bench;
mod failure;
pub mod gic;
pub mod machine;
pub mod memory;
pub mod run;
pub mod source;
pub mod target;
pub mod vcpu_state;
