//! The members of the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::DocumentKind;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.host/1";

/// The document, as its errors name it.
pub(super) const DOCUMENT: DocumentKind = DocumentKind {
    name: "recorded host",
    schema: SCHEMA,
    other_version: "record the host again, or read it with the cpreg that wrote it",
};

#[derive(Deserialize)]
pub(super) struct File {
    pub(super) schema: String,
    pub(super) identity: IdentityFile,
    #[serde(default)]
    pub(super) capabilities: BTreeMap<String, i32>,
    pub(super) guests: Vec<GuestFile>,
    pub(super) registers: Vec<RegisterFile>,
    #[serde(default)]
    pub(super) writable: Vec<WritableFile>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct IdentityFile {
    pub(super) release: String,
    pub(super) version: String,
    pub(super) midr: String,
    pub(super) cpu: String,
    #[serde(default)]
    pub(super) mode: String,
    pub(super) emulated: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct GuestFile {
    pub(super) features: String,
    pub(super) tells_writable: bool,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RegisterFile {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at_reset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<u16>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) differs_by_vcpu: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) write_back: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) trials: Vec<TrialFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

/// Value, errno, and what was read, if that does not go without saying.
#[derive(Serialize, Deserialize)]
pub(super) struct TrialFile(
    pub(super) String,
    pub(super) u16,
    #[serde(default, skip_serializing_if = "Option::is_none")] pub(super) Option<String>,
);

#[derive(Serialize, Deserialize)]
pub(super) struct WritableFile {
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    pub(super) bits: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) guests: Option<Vec<String>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) const POISON: &str = "poison";
pub(super) const COUNTS: &str = "counts";
