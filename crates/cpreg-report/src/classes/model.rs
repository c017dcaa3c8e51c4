//! Model of `classes`, schema `cpreg.classes/1`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.classes/1";

/// Report of `cpreg classes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ClassesReport {
    /// `"cpreg.classes/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Classes for each set of features.
    pub features: Vec<FeatureClasses>,
}

/// Classes of hosts for guests with some features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct FeatureClasses {
    /// Features of the guests.
    pub features: Vec<String>,
    /// Classes, in the order of their first hosts.
    pub classes: Vec<ClassReport>,
    /// Hosts that were not recorded for such guests.
    pub not_recorded: Vec<String>,
}

/// Hosts that are the same for what decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct ClassReport {
    /// Key of the hosts, as `cpreg key` prints it.
    pub key: String,
    /// Names of the hosts.
    pub hosts: Vec<String>,
    /// Symbol of a new VM of this class at each class, in their order; the symbols are those of
    /// [`cpreg.matrix/1`](#cpregmatrix1).
    pub moves_to: Vec<String>,
    /// Difference from the class before it; null for the first class.
    pub boundary: Option<Boundary>,
}

/// Difference between two classes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct Boundary {
    /// Registers that only the earlier class lists.
    pub removed: Vec<String>,
    /// Registers that only the later class lists.
    pub added: Vec<String>,
    /// Registers with another initial value.
    pub values: Vec<String>,
    /// Registers that accept other values.
    pub accepted: Vec<String>,
    /// Registers that an ID field hides on only one of them, or hides otherwise.
    pub gates: Vec<String>,
    /// Other parts of the key that differ: `"counter-frequency"`, `"rules"`.
    pub facts: Vec<String>,
}
