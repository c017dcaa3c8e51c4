#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | file | content |
//! |---|---|
//! | [`policy`] | [`Policy`]: the user's decisions, made before the VMM starts |
//! | `policy_json` | the JSON document of a policy |
//! | `policy_text` | numbers and ids in that document, and its errors |
//! | `tolerance_json` | the operator's tolerances in that document |
//! | [`baseline`] | the document of settings with which a VM is born |
//! | `phase` | [`Phase`]: the phases of a vCPU, as a state machine |
//! | `list` | the list of registers that the VMM gets |
//! | `vcpu` | [`VcpuFilter`]: the phase, own, incoming and remembered values of one vCPU |
//! | [`vm`] | [`VmFilter`]: the calls of a VM |
//! | `settings` | settings with which a VM is born |
//! | [`event`] | [`Event`]: reports of a VM's filter |
//! | [`run_event`], [`run_status`] | the JSON documents of events, and of a process |
//! | `settle` | the plan of the VM, and the values that it changes |
//! | `judgement` | the plan for the incoming values |
//! | [`schemas`] | the JSON Schemas of the documents |
//! | [`refusal`] | [`Refusal`]: the registers that block the load, with reasons and remedies |
//!
//! The filter makes its calls through [`cpreg_kvm::Vcpu`]. It runs on every machine against
//! [`cpreg_kvm::recorded`] hosts. `cpreg-interpose` connects it to the calls of a process.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod event;
mod judgement;
mod list;
mod phase;
pub mod policy;
mod policy_json;
mod policy_text;
pub mod refusal;
pub mod run_event;
pub mod run_status;
pub mod schemas;
mod settings;
mod settle;
mod tolerance_json;
mod vcpu;
pub mod vm;

pub use baseline::Baseline;
pub use event::Event;
pub use phase::Phase;
pub use policy::{Candidate, GuestList, Policy};
pub use policy_text::PolicyError;
pub use refusal::Refusal;
pub use settings::VcpuUse;
pub use vcpu::VcpuFilter;
pub use vm::VmFilter;
