//! Report of `key`, schema `cpreg.key/1`.

use cpreg::destination::Features;
use cpreg_fleet::KeyContent;
use cpreg_fleet::key::VERSION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::printer::Printer;

/// The schema's name and version.
pub const SCHEMA: &str = "cpreg.key/1";

/// Report of `cpreg key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct KeyReport {
    /// `"cpreg.key/1"`.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// Version of the scheme of the keys.
    pub scheme: u32,
    /// One key for each host.
    pub keys: Vec<NamedKey>,
}

/// Key of a host, for guests with some features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct NamedKey {
    /// Name of the host.
    pub host: String,
    /// Features of the guest.
    pub features: Vec<String>,
    /// The key.
    pub key: String,
    /// Lines whose digest is the key; absent unless they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl NamedKey {
    /// Creates the key of a host. `in_full` adds the lines.
    pub fn new(host: &str, features: Features, content: &KeyContent, in_full: bool) -> Self {
        let text = content.to_string();
        let lines = text.lines().filter(|_| in_full);
        Self {
            host: host.to_owned(),
            features: features.names().map(str::to_owned).collect(),
            key: content.key().to_string(),
            lines: lines.map(str::to_owned).collect(),
        }
    }
}

impl KeyReport {
    /// Creates the report.
    pub fn new(keys: Vec<NamedKey>) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            scheme: VERSION,
            keys,
        }
    }

    /// Prints the keys. The key of a single host is alone on its line, for scripts.
    pub fn print(&self, printer: &mut Printer) {
        for key in &self.keys {
            if self.keys.len() == 1 {
                printer.line(&key.key);
            } else {
                printer.line(format_args!("{}  {}", key.key, key.host));
            }
            for line in &key.lines {
                printer.line(format_args!("  {line}"));
            }
        }
    }
}
