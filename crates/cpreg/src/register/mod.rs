//! What a register is: the id KVM and QEMU use for it, its name, its bit fields, a value of it.
//!
//! What any register's value means for a migration does not live here; see
//! [`crate::tolerance`] and [`crate::destination`].

mod id;
mod value;

pub use id::RegisterId;
pub use value::Value;
