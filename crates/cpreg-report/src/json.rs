//! A report as one JSON document.

use serde::Serialize;

/// Returns the report as an indented JSON document that ends with a line end.
///
/// # Errors
/// Returns an error if a value has no JSON form; the models of this crate always have one.
pub fn document(report: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
