//! A report as one JSON document.

use serde::Serialize;

/// The document, a line end at its end.
///
/// # Errors
/// If JSON cannot hold it, which no report brings about.
pub fn document(report: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
