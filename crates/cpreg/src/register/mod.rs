//! Registers: the ids that KVM and QEMU use, names, bit fields and values.
//!
//! | module | contents |
//! |---|---|
//! | `id` | [`RegisterId`]: the 64-bit id, encoded and decoded |
//! | `known` | constants for the registers that decisions use |
//! | [`name`] | names and printing of ids, and KVM's use of two swapped ids ([`Naming`]) |
//! | `number` | numbers and values as text |
//! | [`parse`] | parsing of every spelling of an id |
//! | `suggestion` | suggestions for unknown names |
//! | `purpose` | the purpose of a register, in a sentence |
//! | `family` | ID registers, PMU registers |
//! | [`field`] | [`Field`]: bits by name |
//! | `layout` | the fields of a register |
//! | `register_field` | [`RegisterField`]: a field of a particular register |
//! | `field_difference` | [`FieldDifference`]: differences between two values |
//! | `value_name` | names of values |
//! | `coprocessor` | [`CoprocessorRegister`]: the AArch32 registers that QEMU lists under TCG |
//! | `aarch32` | [`Counterpart`]: the AArch64 register with the same state |
//! | `sensitive` | registers that reveal the guest's data rather than its CPU |
//! | `value` | [`Value`]: a register's value |
//! | `tables` | names and fields, generated from the workspace's `data/` |
//!
//! [`crate::tolerance`] and [`crate::destination`] decide what values mean for a migration.

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
