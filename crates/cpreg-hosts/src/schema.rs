//! Schema names of cpreg's JSON documents.

use serde::Deserialize;

/// The part that every document of cpreg has.
#[derive(Deserialize)]
struct Header {
    schema: String,
}

/// Returns the schema that a JSON document names, if it names one.
pub fn parse_name(json: &[u8]) -> Option<String> {
    let header = serde_json::from_slice::<Header>(json).ok();
    header.map(|header| header.schema)
}

/// Returns `true` if the schema of a JSON document begins with `name` (`cpreg.report/`).
///
/// A truncated document is recognised too if cpreg wrote it: the schema is at its start.
pub fn has_prefix(json: &[u8], name: &str) -> bool {
    const SNIFF_LEN: usize = 64;
    if let Some(schema) = parse_name(json) {
        return schema.starts_with(name);
    }
    let beginning = &json[..json.len().min(SNIFF_LEN)];
    let mut windows = beginning.windows(name.len());
    windows.any(|window| window == name.as_bytes())
}
