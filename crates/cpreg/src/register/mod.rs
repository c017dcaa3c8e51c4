//! What a register is: the id KVM and QEMU use for it, its name, its bit fields, a value of it.
//!
//! | module | what lives there |
//! |---|---|
//! | `id` | [`RegisterId`]: the 64-bit id, built and taken apart |
//! | `known` | constants for the registers that decisions name |
//! | [`name`] | what ids are called, how they print, and what KVM means by two ids ([`Naming`]) |
//! | `number` | numbers and values as text |
//! | [`parse`] | reading every spelling of an id |
//! | `suggestion` | what may have been meant by a name that is none |
//! | `purpose` | what a register is for, in a sentence |
//! | `family` | ID registers, performance monitors |
//! | [`field`] | [`Field`]: bits by name |
//! | `layout` | the fields of a register |
//! | `register_field` | [`RegisterField`]: a field of a particular register |
//! | `field_difference` | [`FieldDifference`]: what two values have not in common |
//! | `value_name` | names of values |
//! | `coprocessor` | [`Coprocessor`]: the AArch32 registers that QEMU lists under TCG |
//! | `aarch32` | [`Counterpart`]: the AArch64 register with the same state |
//! | `sensitive` | which registers tell about the guest and not about its CPU |
//! | `value` | [`Value`]: what a register holds |
//! | `tables` | names and fields, generated from the workspace's `data/` |
//!
//! What any register's value means for a migration does not live here; see
//! [`crate::tolerance`] and [`crate::destination`].

mod aarch32;
mod coprocessor;
mod family;
pub mod field;
mod field_difference;
mod id;
mod known;
mod layout;
pub mod name;
mod number;
pub mod parse;
mod purpose;
mod register_field;
mod sensitive;
mod suggestion;
mod tables;
mod value;
mod value_name;

pub use aarch32::Counterpart;
pub use coprocessor::CoprocessorRegister;
pub use field::Field;
pub use field_difference::{FieldDifference, differing_fields};
pub use id::{DecodedId, RegisterClass, RegisterId, SystemRegister};
pub use name::{DisplayRegisterId, Naming};
pub use number::{parse_hexadecimal, parse_u64};
pub use register_field::RegisterField;
pub use sensitive::REDACTED;
pub use value::Value;
