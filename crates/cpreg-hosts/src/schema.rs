//! Schema names of cpreg's JSON documents.

use serde::Deserialize;

/// Member that every JSON document of cpreg has.
#[derive(Deserialize)]
struct Header {
    schema: String,
}

/// Returns the schema that a JSON document names, or `None` for invalid JSON or a document without
/// a schema.
pub fn parse_name(json: &[u8]) -> Option<String> {
    let header = serde_json::from_slice::<Header>(json).ok();
    header.map(|header| header.schema)
}

/// Returns `true` if the schema of a JSON document begins with `name` (`cpreg.report/`).
///
/// Recognises a truncated document too if cpreg wrote the document, because cpreg writes the schema
/// first.
pub fn has_prefix(json: &[u8], name: &str) -> bool {
    const SNIFF_LEN: usize = 64;
    if let Some(schema) = parse_name(json) {
        return schema.starts_with(name);
    }
    let beginning = &json[..json.len().min(SNIFF_LEN)];
    let mut windows = beginning.windows(name.len());
    windows.any(|window| window == name.as_bytes())
}
