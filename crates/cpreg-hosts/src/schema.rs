//! What every JSON document of cpreg's says first: its schema.

use serde::Deserialize;

/// The part of every document that says what it is.
#[derive(Deserialize)]
struct Header {
    schema: String,
}

/// The schema that a JSON document names, if it is one that names any.
pub fn parse_name(json: &[u8]) -> Option<String> {
    let header = serde_json::from_slice::<Header>(json).ok();
    header.map(|header| header.schema)
}

/// Whether a JSON document says that its schema begins with `name` (`cpreg.report/`); also one that is cut off, if it is as we write it.
pub fn has_prefix(json: &[u8], name: &str) -> bool {
    const SNIFF_LEN: usize = 64;
    if let Some(schema) = parse_name(json) {
        return schema.starts_with(name);
    }
    let beginning = &json[..json.len().min(SNIFF_LEN)];
    let mut windows = beginning.windows(name.len());
    windows.any(|it| it == name.as_bytes())
}
