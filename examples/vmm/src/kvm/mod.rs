//! The part that needs KVM on Linux on arm64: a VM that runs, and its two ends of a migration.
//!
//! | file | what lives there |
//! |---|---|
//! | [`machine`] | the VM: memory, vCPUs, GICv3, PMU, in the order in which KVM wants them made |
//! | [`run`] | threads that run vCPUs, and how they are stopped |
//! | [`memory`] | the guest's memory, and which of it was written |
//! | [`gic`] | the GIC's state, out of KVM and into it |
//! | [`vcpu_state`] | a vCPU's state that is no register |
//! | [`source`] | the VM as one that goes |
//! | [`target`] | a VM as one that comes: cpreg decides, tries and loads |
//! | `failure` | failures of ioctls |
//! | [`mod@bench`] | how long a load takes |

pub mod bench;
mod failure;
pub mod gic;
pub mod machine;
pub mod memory;
pub mod run;
pub mod source;
pub mod target;
pub mod vcpu_state;
