//! What a register is: the id KVM and QEMU use for it, its name, its bit fields, a value of it.
//!
//! | module | what lives there |
//! |---|---|
//! | `id` | [`RegisterId`]: the 64-bit id, built, taken apart, and what it belongs to |
//! | `known` | constants for the registers that decisions name |
//! | [`name`] | what ids are called, how they print, and what KVM means by two ids ([`Naming`]) |
//! | `number` | numbers and values as text |
//! | [`parse`] | reading every spelling of an id |
//! | `parse_error` | [`ParseRegisterError`]: what was not understood, and what is like it |
//! | `purpose` | what a register is for, in a sentence |
//! | [`field`] | [`Field`]: bits by name, differences of values, names of values |
//! | `aarch32` | [`Coprocessor`]: the AArch32 registers that QEMU lists under TCG |
//! | `sensitive` | which registers tell about the guest and not about its CPU |
//! | `value` | [`Value`]: what a register holds |
//! | `tables` | names and fields, generated from the workspace's `data/` |
//!
//! What any register's value means for a migration does not live here; see
//! [`crate::tolerance`] and [`crate::destination`].

mod aarch32;
pub mod field;
mod id;
mod known;
pub mod name;
mod number;
pub mod parse;
mod parse_error;
mod purpose;
mod sensitive;
mod tables;
mod value;

pub use aarch32::{Coprocessor, Counterpart};
pub use field::{Field, FieldDifference, RegisterField, differing_fields};
pub use id::{DecodedId, RegisterClass, RegisterId, SystemRegister};
pub use name::{DisplayRegisterId, Naming};
pub use number::{parse_hexadecimal, parse_u64};
pub use parse_error::{ParseRegisterError, ParseRegisterErrorKind};
pub use sensitive::BLANKED;
pub use value::Value;
