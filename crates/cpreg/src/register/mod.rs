//! What a register is: the id KVM and QEMU use for it, its name, its bit fields, a value of it.
//!
//! | module | what lives there |
//! |---|---|
//! | `id` | [`RegisterId`]: the 64-bit id, built, taken apart, and what it belongs to |
//! | `known` | constants for the registers that decisions name |
//! | `aarch32` | [`Coprocessor`]: the AArch32 registers that QEMU lists under TCG |
//! | `value` | [`Value`]: what a register holds |
//!
//! What any register's value means for a migration does not live here; see
//! [`crate::tolerance`] and [`crate::destination`].

mod aarch32;
mod id;
mod known;
mod value;

pub use aarch32::Coprocessor;
pub use id::{DecodedId, RegisterClass, RegisterId, SystemRegister};
pub use value::Value;
