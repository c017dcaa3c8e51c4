//! The model of `tolerances`, schema `cpreg.tolerances/2`: all that an entry says, so that a
//! program can read it back.
//!
//! `handling` and `condition` in words stand beside what is a program's to read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{Accelerator, Difference, RegisterClass, Severity, ToleranceHandling};
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.tolerances/2";

/// Answer of `cpreg tolerances`, and of `cpreg tolerances --export json`, which is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TolerancesReport {
    /// `"cpreg.tolerances/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// The entries, in the order in which they are asked.
    pub tolerances: Vec<ToleranceEntry>,
}

/// An entry of the table of tolerances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ToleranceEntry {
    /// Place in the table, operators' entries first; `decisions[].tolerance` of `cpreg.check/2`
    /// refers to it.
    pub number: usize,
    /// The registers, by name; for a class of registers the name of the class.
    pub registers: Vec<String>,
    /// Ids of the registers; empty for a class.
    pub ids: Vec<Id>,
    /// Null, or the class: `"cache-sizes"` (every slot of CCSIDR_EL1), `"performance-monitors"` (of
    /// FEAT_PMUv3), `"implementation-defined"` (system registers with CRn 15; AArch32 ones with CRn
    /// 15, or 64 bits wide with CRm 15), `"reserved-aarch32"` (nameless AArch32 registers of cp15
    /// with CRn 0, 32 bits wide).
    pub class: Option<RegisterClass>,
    /// The accelerator under which it holds; null: any.
    pub accelerator: Option<Accelerator>,
    /// Kind of register.
    pub category: String,
    /// `"only-in-input"`, `"only-at-destination"` or `"value-not-taken"`.
    pub difference: Difference,
    /// `"ignore"`, `"keep-at-reset"`, `"set"`, `"set-to-nearest"` (the nearest value that the
    /// destination takes) or `"refuse"`.
    pub handling: ToleranceHandling,
    /// For `"set"` the value that is written instead, else null.
    pub value: Option<Hex>,
    /// The condition, in words; empty: always. If it does not hold the VM is refused.
    pub condition: String,
    /// The same for programs; an object whose other members depend on its kind.
    pub when: TypedCondition,
    /// The reason, in words.
    pub reason: String,
    /// Advice where it does not hold, or null.
    pub advice: Option<String>,
    /// Change that the guest could notice, or null.
    pub visible_effect: Option<String>,
    /// Severity of that change, or null.
    pub severity: Option<Severity>,
    /// Kernels and QEMUs that made it so.
    pub history: Vec<HistoryEntry>,
    /// `true` if it comes from a file of the user's.
    pub is_operator_entry: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum TypedCondition {
    /// no condition.
    Always,
    /// the register's value in the bits of `mask` is `expected`.
    Value {
        /// The bits that are looked at.
        mask: Hex,
        /// Their value.
        expected: Hex,
    },
    /// another register of the same vCPU has that value, or is not there.
    OtherRegister {
        /// The other register, by name.
        register: String,
        /// Id of that register.
        id: Id,
        /// The bits that are looked at.
        mask: Hex,
        /// Their value.
        expected: Hex,
    },
    /// a four-bit field of an ID register of the VM's own is 0.
    WithoutFeature {
        /// The ID register, by name.
        register: String,
        /// Id of that register.
        id: Id,
        /// The ID register's field.
        field: String,
        /// The field's lowest bit.
        lsb: u8,
        /// The condition that is looked at besides, where the VM had the feature and the user's own
        /// changes take it away; an object like `when`.
        unused: Box<Self>,
    },
    /// CLIDR_EL1 lacks the cache of the slot.
    NoSuchCache,
    /// the destination has no performance monitors, and all of the VM hold what they held at reset.
    MonitorsUnused,
    /// the two values differ in the bits of `mask` at most.
    DiffersIn {
        /// The bits that are looked at.
        mask: Hex,
    },
    /// two conditions.
    Both {
        /// The two, objects like `when`.
        conditions: [Box<Self>; 2],
    },
}

/// A change of a kernel or a QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The first release with it: `"v6.13"` of Linux, `"QEMU 11.1"`.
    pub release: String,
    /// The commit; may be empty.
    pub commit: String,
    /// The change, in words.
    pub description: String,
}
