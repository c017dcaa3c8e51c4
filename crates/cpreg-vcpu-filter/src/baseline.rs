//! [`Baseline`]: settings with which a VM is born, so that it can move among a set of hosts. The
//! document has the schema `cpreg.baseline/1`.
//!
//! ```json
//! {
//!   "schema": "cpreg.baseline/1",
//!   "hosts": ["linux-6.12.107/neoverse-n1", "linux-7.3.4/neoverse-n1"],
//!   "settings": [
//!     {"register": "PSCI_VERSION", "value": "0x10001"},
//!     {"register": "ID_AA64MMFR3_EL1", "field": "S1PIE", "value": "0x0"}
//!   ]
//! }
//! ```

use cpreg::plan::SetConsent;
use cpreg::register::{Naming, RegisterField, RegisterId, parse_u64};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Schema of the JSON document of a baseline.
pub const BASELINE_SCHEMA: &str = "cpreg.baseline/1";

/// Settings with which a VM is born.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// `"cpreg.baseline/1"`.
    #[schemars(extend("const" = BASELINE_SCHEMA))]
    schema: String,
    /// Names of the hosts among which the VM can move.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Settings, in the order in which they are made.
    pub settings: Vec<Setting>,
}

/// Value of a register or of one of its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Name or id of the register.
    pub register: String,
    /// Name of the field; absent for the whole register.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Number, decimal or hexadecimal.
    pub value: String,
}

/// Error in the document of a baseline.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The text is not JSON, or lacks a member.
    #[error("not a JSON document of {BASELINE_SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    /// The document has another schema.
    #[error("the schema is {0}; expected {BASELINE_SCHEMA}")]
    Schema(String),
    /// A setting names no register or field.
    #[error("`{0}` is not a register or field")]
    Name(String),
    /// A value is not a number, or has more bits than the field.
    #[error("`{value}` is not a value of {name}")]
    Value {
        /// Name of the register or field.
        name: String,
        /// Text of the value.
        value: String,
    },
}

impl Baseline {
    /// Returns a baseline with these settings.
    pub fn new(hosts: Vec<String>, settings: Vec<Setting>) -> Self {
        Self {
            schema: BASELINE_SCHEMA.to_owned(),
            hosts,
            settings,
        }
    }

    /// Reads the JSON document of a baseline.
    ///
    /// # Errors
    /// Returns an error for a document that is not a baseline, and for a setting that names no
    /// register.
    pub fn from_json(text: &str) -> Result<Self, BaselineError> {
        let baseline: Self = serde_json::from_str(text)?;
        if baseline.schema != BASELINE_SCHEMA {
            return Err(BaselineError::Schema(baseline.schema));
        }
        baseline.to_consents()?;
        Ok(baseline)
    }

    /// Returns the settings as changes of registers.
    ///
    /// # Errors
    /// Returns the first setting that names no register or field, or whose value does not fit.
    pub fn to_consents(&self) -> Result<Vec<SetConsent>, BaselineError> {
        self.settings.iter().map(Setting::to_consent).collect()
    }
}

impl Setting {
    fn name(&self) -> String {
        match &self.field {
            Some(field) => format!("{}.{field}", self.register),
            None => self.register.clone(),
        }
    }

    fn to_consent(&self) -> Result<SetConsent, BaselineError> {
        let name = self.name();
        let unknown = |_| BaselineError::Name(name.clone());
        let invalid = || BaselineError::Value {
            name: name.clone(),
            value: self.value.clone(),
        };
        let number = parse_u64(&self.value).map_err(|_| invalid())?;
        if self.field.is_none() {
            let register = RegisterId::parse_in(&self.register, Naming::Kvm).map_err(unknown)?;
            let bits = 8 * u32::try_from(register.size_bytes().unwrap_or(0)).unwrap_or(0);
            let fits = bits >= u64::BITS || number >> bits == 0;
            return fits
                .then_some(SetConsent {
                    register,
                    mask: u64::MAX,
                    value: number,
                })
                .ok_or_else(invalid);
        }
        let field = RegisterField::parse_in(&name, Naming::Kvm).map_err(unknown)?;
        Ok(SetConsent {
            register: field.id,
            mask: field.field.mask(),
            value: field.field.insert(0, number).ok_or_else(invalid)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(settings: &str) -> String {
        format!(r#"{{"schema":"{BASELINE_SCHEMA}","settings":[{settings}]}}"#)
    }

    #[test]
    fn settings_name_registers_and_fields() {
        let text = document(
            r#"{"register":"PSCI_VERSION","value":"0x10001"},
               {"register":"ID_AA64MMFR3_EL1","field":"S1PIE","value":"1"}"#,
        );
        let baseline = Baseline::from_json(&text).expect("a baseline");
        let consents = baseline.to_consents().expect("known registers");
        assert_eq!(consents[0].mask, u64::MAX);
        assert_eq!((consents[1].mask, consents[1].value), (0xf00, 0x100));
        let written = serde_json::to_string(&baseline).expect("JSON");
        assert_eq!(Baseline::from_json(&written).expect("a baseline"), baseline);
    }

    #[test]
    fn invalid_settings_are_errors() {
        for setting in [
            r#"{"register":"NO_SUCH_REGISTER","value":"1"}"#,
            r#"{"register":"ID_AA64MMFR3_EL1","field":"NONE","value":"1"}"#,
            r#"{"register":"ID_AA64MMFR3_EL1","field":"S1PIE","value":"0x10"}"#,
            r#"{"register":"PSCI_VERSION","value":"high"}"#,
            r#"{"register":"PSCI_VERSION"}"#,
        ] {
            assert!(
                Baseline::from_json(&document(setting)).is_err(),
                "{setting}"
            );
        }
        assert!(Baseline::from_json(r#"{"schema":"cpreg.host/2","settings":[]}"#).is_err());
    }
}
