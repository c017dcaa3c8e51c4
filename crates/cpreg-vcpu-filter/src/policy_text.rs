//! Numbers and ids in the document of a policy, and its errors.

use cpreg::register::{RegisterId, parse_hexadecimal};

/// Schema of the JSON document of a policy.
pub(crate) const POLICY_SCHEMA: &str = "cpreg.run-policy/1";

/// Error in the document of a policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not JSON, or lacks a member.
    #[error("the policy is not a JSON document of {POLICY_SCHEMA}: {0}")]
    Json(#[from] serde_json::Error),
    /// The document has another schema.
    #[error("the policy has the schema {0}; this library reads {POLICY_SCHEMA}")]
    Schema(String),
    /// A member has an invalid text.
    #[error("the policy's member {member} has the invalid text `{text}`")]
    Member {
        /// Name of the member.
        member: &'static str,
        /// Text of the member.
        text: String,
    },
}

pub(crate) fn id_text(id: RegisterId) -> String {
    format!("{:#018x}", id.raw())
}

pub(crate) fn parse_number(member: &'static str, text: &str) -> Result<u64, PolicyError> {
    parse_hexadecimal(text).ok_or_else(|| PolicyError::Member {
        member,
        text: text.to_owned(),
    })
}

pub(crate) fn parse_id(member: &'static str, text: &str) -> Result<RegisterId, PolicyError> {
    parse_number(member, text).map(RegisterId::from_raw)
}

pub(crate) fn parse_ids(
    member: &'static str,
    texts: &[String],
) -> Result<Vec<RegisterId>, PolicyError> {
    texts.iter().map(|text| parse_id(member, text)).collect()
}
