//! Model of `tolerances`, schema `cpreg.tolerances/2`: complete entries, which a program can read
//! back.
//!
//! `condition` is the condition in words, and `when` the same condition for programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{Accelerator, Difference, RegisterClass, Severity, ToleranceHandling};
use crate::scalar::{Hex, Id};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.tolerances/2";

/// Report of `cpreg tolerances`, and of `cpreg tolerances --export json`, which is the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct TolerancesReport {
    /// `"cpreg.tolerances/2"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Entries; the first entry for a register and difference decides.
    pub tolerances: Vec<ToleranceEntry>,
}

/// An entry of the table of tolerances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ToleranceEntry {
    /// Number in the table, operators' entries first; `decisions[].tolerance` of `cpreg.check/2`
    /// refers to it.
    pub number: usize,
    /// Names of the registers, or the name of the class of registers.
    pub registers: Vec<String>,
    /// Ids of the registers; empty for a class.
    pub ids: Vec<Id>,
    /// Class of registers, or null: `"cache-sizes"` (every slot of CCSIDR_EL1),
    /// `"performance-monitors"` (of FEAT_PMUv3), `"implementation-defined"` (system registers with
    /// CRn 15; AArch32 ones with CRn 15, or 64 bits wide with CRm 15), `"reserved-aarch32"`
    /// (nameless AArch32 registers of cp15 with CRn 0, 32 bits wide).
    pub class: Option<RegisterClass>,
    /// Accelerator of the entry; null for any.
    pub accelerator: Option<Accelerator>,
    /// Category of the entry.
    pub category: String,
    /// `"source-only"`, `"destination-only"`, `"value-not-accepted"` or `"other-id"` (one side
    /// lists the register under this id, which is wrong).
    pub difference: Difference,
    /// `"ignore"`, `"keep-at-reset"`, `"set"`, `"set-to-nearest"` (the nearest value that the
    /// destination accepts), `"rename"` (the destination's id is used) or `"refuse"`.
    pub handling: ToleranceHandling,
    /// Value that is written for `"set"`, else null.
    pub value: Option<Hex>,
    /// Correct id of the register for `"rename"`; else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct_id: Option<Id>,
    /// Condition, in words; empty for always. If the condition is false, the VM is refused.
    pub condition: String,
    /// Condition for programs: an object whose other members depend on its kind.
    pub when: TypedCondition,
    /// Reason, in words.
    pub reason: String,
    /// Advice for a refused VM, or null.
    pub advice: Option<String>,
    /// Change that the guest could notice, or null.
    pub visible_effect: Option<String>,
    /// Severity of that change, or null.
    pub severity: Option<Severity>,
    /// Changes of kernels and QEMU that the entry is based on.
    pub history: Vec<HistoryEntry>,
    /// `true` if the entry comes from a file of the user.
    pub is_operator_entry: bool,
    /// File with the entry; absent for a built-in entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Number of the entry in the file, from 1; absent for a built-in entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_entry: Option<usize>,
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
        /// Bits that are compared.
        mask: Hex,
        /// Value of these bits.
        expected: Hex,
    },
    /// another register of the same vCPU has that value, or does not exist.
    OtherRegister {
        /// Name of the other register.
        register: String,
        /// Id of that register.
        id: Id,
        /// Bits that are compared.
        mask: Hex,
        /// Value of these bits.
        expected: Hex,
    },
    /// a four-bit field of an ID register of the VM is 0.
    WithoutFeature {
        /// Name of the ID register.
        register: String,
        /// Id of that register.
        id: Id,
        /// Field of the ID register.
        field: String,
        /// Lowest bit of the field.
        lsb: u8,
        /// Additional condition for a VM that had the feature before the user's changes removed it;
        /// an object like `when`.
        unused: Box<Self>,
    },
    /// CLIDR_EL1 lacks the cache of the slot.
    NoSuchCache,
    /// the destination has no performance monitors, and those of the VM have their reset values.
    MonitorsUnused,
    /// the two values differ only in the bits of `mask`.
    DiffersIn {
        /// Bits that are compared.
        mask: Hex,
    },
    /// both conditions are true.
    Both {
        /// The two conditions, objects like `when`.
        conditions: [Box<Self>; 2],
    },
}

/// A change of the kernel or of QEMU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The first release with the change: `"v6.13"` of Linux, `"QEMU 11.1"`.
    pub release: String,
    /// Commit; may be empty.
    pub commit: String,
    /// Change, in words.
    pub description: String,
}
